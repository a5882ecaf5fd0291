"""What can be counted in one text: words, restatement, options named, the answer it comes to."""

from __future__ import annotations

import re
from dataclasses import dataclass

from understudy.data.option_mentions import folded, is_right, mentioned
from understudy.data.tasks import split_answer, wrong_places
from understudy.knowledge.votes import stated_answer
from understudy.types import Example, Knowledge

_WORD = re.compile(r"\w+(?:['’]\w+)*")

_FUNCTION_WORDS = (
    "a about above after all also although am an and any are as at be because been before being below between both but "
    "by can could did do does doing done each either else every few for from had has have having he her here hers him "
    "his how i if in into is it its itself just may me might more most much must my neither no nor not of off on once "
    "one only onto or other others our ours out over own same shall she should since so some something such than that "
    "the their theirs them themselves then there therefore these they this those though through thus to too under "
    "until up upon us very was we were what when where whether which while who whom whose why will with within without "
    "would yet you your yours"
)
FUNCTION_WORDS = frozenset(_FUNCTION_WORDS.split())
"""Words that carry no content of their own. English; in another language every word counts as one of content."""


def words(text: str) -> list[str]:
    """The words of a text without case; an apostrophe inside a word belongs to it."""
    return _WORD.findall(text.casefold())


def restated(text: str, *sources: str) -> float:
    """Share of a text's content words that stand in the given texts; 1 where it has no content words at all.

    Words are compared as they are written: an inflected form is a word of its own.
    """
    content = [word for word in words(text) if word not in FUNCTION_WORDS]
    source_words = {word for source in sources for word in words(source)}
    return sum(word in source_words for word in content) / len(content) if content else 1.0


@dataclass(frozen=True, slots=True)
class TextChecks:
    """What can be counted in one text; a mark and the answer behind it are looked at for `leads_to_gold` only.

    Attributes:
        words: how many it has.
        restates: share of its content words that are the question's and those of the answer it argues for.
        names_answer: whether it names the answer it argues for: the gold one, or a counterfactual's own.
        distractors: how many other options it names; options that read alike are one.
        leads_to_gold: whether the answer it states is the gold one; None where it states none, or none is known.
    """

    words: int
    restates: float
    names_answer: bool
    distractors: int
    leads_to_gold: bool | None


def check_text(row: Knowledge, example: Example) -> TextChecks:
    """Count what a text has; one that was never written has nothing.

    Args:
        row: of whatever step.
        example: the row's, with choices and gold answer.
    """
    text, _ = split_answer(row.text or "")
    answers = _argued_for(row, example)
    # With the answers among them, an option inside an answer is not taken for a mention of the option.
    options = tuple(dict.fromkeys((*example.choices, *answers)))
    named_options = {folded(options[place]) for place in mentioned(text, options)}
    argued_for = {folded(answer) for answer in answers}
    stated = stated_answer(row)
    return TextChecks(
        words=len(words(text)),
        restates=restated(text, example.question, *answers),
        names_answer=bool(named_options & argued_for),
        distractors=len(named_options & ({folded(choice) for choice in example.choices} - argued_for)),
        leads_to_gold=is_right(stated, example) if stated and example.labelled else None,
    )


def _argued_for(row: Knowledge, example: Example) -> tuple[str, ...]:
    """The answers that a text speaks for; all options that read like the gold one are the gold one."""
    if row.choice is not None and 0 <= row.choice < len(example.choices):
        return (example.choices[row.choice],)
    wrong = set(wrong_places(example))
    right = [choice for place, choice in enumerate(example.choices) if place not in wrong] if example.labelled else []
    return (*example.answers, *right)
