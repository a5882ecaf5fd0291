"""Items of a study: a question with what each method answered and how it explains the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from understudy.records.base import Record, mapping_of, parsed_by


@dataclass(frozen=True)
class MethodText(Record):
    """What one method says of an item.

    Attributes:
        text: the explanation.
        answer: that it explains.
        correct: whether the answer is right; None where no right one is known.
        length: of the explanation, in characters.
    """

    text: str
    answer: str
    correct: bool | None
    length: int


@dataclass(frozen=True)
class Explained:
    """One question with one method's answer and explanation, as it was read.

    Attributes:
        id: of the question, the same for each method.
        question: what was asked.
        context: what there was to read, or None.
        choices: its options; empty where it has none.
        gold: right answers; empty where none is known.
        text: what the method says.
    """

    id: str
    question: str
    context: str | None
    choices: tuple[str, ...]
    gold: tuple[str, ...]
    text: MethodText


@dataclass(frozen=True)
class StudyItem(Record):
    """A line of `items.jsonl`.

    Attributes:
        id: of the question.
        stratum: `right`, `wrong` or `mixed`: how many of the methods answer rightly; `unknown` without a right answer.
        weight: number of questions in the source that it stands for, N_h/n_h of its stratum h.
        question: what was asked.
        choices: its options.
        gold: right answers.
        methods: name of the method -> its answer and explanation.
        context: what there was to read, or None.
    """

    id: str
    stratum: str
    weight: float
    question: str
    choices: tuple[str, ...] = field(metadata=parsed_by(tuple))
    gold: tuple[str, ...] = field(metadata=parsed_by(tuple))
    methods: Mapping[str, MethodText] = field(metadata=parsed_by(mapping_of(MethodText)))
    context: str | None = None
