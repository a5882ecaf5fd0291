"""Retrieval over the knowledge base: a question, and the sentence that states the fact it asks for.

| split   | facts        | rows                                                              |
|---------|--------------|-------------------------------------------------------------------|
| `train` | seven of ten | `PER_FACT` questions of each, in phrasings 0-5; `gold_share` of them with their passage |
| `dev`   | one of ten   | `NUM_DEV`, in phrasing 6                                          |
| `test`  | two of ten   | `NUM_TEST`, in phrasings 7 and 8                                  |

No fact is in two splits. A passage is a statement of one fact; those of all facts are the corpus
(`data.corpus: embedded:telecom-passages`). A row with a passage has a hard negative too: a fact of the same relation
about another subject.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from functools import lru_cache

from understudy.data.embedded.telecom.knowledge import Fact, facts_fingerprint, load_facts, load_relations
from understudy.data.embedded.telecom.questions import DEV_PHRASINGS, TEST_PHRASINGS, TRAINING_PHRASINGS
from understudy.errors import ConfigError
from understudy.types import Example, Splits

PER_FACT = 2
NUM_DEV = 150
NUM_TEST = 500


def passage_of(fact: Fact) -> str:
    """The first statement of a fact's relation."""
    statement = load_relations()[fact.relation].statements[0]
    return statement.format(subject=fact.subject, answer=fact.answer)


@lru_cache(maxsize=1)
def passages() -> tuple[str, ...]:
    """The distinct passages of all facts, in the order of their files."""
    return tuple(dict.fromkeys(map(passage_of, load_facts())))


def generate_passages(gold_share: float = 0.5, seed: int = 0) -> Splits:
    """The retrieval set; the same arguments give the same rows in the same order.

    `meta` of a row: `kind` (`passage`), `fact`, `relation`, `spec` and `phrasing`.

    Args:
        gold_share: share of the training rows that have their passage; the others are unlabelled.
        seed: seed of the split of the facts, of negatives and of the order.

    Raises:
        ConfigError: `gold_share` is not between 0 and 1.
    """
    if not 0 < gold_share <= 1:
        raise ConfigError(f"gold_share is {gold_share}; it is a share between 0 and 1")
    facts = list(load_facts())
    random.Random(f"passages:split:{seed}").shuffle(facts)
    first, second = 7 * len(facts) // 10, 8 * len(facts) // 10
    train = _rows("train", facts[:first], TRAINING_PHRASINGS, PER_FACT, None, seed)
    answered = max(1, round(gold_share * len(train)))
    rows = {
        "train": tuple(train[:answered]),
        "unlabelled": tuple(Example(row.id, row.question, meta=row.meta) for row in train[answered:]),
        "dev": tuple(_rows("dev", facts[first:second], DEV_PHRASINGS, 1, NUM_DEV, seed)),
        "test": tuple(_rows("test", facts[second:], TEST_PHRASINGS, 1, NUM_TEST, seed)),
    }
    notes = {"facts": len(facts), "facts_fingerprint": facts_fingerprint()}
    return Splits(**rows, notes=notes | {"kinds": {name: {"passage": len(part)} for name, part in rows.items()}})


def _rows(
    role: str, facts: Sequence[Fact], phrasings: Sequence[int], each: int, limit: int | None, seed: int
) -> list[Example]:
    draw = random.Random(f"passages:{role}:{seed}")
    rows = list(_asked(role, facts, phrasings, each, draw))
    draw.shuffle(rows)
    return rows[:limit]


def _asked(
    role: str, facts: Sequence[Fact], phrasings: Sequence[int], each: int, draw: random.Random
) -> Iterator[Example]:
    # What a question asks for may be stated twice: in other words, or of a subject with two values.
    right: dict[tuple[str, str], dict[str, None]] = {}
    for fact in load_facts():
        right.setdefault((fact.relation, fact.subject), {})[passage_of(fact)] = None
    by_relation: dict[str, list[Fact]] = {}
    for fact in facts:
        by_relation.setdefault(fact.relation, []).append(fact)
    for number, fact in enumerate(facts):
        own = dict.fromkeys([passage_of(fact), *right[fact.relation, fact.subject]])
        near = [passage_of(other) for other in by_relation[fact.relation]]
        near = [passage for passage in near if passage not in own]
        for phrasing in draw.sample(phrasings, min(each, len(phrasings))):
            negative = (draw.choice(near),) if near else ()
            yield Example(
                id=f"{role}:passage:{phrasing}:{number}:{fact.id}",
                question=load_relations()[fact.relation].questions[phrasing].format(subject=fact.subject),
                answers=tuple(own),
                choices=tuple(sorted((*own, *negative))) if negative else (),
                meta={
                    "kind": "passage",
                    "fact": [fact.id],
                    "relation": fact.relation,
                    "spec": fact.spec,
                    "phrasing": phrasing,
                },
            )
