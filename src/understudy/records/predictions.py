"""Answers of systems, answers after a rationale was swapped, and figures as lines of the report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from understudy.errors import DataError
from understudy.records.base import Record

_REQUIRED = ("id", "references", "prediction")
_LISTS = ("references", "choices")


@dataclass(frozen=True, slots=True)
class Prediction:
    """What one system answered to one test item: a line of `predictions.jsonl`, keys in this order.

    Attributes:
        id: of the item, the same for every system.
        kind: kind of question, or None.
        gold_fact: whether the fact asked for stood in the gold answers; None where that means nothing.
        group: what the item shares with others (a fact, a context), so that they are resampled together; None where it
            stands for itself.
        question: what was asked.
        context: what there was to read, or None.
        choices: the options of a multiple-choice item.
        references: the right answers; empty where none is known.
        prediction: the answer; None where the system gave none.
        choice_scores: log-likelihood of each option; None where they were not compared.
        tokens: how many the answer has; None in files of other tools.
        finished: whether the answer came to an end before the longest length.
        seconds: how long the answer took.
        candidates: the likeliest answers with their probabilities, the likeliest first, where the system tells; empty,
            and absent from the file, where it does not.
    """

    id: str
    kind: str | None = None
    gold_fact: bool | None = None
    group: str | None = None
    question: str | None = None
    context: str | None = None
    choices: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    prediction: str | None = None
    choice_scores: tuple[float | None, ...] | None = None
    tokens: int | None = None
    finished: bool | None = None
    seconds: float | None = None
    candidates: tuple[tuple[str, float], ...] = ()

    def values(self) -> dict[str, Any]:
        """Attribute -> value, in their order."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def to_json(self) -> dict[str, Any]:
        """JSON-able, keys in the order of the attributes."""
        values = self.values()
        if not self.candidates:
            del values["candidates"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Read a line; unknown keys are ignored, those that are not required may be absent.

        Raises:
            DataError: no `id`, `references` or `prediction`.
        """
        missing = [name for name in _REQUIRED if name not in row]
        if missing:
            raise DataError(f"a prediction has no field {missing[0]!r}", hint=f"each row needs {', '.join(_REQUIRED)}")
        present = {field.name: row[field.name] for field in fields(cls) if field.name in row}
        present |= {name: tuple(present[name] or ()) for name in _LISTS if name in present}
        if present.get("choice_scores") is not None:
            present["choice_scores"] = tuple(present["choice_scores"])
        present["candidates"] = tuple((str(text), float(value)) for text, value in present.get("candidates") or ())
        return cls(**present)


@dataclass(frozen=True, slots=True)
class ExplainedPrediction(Prediction):
    """The answer of a student that was taught with texts, and its explanation.

    `tokens` and `seconds` count both texts.

    Attributes:
        raw: the text that holds the answer; `prediction` is the answer in it, empty where there is none.
        answer_given: whether an answer could be read.
        chosen: the place of the option that it names; None: none, or several, which is a wrong answer.
        explanation: the explanation; None where the student gives none.
        explanation_finished: whether it came to an end; None without one.
    """

    raw: str = ""
    answer_given: bool = False
    chosen: int | None = None
    explanation: str | None = None
    explanation_finished: bool | None = None


@dataclass(frozen=True, slots=True)
class Swap(Record):
    """What a student answers after its own rationale was replaced by another: a line of `swaps.jsonl`.

    Attributes:
        id: of the item.
        group: what the item shares with others; None where it stands for itself.
        choice: the place of the option that the rationale argues for.
        before: the place answered after the student's own rationale.
        after: the place answered after the swapped one.
    """

    id: str
    group: str | None
    choice: int
    before: int
    after: int


@dataclass(frozen=True, slots=True)
class FigureLine(Record):
    """A figure of a stage as a line of the report.

    Attributes:
        label: what it is, in print.
        value: the figure; None where it was not measured.
        low: lower bound of its interval; None where that is not known.
        high: upper bound.
        n: how many items it is over.
        scale: what it is multiplied by in print.
        about: what a reader has to know of it.
        reason: why there is none.
    """

    label: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    scale: int = 100
    about: str = ""
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """JSON-able: the figure, or the reason why there is none."""
        if self.value is None:
            return {"label": self.label, "value": None, "reason": self.reason}
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "reason"}
