"""Explanations composed from facts: what a person could write about the rows of `embedded:telecom-choices`.

```text
explanation      the fact, and what else the knowledge base knows of its subject or its answer
critique         what an explanation lacks: it does not tell the choices apart, it names no source
revision         the explanation, what each other choice really belongs to, and the source where that was missed
counterfactual   the fact as it would read with a wrong choice, and something true about that choice
```

Every sentence is a wording of a fact of the knowledge base (with the wrong answer in the counterfactual's first one)
or one of the frames below. Texts depend on the row alone. They are short, for models that read 512 tokens at most.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from understudy.data.embedded.telecom.choices import choice_facts, facts_of
from understudy.data.embedded.telecom.knowledge import Fact, load_relations
from understudy.data.embedded.telecom.questions import core_facts
from understudy.data.embedded.telecom.statements import seed_facts
from understudy.data.option_mentions import mentioned
from understudy.data.tasks import with_answer, wrong_places
from understudy.types import Example

DEMONSTRATED = 0.4
LONGEST, LONGEST_REVISION, LONGEST_OF_ALL = 150, 235, 290
"""In characters, which every tokenizer counts alike; a sentence that would pass it is left out or said more shortly."""
SOURCES = ("This is defined in {spec}.", "The source is {spec}.", "See {spec}.")
CONTRAST_FAULTS = (
    "It does not differentiate {answer} from the other choices: {others}.",
    "It does not say why the other choices are wrong: {others}.",
    "It says nothing about the other choices, {others}.",
)
SOURCE_FAULTS = ("It is not complete: the source is missing.", "It also does not name the source.")
NO_FAULT = "It names what is right and what the other choices are."
NOTHING_ELSE = "None of the other choices fits."
PAIRINGS = ("{answer} belongs to {subject}", "{answer} goes with {subject}")


def explanation(example: Example) -> str:
    """Why the right option is right: its fact, and another fact about its subject or its answer.

    Where the knowledge base knows nothing else that fits, the source of the fact stands there instead.

    Raises:
        ValueError: the row is none of `embedded:telecom-choices`, or is unlabelled.
    """
    fact, _ = _facts(example)
    draw = random.Random(f"explanation:{example.id}")
    first = _state(fact, draw)
    others = [choice for choice in example.choices if choice != fact.answer]
    more = _more(fact, fact.answer, first, others, draw) or _elsewhere(fact, others, draw)
    return f"{first} {more or _source(fact.spec, draw)}"


def critique(example: Example, rationale: str) -> str:
    """What a rationale of this row lacks, in one line: contrast with choices that it does not name, its source.

    Raises:
        ValueError: as in `explanation`.
    """
    fact, _ = _facts(example)
    draw = random.Random(f"critique:{example.id}")
    missing, unsourced = _faults(example, rationale)
    names = _enumerate([example.choices[place] for place in missing])
    faults = [draw.choice(CONTRAST_FAULTS).format(answer=fact.answer, others=names)] if missing else []
    faults += [draw.choice(SOURCE_FAULTS)] if unsourced else []
    return " ".join(faults) or NO_FAULT


def revision(example: Example, rationale: str) -> str:
    """The rationale with what `critique` misses: what each unnamed choice really belongs to, and the source.

    Raises:
        ValueError: as in `explanation`.
    """
    fact, options = _facts(example)
    draw = random.Random(f"revision:{example.id}")
    missing, unsourced = _faults(example, rationale)
    source = f" {_source(fact.spec, draw)}" if unsourced else ""
    room = LONGEST_REVISION - len(rationale) - len(source) - 1
    contrast = _contrast([options[place] for place in missing], room, draw)
    revised = f"{rationale} {contrast}".strip()
    return revised + source if len(revised + source) <= LONGEST_OF_ALL else revised


def counterfactual(example: Example, choice: int) -> str:
    """Why a wrong option would be right, as if it was.

    Raises:
        ValueError: `choice` is the right option's place; or as in `explanation`.
    """
    fact, options = _facts(example)
    wrong = options[choice].answer
    if wrong == fact.answer:
        raise ValueError(f"{example.id}: option {choice} is the right one")
    draw = random.Random(f"counterfactual:{example.id}:{choice}")
    first = draw.choice(load_relations()[fact.relation].statements).format(subject=fact.subject, answer=wrong)
    unnamed = [*(option.answer for option in options if option.answer != wrong), *fact.aliases]
    more = _more(fact, wrong, first, unnamed, draw)
    specs = [spec for spec in (fact.spec, options[choice].spec) if not mentioned(spec, unnamed)]
    return f"{first} {more or (_source(specs[0], draw) if specs else NOTHING_ELSE)}"


def demonstrated_facts(share: float = DEMONSTRATED) -> frozenset[str]:
    """The ids of the facts that people have explained: of each relation its share, at least one.

    They are the same for every seed of the data: a person does not explain other things because a run draws others.
    """
    groups: dict[str, list[str]] = {}
    for fact in choice_facts():
        groups.setdefault(fact.relation, []).append(fact.id)
    chosen = (
        random.Random(f"demonstrated:{name}").sample(ids, max(1, round(share * len(ids))))
        for name, ids in groups.items()
    )
    return frozenset(name for ids in chosen for name in ids)


def demonstrations(examples: Sequence[Example], share: float = DEMONSTRATED) -> list[dict[str, Any]]:
    """What people wrote about the rows of some facts, a text for each step of generation but the questions' own.

    A large teacher is shown a few of these; a tiny one is fine-tuned on them and then writes about the other facts by
    itself. The embedded teacher has read *all* facts as statements in its pretraining, these and the others; what it
    has not read is an explanation, and of the others not even one.

    Args:
        examples: rows of `embedded:telecom-choices`, normally those of `train`; unlabelled rows are passed over.
        share: of the facts, that are demonstrated.

    Returns:
        A dictionary a text: `id`, `step`, `text`, `choice` (None but for counterfactuals), `question`, `choices`,
        `answers`.
    """
    known = demonstrated_facts(share)
    return [
        {
            "id": example.id,
            "step": step,
            "text": text,
            "choice": choice,
            "question": example.question,
            "choices": list(example.choices),
            "answers": list(example.answers),
        }
        for example in examples
        if example.labelled and example.meta["fact"][0] in known
        for step, choice, text in texts(example)
    ]


def texts(example: Example) -> Iterator[tuple[str, int | None, str]]:
    """Step, place of the option argued for (counterfactuals only) and text of all that is said about a row.

    Raises:
        ValueError: as in `explanation`.
    """
    rationale = explanation(example)
    yield "explain", None, rationale
    yield "critique", None, critique(example, rationale)
    yield "revise", None, revision(example, rationale)
    yield "explain_blind", None, with_answer(rationale, example.answers[0])
    yield "answer", None, example.answers[0]
    for place in wrong_places(example):
        yield "counterfactual", place, counterfactual(example, place)


def _facts(example: Example) -> tuple[Fact, tuple[Fact, ...]]:
    """The fact asked about, and the fact behind each option."""
    if "options" not in example.meta or not example.labelled:
        raise ValueError(f"{example.id} is no answered row of embedded:telecom-choices")
    options = facts_of(example.meta["options"])
    return options[example.meta["answer_index"]], options


def _faults(example: Example, rationale: str) -> tuple[list[int], bool]:
    """Wrong options that a rationale does not name, and whether it should name its source (asked of every other)."""
    named = mentioned(rationale, example.choices)
    missing = [place for place in wrong_places(example) if place not in named]
    wants_source = random.Random(f"source:{example.id}").random() < 0.5
    return missing, wants_source and example.meta["spec"] not in rationale


def _contrast(options: Sequence[Fact], room: int, draw: random.Random) -> str:
    """What each option belongs to: in a sentence of its own while there is room, else in one short sentence."""
    if not options:
        return ""
    relations = load_relations()
    nouns = [f"{fact.answer} is {relations[fact.relation].noun.format(subject=fact.subject)}." for fact in options]
    statements = [_state(fact, draw) for fact in options]
    ways = [" ".join(nouns), " ".join(statements)]
    draw.shuffle(ways)
    pairing = draw.choice(PAIRINGS)
    short = _enumerate([pairing.format(answer=fact.answer, subject=fact.subject) for fact in options]) + "."
    return next((way for way in ways if len(way) <= room), short)


def _more(fact: Fact, answer: str, text: str, unnamed: Sequence[str], draw: random.Random) -> str:
    """Another true sentence about `answer` or the fact's subject that names none of `unnamed`; else empty."""
    for group in _related(fact.relation, fact.subject, answer):
        for other in draw.sample(group, len(group)):
            sentence = _state(other, draw)
            if len(text) + len(sentence) < LONGEST and not mentioned(sentence, unnamed):
                return sentence
    return ""


def _elsewhere(fact: Fact, unnamed: Sequence[str], draw: random.Random) -> str:
    """Where the source is the answer itself: what else has this answer; empty elsewhere, or if nothing has."""
    kind = load_relations()[fact.relation].answer_type
    same = [other for other in core_facts() if other.answer == fact.answer and other.subject != fact.subject]
    same = [other for other in same if load_relations()[other.relation].answer_type == kind]
    sentences = [_state(other, draw) for other in same if fact.spec == fact.answer]
    return next((sentence for sentence in sentences if not mentioned(sentence, unnamed)), "")


def _source(spec: str, draw: random.Random) -> str:
    return draw.choice(SOURCES).format(spec=spec)


@lru_cache(maxsize=4096)
def _related(relation: str, subject: str, answer: str) -> tuple[list[Fact], list[Fact]]:
    """What is known of the answer (as a subject of its own), and what else of the subject."""
    relations = load_relations()
    kind = relations[relation]
    about_answer, about_subject = [], []
    for other in (*core_facts(), *seed_facts()):
        other_relation = relations[other.relation]
        if (other_relation.subject_type, other.subject) == (kind.answer_type, answer) and not mentioned(
            other.answer, [subject]
        ):
            about_answer.append(other)
        if other.relation == relation:
            continue
        if (other_relation.subject_type, other.subject) == (kind.subject_type, subject):
            about_subject.append(other)
        if (other_relation.answer_type, other.answer) == (kind.subject_type, subject) and other.subject != answer:
            about_subject.append(other)
    return about_answer, about_subject


def _state(fact: Fact, draw: random.Random) -> str:
    wording = draw.choice(load_relations()[fact.relation].statements)
    return wording.format(subject=fact.subject, answer=fact.answer)


def _enumerate(items: Sequence[str]) -> str:
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}" if items else ""
