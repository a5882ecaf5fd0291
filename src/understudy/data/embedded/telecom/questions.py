"""Facts to questions: little gold, many questions without an answer, and held-out wordings.

| kind       | what is asked                             | train, unlabelled | dev         | test    |
|------------|-------------------------------------------|-------------------|-------------|---------|
| `phrasing` | one fact, from memory                     | phrasings 0-5     | phrasing 6  | 7 and 8 |
| `context`  | one of three facts that a passage states  | phrasings 0-5     | phrasing 6  | 7 and 8 |
| `choice`   | one fact, four options of one class       | phrasings 0-5     | phrasing 6  | 7 and 8 |
| `two_step` | a fact about the answer of another fact   | never             | phrasing 6  | 7 and 8 |

`train` asks about the gold facts with their answers, `unlabelled` about all others without; training never shows a
held-out wording.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TypeVar

from understudy.data.embedded.telecom.knowledge import (
    NUM_TRAINING_PHRASINGS,
    Fact,
    facts_fingerprint,
    load_facts,
    load_relations,
)
from understudy.errors import ConfigError
from understudy.types import Example, Splits

KINDS = ("phrasing", "two_step", "context", "choice")
TRAINING_PHRASINGS = tuple(range(NUM_TRAINING_PHRASINGS))
DEV_PHRASINGS = (6,)
TEST_PHRASINGS = (7, 8)
NUM_CHOICES = 4
PER_RELATION = 10
CORE_TOPICS = (
    "acronyms",
    "five_qi",
    "network_functions",
    "nr_bands",
    "protocols",
    "reference_points",
    "specifications",
    "timers",
)
NUM_PASSAGE_FACTS = 3
T = TypeVar("T")


class _Pool:
    """The facts that are asked about, found by relation and by class of answer."""

    def __init__(self, facts: Sequence[Fact], gold: frozenset[str]) -> None:
        self.facts, self.gold = facts, gold
        self.by_relation: dict[str, list[Fact]] = {}
        self.by_subject: dict[tuple[str, str], list[Fact]] = {}
        answers: dict[str, set[str]] = {}
        for fact in facts:
            relation = load_relations()[fact.relation]
            self.by_relation.setdefault(fact.relation, []).append(fact)
            self.by_subject.setdefault((relation.subject_type, fact.subject), []).append(fact)
            answers.setdefault(relation.answer_type, set()).add(fact.answer)
        self.answers = {name: sorted(group) for name, group in answers.items()}

    def chains(self) -> list[tuple[Fact, Fact]]:
        """Pairs of facts of which the first one's answer is the second one's subject."""
        return [
            (first, second)
            for first in self.facts
            for second in self.by_subject.get((load_relations()[first.relation].answer_type, first.answer), ())
            if second.answer != first.subject
        ]


@dataclass(frozen=True, slots=True)
class _Role:
    """What a split asks.

    `each` phrasings of a fact are asked from memory; `facts`, `others` and `two_step` count the facts asked from
    memory (None: all), the context and choice items, and the compositions.
    """

    name: str
    phrasings: tuple[int, ...]
    each: int
    facts: int | None = None
    others: int | None = None
    two_step: int = 0
    answered: bool = True


def generate(gold_share: float = 0.15, seed: int = 0, per_relation: int | None = PER_RELATION) -> Splits:
    """The embedded data set; the same arguments give the same rows in the same order.

    `meta` of a row: `kind` (one of `KINDS`), `fact` (ids of the facts it rests on), `relation`, `gold_fact` (whether
    all of them are gold), `spec`, `phrasing` (index of the wording).

    Args:
        gold_share: share of the facts whose questions come with answers; every relation has at least one.
        seed: seed of the gold facts, the passages, the options and the order.
        per_relation: ask only about the first so many facts of each relation, which the embedded base models have
            read about; None asks about all that the knowledge base holds, for larger models.

    Raises:
        ConfigError: `gold_share` is not between 0 and 1.
    """
    gold = gold_facts(gold_share, seed, per_relation)
    facts = core_facts(per_relation)
    pool = _Pool(facts, gold)
    known = [fact for fact in facts if fact.id in gold]
    unknown = [fact for fact in facts if fact.id not in gold]
    roles = (
        (_Role("train", TRAINING_PHRASINGS, each=6), known),
        (_Role("unlabelled", TRAINING_PHRASINGS, each=6, others=400, answered=False), unknown),
        (_Role("dev", DEV_PHRASINGS, each=1, facts=240, others=60, two_step=40), facts),
        (_Role("test", TEST_PHRASINGS, each=1, others=250, two_step=250), facts),
    )
    rows = {role.name: tuple(_questions(role, role_facts, pool, seed)) for role, role_facts in roles}
    counts = {name: {kind: _count(part, kind) for kind in KINDS} for name, part in rows.items()}
    notes = {"facts": len(facts), "gold_facts": len(gold), "facts_fingerprint": facts_fingerprint(), "kinds": counts}
    return Splits(**rows, notes=notes)


@lru_cache(maxsize=8)
def core_facts(per_relation: int | None = PER_RELATION) -> tuple[Fact, ...]:
    """What the data set asks about: the first `per_relation` facts of each relation of `CORE_TOPICS`.

    The best known facts stand first in the files. None: all facts of all topics.
    """
    if per_relation is None:
        return load_facts()
    taken: dict[str, int] = {}
    facts = []
    for fact in load_facts():
        if fact.topic not in CORE_TOPICS:
            continue
        taken[fact.relation] = taken.get(fact.relation, 0) + 1
        if taken[fact.relation] <= per_relation:
            facts.append(fact)
    return tuple(facts)


@lru_cache(maxsize=8)
def gold_facts(gold_share: float = 0.15, seed: int = 0, per_relation: int | None = PER_RELATION) -> frozenset[str]:
    """The ids of the facts that are asked with their answers: one per relation, then by chance up to `gold_share`."""
    if not 0 < gold_share <= 1:
        raise ConfigError(f"gold_share is {gold_share}; it is a share between 0 and 1")
    draw = random.Random(f"gold:{seed}")
    facts = list(core_facts(per_relation))
    draw.shuffle(facts)
    first = {fact.relation: fact.id for fact in facts}
    chosen = list(dict.fromkeys([*first.values(), *(fact.id for fact in facts)]))
    return frozenset(chosen[: max(len(first), round(gold_share * len(facts)))])


def _questions(role: _Role, facts: Sequence[Fact], pool: _Pool, seed: int) -> list[Example]:
    draw = random.Random(f"{role.name}:{seed}")
    rows = [
        *_phrasings(role, _sample(facts, role.facts, draw), pool, draw),
        *_contexts(role, _sample(facts, role.others, draw), pool, draw),
        *_choices(role, _sample(facts, None, draw), pool, draw),
        *_two_steps(role, pool, draw),
    ]
    draw.shuffle(rows)
    return rows


def _phrasings(role: _Role, facts: Iterable[Fact], pool: _Pool, draw: random.Random) -> Iterator[Example]:
    for fact in facts:
        for phrasing in draw.sample(role.phrasings, role.each):
            yield _example(role, "phrasing", phrasing, _ask(fact, phrasing), (fact,), pool)


def _contexts(role: _Role, facts: Iterable[Fact], pool: _Pool, draw: random.Random) -> Iterator[Example]:
    """Passages of the fact, a neighbour of its relation that could be confused with it, and one from anywhere."""
    relations = load_relations()
    for fact in facts:
        phrasing = draw.choice(role.phrasings)
        near = [other for other in pool.by_relation[fact.relation] if other.subject != fact.subject]
        stated = {fact.id: fact}
        for group in [near, *[pool.facts] * (NUM_PASSAGE_FACTS - 2)]:
            other = draw.choice([other for other in group or pool.facts if other.id not in stated])
            stated[other.id] = other
        sentences = [
            draw.choice(relations[known_fact.relation].statements).format(
                subject=known_fact.subject, answer=known_fact.answer
            )
            for known_fact in draw.sample(list(stated.values()), len(stated))
        ]
        question = _ask(fact, phrasing)
        yield _example(role, "context", phrasing, question, (fact,), pool, context=" ".join(sentences))


def _choices(role: _Role, facts: Iterable[Fact], pool: _Pool, draw: random.Random) -> Iterator[Example]:
    relations = load_relations()
    limit = role.others
    for fact in facts:
        if limit == 0:
            return
        wrong = [
            answer
            for answer in pool.answers[relations[fact.relation].answer_type]
            if answer.lower() not in _lowered(fact)
        ]
        if len(wrong) < NUM_CHOICES - 1:
            continue
        phrasing = draw.choice(role.phrasings)
        options = [fact.answer, *draw.sample(wrong, NUM_CHOICES - 1)]
        draw.shuffle(options)
        yield _example(role, "choice", phrasing, _ask(fact, phrasing), (fact,), pool, choices=tuple(options))
        limit = None if limit is None else limit - 1


def _two_steps(role: _Role, pool: _Pool, draw: random.Random) -> Iterator[Example]:
    """Compositions: the answer of the first fact is the subject of the second, and only the first is named."""
    candidates = [(pair, phrasing) for pair in pool.chains() for phrasing in role.phrasings]
    relations = load_relations()
    for (first, second), phrasing in _sample(candidates, role.two_step, draw):
        noun = relations[first.relation].noun.format(subject=first.subject)
        question = relations[second.relation].questions[phrasing].format(subject=noun)
        yield _example(role, "two_step", phrasing, question, (first, second), pool)


def _example(
    role: _Role,
    kind: str,
    phrasing: int,
    question: str,
    facts: tuple[Fact, ...],
    pool: _Pool,
    *,
    context: str | None = None,
    choices: tuple[str, ...] = (),
) -> Example:
    last = facts[-1]
    answers = (last.answer,) if choices else last.answers
    return Example(
        id=":".join([role.name, kind, str(phrasing), *(fact.id for fact in facts)]),
        question=question,
        answers=answers if role.answered else (),
        context=context,
        choices=choices,
        meta={
            "kind": kind,
            "fact": [fact.id for fact in facts],
            "relation": ">".join(fact.relation for fact in facts),
            "gold_fact": all(fact.id in pool.gold for fact in facts),
            "spec": last.spec,
            "phrasing": phrasing,
        },
    )


def _ask(fact: Fact, phrasing: int) -> str:
    return load_relations()[fact.relation].questions[phrasing].format(subject=fact.subject)


def _lowered(fact: Fact) -> set[str]:
    return {answer.lower() for answer in fact.answers}


def _sample(items: Sequence[T], count: int | None, draw: random.Random) -> list[T]:
    return list(items) if count is None else draw.sample(items, min(count, len(items)))


def _count(rows: Sequence[Example], kind: str) -> int:
    return sum(row.meta["kind"] == kind for row in rows)
