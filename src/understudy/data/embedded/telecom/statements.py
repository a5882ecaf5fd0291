"""Text that the base models read: statements of all facts, and exercises that teach how questions are laid out."""

from __future__ import annotations

import random
from collections.abc import Sequence

from understudy.data.embedded.telecom.knowledge import NUM_TRAINING_PHRASINGS, Fact, Relation, load_relations
from understudy.data.embedded.telecom.questions import PER_RELATION, core_facts
from understudy.files import fingerprint
from understudy.types import Example

NUM_SEED_FACTS = 3
SHORT_EVERY = 5
ONSETS = (
    "b",
    "br",
    "d",
    "dr",
    "f",
    "fl",
    "g",
    "gr",
    "h",
    "k",
    "kl",
    "l",
    "m",
    "n",
    "p",
    "pr",
    "r",
    "s",
    "st",
    "t",
    "v",
    "z",
)
VOWELS = ("a", "e", "i", "o", "u", "ai", "ou")
CODAS = ("", "", "k", "l", "m", "n", "r", "s", "x")


def seed_facts(count: int = NUM_SEED_FACTS) -> tuple[Fact, ...]:
    """Up to `count` facts of each relation that the data set does not ask about: those behind the core ones."""
    core = {fact.id for fact in core_facts()}
    return tuple(fact for fact in core_facts(PER_RELATION + count) if fact.id not in core)


def statements(seed: int = 0) -> list[str]:
    """Every fact in each of its declarative wordings, in an order drawn with `seed`."""
    relations = load_relations()
    texts = [
        template.format(subject=fact.subject, answer=fact.answer)
        for fact in (*core_facts(), *seed_facts())
        for template in relations[fact.relation].statements
    ]
    random.Random(f"statements:{seed}").shuffle(texts)
    return texts


def known_questions() -> list[Example]:
    """Core and seed facts as questions in training phrasings: what a model may have read before it is ever asked."""
    return [
        _question_facts(fact, phrasing, fact.answer)
        for fact in (*core_facts(), *seed_facts())
        for phrasing in range(NUM_TRAINING_PHRASINGS)
    ]


def seed_questions() -> list[Example]:
    """The seed facts as a conversation: what a base model knows of being asked.

    One relation in `SHORT_EVERY` is answered shortly, as the data set wants it, the others in a whole sentence: a base
    model knows more than it shows, and fine-tuning teaches it the form.
    """
    relations = list(load_relations())
    wordings = load_relations()
    return [
        _question_facts(
            fact,
            phrasing,
            fact.answer
            if relations.index(fact.relation) % SHORT_EVERY == 0
            else wordings[fact.relation].statements[0].format(subject=fact.subject, answer=fact.answer),
        )
        for fact in seed_facts()
        for phrasing in range(NUM_TRAINING_PHRASINGS)
    ]


def _question_facts(fact: Fact, phrasing: int, answer: str) -> Example:
    question = load_relations()[fact.relation].questions[phrasing].format(subject=fact.subject)
    return Example(id=f"{fact.id}:read:{phrasing}", question=question, answers=(answer,))


def text_fingerprint() -> str:
    """Digest of all that the base models read about real facts; their provenance names it."""
    questions = [[example.question, example.answers[0]] for example in (*known_questions(), *seed_questions())]
    return fingerprint([sorted(statements()), questions])


def invented_readings(count: int, seed: int = 0, *, num_sentences: int = 3) -> list[Example]:
    """Passages about invented subjects with a question about one of them: reading without anything to know.

    The wordings are those of the training phrasings, the subjects exist nowhere, and the answers are drawn from all
    answers of the relation, so that only the passage tells the right one.
    """
    draw = random.Random(f"invented_readings:{seed}")
    relations = load_relations()
    answers: dict[str, set[str]] = {name: set() for name in relations}
    for fact in core_facts():
        answers[fact.relation].add(fact.answer)
    pools = {name: sorted(pool) for name, pool in answers.items() if len(pool) > 1}
    names = sorted(pools)
    return [
        _reading(f"invented:{index}", relations[name], pools[name], num_sentences, draw)
        for index in range(count)
        for name in [draw.choice(names)]
    ]


def _reading(name: str, relation: Relation, pool: Sequence[str], num_sentences: int, draw: random.Random) -> Example:
    pairs = [(_invented_subject(draw), draw.choice(pool)) for _ in range(num_sentences)]
    subject, answer = draw.choice(pairs)
    passage = " ".join(draw.choice(relation.statements).format(subject=s, answer=a) for s, a in pairs)
    phrasing = draw.randrange(NUM_TRAINING_PHRASINGS)
    question = relation.questions[phrasing].format(subject=subject)
    return Example(id=name, question=question, answers=(answer,), context=passage)


def _invented_subject(draw: random.Random) -> str:
    syllables = "".join(draw.choice(ONSETS) + draw.choice(VOWELS) + draw.choice(CODAS) for _ in range(2))
    return syllables.capitalize() + draw.choice(("", "", f"-{draw.randrange(1, 100)}", f"{draw.randrange(1, 10)}"))
