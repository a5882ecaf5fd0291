"""Multiple choice over the knowledge base: a small set to learn and to explain.

| split       | phrasings | rows                                                                  |
|-------------|-----------|-----------------------------------------------------------------------|
| `train`     | 0-5       | `PER_FACT` of every gold fact, with the answer                        |
| `unlabelled`| 0-5       | the same of all other facts, without it; none by default              |
| `dev`       | 6         | `NUM_DEV` facts                                                       |
| `test`      | 7, 8      | `NUM_TEST` questions                                                  |

All splits ask about the same facts, so what a test row takes is a fact that was learned and a wording that was not.
Each wrong option is the answer of another fact, which `meta["options"]` names: something true can be said of it.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache

from understudy.data.embedded.telecom.knowledge import Fact, facts_fingerprint, load_relations
from understudy.data.embedded.telecom.questions import (
    DEV_PHRASINGS,
    NUM_CHOICES,
    TEST_PHRASINGS,
    TRAINING_PHRASINGS,
    core_facts,
)
from understudy.data.option_mentions import mentioned
from understudy.errors import ConfigError
from understudy.types import Example, Splits

PER_FACT = 4
NUM_DEV = 200
NUM_TEST = 600


def generate_choices(gold_share: float = 1.0, seed: int = 0) -> Splits:
    """The multiple-choice set; the same arguments give the same rows in the same order.

    `meta` of a row: `kind` (`choice`), `fact` (id of the fact asked about, in a list), `relation`, `gold_fact`,
    `spec`, `phrasing`, `answer_index` (place of the right option) and `options` (the fact that each option is the
    answer of, the asked one at `answer_index`).

    Args:
        gold_share: share of the facts whose questions come with answers.
        seed: seed of the options, of what is asked in which words, and of the order.

    Raises:
        ConfigError: `gold_share` is not between 0 and 1.
    """
    if not 0 < gold_share <= 1:
        raise ConfigError(f"gold_share is {gold_share}; it is a share between 0 and 1")
    facts = choice_facts()
    shuffled = random.Random(f"choices:gold:{seed}").sample(facts, len(facts))
    gold = {fact.id for fact in shuffled[: max(1, round(gold_share * len(facts)))]}
    known, unknown = (tuple(fact for fact in facts if (fact.id in gold) is wanted) for wanted in (True, False))
    training = (TRAINING_PHRASINGS, PER_FACT, None)
    plans = {
        "train": (known, *training),
        "unlabelled": (unknown, *training),
        "dev": (facts, DEV_PHRASINGS, len(DEV_PHRASINGS), NUM_DEV),
        "test": (facts, TEST_PHRASINGS, len(TEST_PHRASINGS), NUM_TEST),
    }
    rows = {name: tuple(_rows(name, *plan, gold=gold, seed=seed)) for name, plan in plans.items()}
    notes = {"facts": len(facts), "gold_facts": len(gold), "facts_fingerprint": facts_fingerprint()}
    return Splits(**rows, notes=notes | {"kinds": {name: {"choice": len(part)} for name, part in rows.items()}})


@lru_cache(maxsize=1)
def choice_facts() -> tuple[Fact, ...]:
    """The core facts for which enough other answers exist."""
    return tuple(fact for fact in core_facts() if len(_rivals(fact)) >= NUM_CHOICES - 1)


def _rows(
    role: str,
    facts: Sequence[Fact],
    phrasings: tuple[int, ...],
    each: int,
    limit: int | None,
    *,
    gold: set[str],
    seed: int,
) -> list[Example]:
    draw = random.Random(f"choices:{role}:{seed}")
    variants = [(fact, phrasing) for fact in facts for phrasing in draw.sample(phrasings, each)]
    draw.shuffle(variants)
    return [_row(role, fact, phrasing, gold, seed) for fact, phrasing in variants[:limit]]


def _row(role: str, fact: Fact, phrasing: int, gold: set[str], seed: int) -> Example:
    name = f"{role}:choice:{phrasing}:{fact.id}"
    draw = random.Random(f"choices:{name}:{seed}")
    options = [fact, *_drawn(fact, draw)]
    draw.shuffle(options)
    place = options.index(fact)
    return Example(
        id=name,
        question=load_relations()[fact.relation].questions[phrasing].format(subject=fact.subject),
        answers=() if role == "unlabelled" else (fact.answer,),
        choices=tuple(option.answer for option in options),
        meta={
            "kind": "choice",
            "fact": [fact.id],
            "relation": fact.relation,
            "gold_fact": fact.id in gold,
            "spec": fact.spec,
            "phrasing": phrasing,
            **({} if role == "unlabelled" else {"answer_index": place}),
            "options": [option.id for option in options],
        },
    )


def _drawn(fact: Fact, draw: random.Random) -> Iterator[Fact]:
    """Three facts with three wrong answers: of the same relation as long as there are any, then of the same class."""
    rivals = _rivals(fact)
    near = [answer for answer, facts in rivals.items() if facts[0].relation == fact.relation]
    far = [answer for answer in rivals if answer not in near]
    draw.shuffle(near)
    draw.shuffle(far)
    for answer in [*near, *far][: NUM_CHOICES - 1]:
        yield draw.choice(rivals[answer])


@lru_cache(maxsize=1024)
def _rivals(fact: Fact) -> dict[str, list[Fact]]:
    """Wrong answers of the right class, each with the facts it is the answer of: those of the same relation if any.

    What the question names itself is no option: nobody would choose it, and a text about the row could not avoid it.
    """
    relations = load_relations()
    right = _names(fact)
    rivals: dict[str, list[Fact]] = {}
    for other in _of_class(relations[fact.relation].answer_type):
        distinct = right.isdisjoint(_names(other)) and other.subject != fact.subject
        if distinct and not mentioned(fact.subject, [other.answer]):
            rivals.setdefault(other.answer, []).append(other)
    for answer, facts in rivals.items():
        same = [other for other in facts if other.relation == fact.relation]
        rivals[answer] = same or facts
    return rivals


@lru_cache(maxsize=64)
def _of_class(answer_type: str) -> tuple[Fact, ...]:
    relations = load_relations()
    return tuple(fact for fact in core_facts() if relations[fact.relation].answer_type == answer_type)


def _names(fact: Fact) -> frozenset[str]:
    return frozenset(answer.casefold() for answer in fact.answers)


def facts_of(options: Iterable[str]) -> tuple[Fact, ...]:
    """The facts behind ids, in their order."""
    known = _by_id()
    return tuple(known[name] for name in options)


@lru_cache(maxsize=1)
def _by_id() -> dict[str, Fact]:
    return {fact.id: fact for fact in core_facts()}
