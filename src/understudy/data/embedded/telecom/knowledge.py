"""The knowledge base: facts, and the relations that say how a fact is stated and asked for."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any

import yaml

from understudy.errors import DataError
from understudy.files import fingerprint, read_text

FOLDER = Path(__file__).parent
COLUMNS = ("id", "relation", "subject", "answer", "aliases", "spec")
NUM_STATEMENTS = 4
NUM_TRAINING_PHRASINGS = 6
NUM_PHRASINGS = 9


@dataclass(frozen=True, slots=True)
class Relation:
    """A kind of fact and its wordings.

    Attributes:
        name: the name that facts refer to.
        answer_type: class of the answers; facts of one class lend each other distractors.
        subject_type: class of the subjects; where it equals another relation's `answer_type`, the two compose.
        statements: declarative wordings with `{subject}` and `{answer}`.
        questions: wordings of the question with `{subject}`; the first six train, the last three are held out. Held
            out are those whose words the other wordings cover best: a tiny model that has read nothing but this
            knowledge base cannot be asked in words that it has never met.
        noun: a noun phrase with `{subject}` that stands for the answer.
        few_classes: whether fewer than six different answers exist, so that a majority baseline says something.
        topic: name of the file it stands in.
    """

    name: str
    answer_type: str
    subject_type: str
    statements: tuple[str, ...]
    questions: tuple[str, ...]
    noun: str
    few_classes: bool
    topic: str


@dataclass(frozen=True, slots=True)
class Fact:
    """One true thing: `answer` is the one right value of `relation` for `subject`, as `spec` defines it."""

    id: str
    relation: str
    subject: str
    answer: str
    aliases: tuple[str, ...]
    spec: str
    topic: str

    @property
    def answers(self) -> tuple[str, ...]:
        """All accepted answers, the one to learn first."""
        return (self.answer, *self.aliases)


@lru_cache(maxsize=1)
def load_relations() -> Mapping[str, Relation]:
    """The relations by name, in the order of their files.

    Raises:
        DataError: a file is malformed or a name stands twice; the relation is named.
    """
    relations: dict[str, Relation] = {}
    for path in sorted((FOLDER / "relations").glob("*.yaml")):
        for name, fields in _yaml(read_text(path)).items():
            if name in relations:
                raise DataError(f"{path}: relation {name!r} stands twice")
            relations[name] = _relation(path, name, fields)
    return MappingProxyType(relations)


@lru_cache(maxsize=1)
def load_facts() -> tuple[Fact, ...]:
    """All facts, in the order of their files.

    Raises:
        DataError: a file is malformed, an id stands twice or a relation is unknown; the line is named.
    """
    facts: dict[str, Fact] = {}
    for path in sorted((FOLDER / "facts").glob("*.csv")):
        reader = csv.DictReader(io.StringIO(read_text(path)))
        for row in reader:
            fact = _fact(path, reader.line_num, row)
            if fact.id in facts:
                raise DataError(f"{path}:{reader.line_num}: fact {fact.id!r} stands twice")
            facts[fact.id] = fact
    return tuple(facts.values())


@lru_cache(maxsize=1)
def facts_fingerprint() -> str:
    """What the base weights were trained on: a digest of all facts and all wordings."""
    return fingerprint(
        [[asdict(fact) for fact in load_facts()], [asdict(relation) for relation in load_relations().values()]]
    )


def _yaml(text: str) -> dict[str, Any]:
    # The C parser reads the wordings ten times faster where PyYAML was built with it.
    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}


def _relation(path: Path, name: str, fields: dict[str, Any]) -> Relation:
    try:
        relation = Relation(
            name=name,
            answer_type=fields["answer_type"],
            subject_type=fields["subject_type"],
            statements=tuple(fields["statements"]),
            questions=held_out_last(fields["questions"], fields["statements"]),
            noun=fields["noun"],
            few_classes=bool(fields.get("few_classes", False)),
            topic=path.stem,
        )
    except KeyError as error:
        raise DataError(f"{path}: relation {name!r} has no field {error}") from error
    if len(relation.statements) != NUM_STATEMENTS or len(relation.questions) != NUM_PHRASINGS:
        raise DataError(f"{path}: relation {name!r} needs {NUM_STATEMENTS} statements and {NUM_PHRASINGS} questions")
    return relation


def held_out_last(questions: list[str], statements: list[str]) -> tuple[str, ...]:
    """Move the wordings to the end that say least that the remaining ones and the statements do not say."""
    training, held_out = list(questions), []
    while len(held_out) < NUM_PHRASINGS - NUM_TRAINING_PHRASINGS:
        covered = [
            _coverage(question, [*training[:i], *training[i + 1 :], *statements]) for i, question in enumerate(training)
        ]
        held_out.append(training.pop(covered.index(max(covered))))
    return (*training, *held_out)


def _coverage(question: str, others: list[str]) -> float:
    """Share of the question's word pairs and words that occur in the other sentences."""
    known = {piece for other in others for piece in _pieces(other)}
    pieces = _pieces(question)
    return sum(piece in known for piece in pieces) / len(pieces)


def _pieces(sentence: str) -> list[str]:
    words = ["^", *re.findall(r"\{?\w+\}?", sentence.lower()), "$"]
    return [*words, *(" ".join(pair) for pair in pairwise(words))]


def _fact(path: Path, line: int, row: dict[str, str | None]) -> Fact:
    missing = [column for column in COLUMNS if row.get(column) is None]
    if missing:
        raise DataError(f"{path}:{line}: no value for {', '.join(missing)}")
    if row["relation"] not in load_relations():
        raise DataError(f"{path}:{line}: unknown relation {row['relation']!r}")
    values = {column: str(row[column]).strip() for column in COLUMNS}
    aliases = tuple(alias.strip() for alias in values.pop("aliases").split("|") if alias.strip())
    return Fact(**values, aliases=aliases, topic=path.stem)
