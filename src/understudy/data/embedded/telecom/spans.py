"""Extractive questions over the knowledge base: a passage of several facts, one of which is asked about.

| split   | facts                  | rows                                                                       |
|---------|------------------------|----------------------------------------------------------------------------|
| `train` | seven of ten           | `PER_FACT` passages of each, in phrasings 0-5; `gold_share` of them answered |
| `dev`   | one of ten             | `NUM_DEV`, in phrasing 6                                                    |
| `test`  | two of ten             | `NUM_TEST`, in phrasings 7 and 8                                            |

No fact is in two splits: what is learned is to find an answer, not to know it. In one of `OPEN` passages the fact that
is asked about is missing, and a neighbour of its relation stands there in its place: the answer is `unanswerable`.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence

from understudy.data.benchmark_formats import UNANSWERABLE
from understudy.data.embedded.telecom.knowledge import Fact, facts_fingerprint, load_facts, load_relations
from understudy.data.embedded.telecom.questions import DEV_PHRASINGS, TEST_PHRASINGS, TRAINING_PHRASINGS
from understudy.errors import ConfigError
from understudy.types import Example, Splits

PER_FACT = 2
NUM_DEV = 150
NUM_TEST = 500
NUM_SENTENCES = 6
OPEN = 6


def generate_spans(gold_share: float = 0.5, seed: int = 0) -> Splits:
    """The extractive set; the same arguments give the same rows in the same order.

    `meta` of a row: `kind` (`span`), `fact`, `relation`, `spec`, `phrasing`, and `answer_start`, the character of the
    passage at which the answer begins, or `impossible`.

    Args:
        gold_share: share of the training rows that have their answer; the others are unlabelled.
        seed: seed of the split of the facts, of the passages and of the order.

    Raises:
        ConfigError: `gold_share` is not between 0 and 1.
    """
    if not 0 < gold_share <= 1:
        raise ConfigError(f"gold_share is {gold_share}; it is a share between 0 and 1")
    facts = list(load_facts())
    random.Random(f"spans:split:{seed}").shuffle(facts)
    first, second = 7 * len(facts) // 10, 8 * len(facts) // 10
    parts = {"train": facts[:first], "dev": facts[first:second], "test": facts[second:]}
    train = _rows("train", parts["train"], TRAINING_PHRASINGS, PER_FACT, None, seed)
    answered = max(1, round(gold_share * len(train)))
    rows = {
        "train": tuple(train[:answered]),
        "unlabelled": tuple(_asked(row) for row in train[answered:]),
        "dev": tuple(_rows("dev", parts["dev"], DEV_PHRASINGS, 1, NUM_DEV, seed)),
        "test": tuple(_rows("test", parts["test"], TEST_PHRASINGS, 1, NUM_TEST, seed)),
    }
    notes = {"facts": len(facts), "facts_fingerprint": facts_fingerprint()}
    return Splits(**rows, notes=notes | {"kinds": {name: {"span": len(part)} for name, part in rows.items()}})


def _asked(row: Example) -> Example:
    """A row without what tells its answer."""
    kept = {name: value for name, value in row.meta.items() if name not in ("answer_start", "impossible")}
    return Example(row.id, row.question, (), row.context, meta=kept)


def _rows(
    role: str, facts: Sequence[Fact], phrasings: Sequence[int], each: int, limit: int | None, seed: int
) -> list[Example]:
    draw = random.Random(f"spans:{role}:{seed}")
    by_relation: dict[str, list[Fact]] = {}
    for fact in facts:
        by_relation.setdefault(fact.relation, []).append(fact)
    rows = list(_passages(role, facts, by_relation, phrasings, each, draw))
    draw.shuffle(rows)
    return rows[:limit]


def _passages(
    role: str,
    facts: Sequence[Fact],
    by_relation: Mapping[str, Sequence[Fact]],
    phrasings: Sequence[int],
    each: int,
    draw: random.Random,
) -> Iterator[Example]:
    for number, fact in enumerate(facts):
        for phrasing in draw.sample(phrasings, min(each, len(phrasings))):
            near = [other for other in by_relation[fact.relation] if other.subject != fact.subject]
            absent = bool(near) and draw.randrange(OPEN) == 0
            stated = draw.sample(near, min(2 if absent else 1, len(near))) + ([] if absent else [fact])
            others = [other for other in draw.sample(facts, 4 * NUM_SENTENCES) if _is_apart(other, fact, stated)]
            stated = (stated + others)[:NUM_SENTENCES]
            draw.shuffle(stated)
            yield _row(f"{role}:span:{phrasing}:{number}:{fact.id}", fact, phrasing, stated, absent, draw)


def _is_apart(other: Fact, fact: Fact, stated: Sequence[Fact]) -> bool:
    """Whether a fact says nothing of what is asked about, and does not stand there already."""
    return other.subject != fact.subject and all(other.id != one.id for one in stated)


def _row(name: str, fact: Fact, phrasing: int, stated: Sequence[Fact], absent: bool, draw: random.Random) -> Example:
    relations, pieces, start = load_relations(), [], 0
    for one in stated:
        statement = draw.choice(relations[one.relation].statements)
        if one is fact:
            start = len(" ".join([*pieces, ""])) + len(statement.partition("{answer}")[0].format(subject=fact.subject))
        pieces.append(statement.format(subject=one.subject, answer=one.answer))
    place = {"impossible": True} if absent else {"answer_start": start}
    return Example(
        id=name,
        question=relations[fact.relation].questions[phrasing].format(subject=fact.subject),
        answers=(UNANSWERABLE,) if absent else (fact.answer,),
        context=" ".join(pieces),
        meta={
            "kind": "span",
            "fact": [fact.id],
            "relation": fact.relation,
            "spec": fact.spec,
            "phrasing": phrasing,
            **place,
        },
    )
