"""Is a rationale any good: checks of single texts, reasons to reject them, figures for the report.

All of it works on words and needs no model. What it cannot tell is whether a rationale is true.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from understudy.data.mentions import folded, is_right, mentioned
from understudy.data.tasks import split_answer, wrong_places
from understudy.knowledge import steps as _steps  # noqa: F401  (registers them)
from understudy.knowledge.near_duplicates import NearDuplicates
from understudy.knowledge.step import is_rationale
from understudy.knowledge.votes import stated, votes
from understudy.recipe.knowledge import FilterConfig
from understudy.types import Example, Knowledge

COUNTERFACTUAL = "counterfactual"

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


def restated(text: str, *given: str) -> float:
    """Share of a text's content words that stand in the given texts; 1 where it has no content words at all.

    Words are compared as they are written: an inflected form is a word of its own.
    """
    content = [word for word in words(text) if word not in FUNCTION_WORDS]
    known = {word for each in given for word in words(each)}
    return sum(word in known for word in content) / len(content) if content else 1.0


@dataclass(frozen=True, slots=True)
class Checks:
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


def check(row: Knowledge, example: Example) -> Checks:
    """Count what a text has; one that was never written has nothing.

    Args:
        row: of whatever step.
        example: the row's, with choices and gold answer.
    """
    text, _ = split_answer(row.text or "")
    answers = _argued_for(row, example)
    # With the answers among them, an option inside an answer is not taken for a mention of the option.
    options = tuple(dict.fromkeys((*example.choices, *answers)))
    named = {folded(options[place]) for place in mentioned(text, options)}
    own = {folded(answer) for answer in answers}
    said = stated(row)
    return Checks(
        words=len(words(text)),
        restates=restated(text, example.question, *answers),
        names_answer=bool(named & own),
        distractors=len(named & ({folded(choice) for choice in example.choices} - own)),
        leads_to_gold=is_right(said, example) if said and example.labelled else None,
    )


def _argued_for(row: Knowledge, example: Example) -> tuple[str, ...]:
    """The answers that a text speaks for; all options that read like the gold one are the gold one."""
    if row.choice is not None and 0 <= row.choice < len(example.choices):
        return (example.choices[row.choice],)
    wrong = set(wrong_places(example))
    right = [choice for place, choice in enumerate(example.choices) if place not in wrong] if example.labelled else []
    return (*example.answers, *right)


class Filter:
    """Decides which texts are kept, example by example, in the order in which examples come.

    Judged are rationales and counterfactuals. Critiques, answers and whatever else are means to an end and stay.
    """

    def __init__(self, config: FilterConfig) -> None:
        """Start with no text seen.

        Args:
            config: what is rejected.
        """
        self._config = config
        self._seen: dict[str, NearDuplicates] = {}

    def apply(self, example: Example, rows: Sequence[Knowledge]) -> list[Knowledge]:
        """All rows of one example, judged again: reasons that this filter gave before are replaced.

        The steps `answer` and `explain_blind` among the rows are the evidence on what the teacher makes of a
        rationale, so an example's rows must come together.
        """
        return [self._judged(row, example, rows) for row in rows]

    def _judged(self, row: Knowledge, example: Example, rows: Sequence[Knowledge]) -> Knowledge:
        if row.text is None or not is_judged(row):
            return row
        found = [reason for reason in row.reasons if reason.split(":")[0] not in REASONS]
        found += reasons(row, example, self._config, rows)
        if not found and self._config.near_duplicate is not None:
            seen = self._seen.setdefault(row.step, NearDuplicates(self._config.near_duplicate))
            earlier = seen.add(row.id, split_answer(row.text)[0])
            found += [] if earlier is None else [f"near-duplicate: of {earlier}"]
        return dataclasses.replace(row, reasons=tuple(found))


def is_judged(row: Knowledge) -> bool:
    """Whether a row is a rationale or a counterfactual."""
    return is_rationale(row.step) or row.step == COUNTERFACTUAL


REASONS = ("empty", "short", "long", "restates", "answer", "votes", "near-duplicate")
"""What stands before the colon of a reason that is given here."""


def reasons(row: Knowledge, example: Example, config: FilterConfig, rows: Iterable[Knowledge] = ()) -> tuple[str, ...]:
    """Why a text is not to be learned from, all but near-duplicates, which only `Filter` can tell; empty: it may be.

    Each reason is a word of `REASONS`, a colon and a clause with the figure.

    Args:
        row: a rationale or a counterfactual with its text.
        example: the row's.
        config: the limits.
        rows: the other rows of the example, as evidence; where a limit has no evidence it rejects nothing.
    """
    checks = check(row, example)
    if not checks.words:
        return ("empty: there is no word in it",)
    found = []
    if checks.words < config.min_words:
        found.append(f"short: {checks.words} words, fewer than {config.min_words}")
    if config.max_words is not None and checks.words > config.max_words:
        found.append(f"long: {checks.words} words, more than {config.max_words}")
    if config.restates is not None and checks.restates >= config.restates:
        found.append(f"restates: {checks.restates:.2f} of its words are the question's and the answer's")
    return (*found, *_by_answers(row, example, config, list(rows)))


def _by_answers(row: Knowledge, example: Example, config: FilterConfig, rows: list[Knowledge]) -> Iterator[str]:
    """Reasons that the teacher's own answers give."""
    if not example.labelled:
        return
    counted = votes(rows, example)
    if config.leads_to_answer and row.choice is None:
        leads, source = _leads(row, example, rows)
        if leads is False:
            yield f"answer: {source} is not the gold one"
    if counted.num and counted.right_share < config.min_votes:
        yield f"votes: {counted.right} of {counted.num} for the gold answer"


def _leads(row: Knowledge, example: Example, rows: list[Knowledge]) -> tuple[bool | None, str]:
    """Whether the teacher gets from a rationale to the gold answer, and by which evidence.

    The text's own answer counts first, then the majority of the answers that were asked for with a rationale at hand,
    then the answer of a rationale for which the gold answer was hidden.
    """
    own = stated(row)
    if own is not None:
        return is_right(own, example), "its own answer"
    counted = votes(rows, example)
    if counted.num:
        return counted.majority is not None and is_right(counted.majority, example), "the teacher's answer"
    blind = [said for other in rows if other.step == "explain_blind" and (said := stated(other)) is not None]
    return (is_right(blind[-1], example) if blind else None), "the teacher's answer without help"


def filtered(
    groups: Iterable[tuple[Example, Sequence[Knowledge]]], config: FilterConfig
) -> Iterator[tuple[Example, list[Knowledge]]]:
    """`Filter.apply` along a stream of examples with their rows."""
    one = Filter(config)
    for example, rows in groups:
        yield example, one.apply(example, rows)


def by_example(rows: Iterable[Knowledge], examples: Iterable[Example]) -> Iterator[tuple[Example, list[Knowledge]]]:
    """Rows put to their examples, in the order of the examples; rows of no example are left out."""
    examples = list(examples)
    found: dict[str, list[Knowledge]] = {example.id: [] for example in examples}
    for row in rows:
        if row.id in found:
            found[row.id].append(row)
    for example in examples:
        yield example, found[example.id]
