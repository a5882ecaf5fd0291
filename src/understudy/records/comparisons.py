"""Parts of `scores.json` and `comparison.json` that are read again: metrics, and example answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from understudy.records.base import Record, list_of, mapping_of, parsed_by


@dataclass(frozen=True)
class MetricInfo(Record):
    """What is to be known of a metric to read its figures.

    Attributes:
        maximum: 1 or 100, as the library that computes it has it.
        higher_is_better: the direction of good.
        signature: library, version and options, in print.
    """

    maximum: float
    higher_is_better: bool
    signature: str = ""


@dataclass(frozen=True)
class RatedAnswer(Record):
    """An answer and how good it is.

    Attributes:
        text: the answer.
        quality: between 0 and 1.
    """

    text: str
    quality: float


@dataclass(frozen=True)
class RatedItem(Record):
    """An item with what each system answered.

    Attributes:
        id: of the item.
        kind: kind of question, or None.
        gold_fact: whether the fact asked for stood in the gold answers; None where that means nothing.
        question: what was asked.
        context: what there was to read, or None.
        choices: the options of a multiple-choice item.
        references: the right answers.
        answers: system → its answer.
    """

    id: str
    kind: str | None
    gold_fact: bool | None
    question: str | None
    context: str | None
    choices: tuple[str, ...] = field(metadata=parsed_by(tuple))
    references: tuple[str, ...] = field(metadata=parsed_by(tuple))
    answers: Mapping[str, RatedAnswer] = field(metadata=parsed_by(mapping_of(RatedAnswer)))


@dataclass(frozen=True)
class Contest(Record):
    """Items on which one system's answer is better than another's.

    Attributes:
        better: the system ahead on these items.
        worse: the other one.
        count: number of these items.
        items: number of items in all.
        examples: some of them, those with the largest lead first.
    """

    better: str
    worse: str
    count: int
    items: int
    examples: tuple[RatedItem, ...] = field(metadata=parsed_by(list_of(RatedItem)))
