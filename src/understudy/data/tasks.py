"""From examples with rationales to the texts that a student learns: prefixes, targets, weights.

| task             | the student reads                              | and learns to write            |
|------------------|------------------------------------------------|--------------------------------|
| `answer`         | question                                       | answer                         |
| `rationale`      | question                                       | rationale, mark, answer        |
| `predict`        | `[predict]` question                           | answer                         |
| `explain`        | `[explain]` question                           | rationale                      |
| `factual`        | `[factual]` question                           | rationale, mark, answer        |
| `counterfactual` | `[counterfactual]` question (with a rationale) | (rationale, mark,) that answer |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from understudy.types import Example

ANSWER_MARK = "So the answer is:"
"""Stands between a rationale and the answer that follows from it; no line break, for some vocabularies have none."""


@dataclass(frozen=True)
class Explained:
    """An example with what a teacher wrote about it.

    Attributes:
        example: the row, with its gold answer.
        rationale: argues for the right answer; None where none was kept.
        counterfactuals: place of a wrong option → a text that argues for it.
    """

    example: Example
    rationale: str | None = None
    counterfactuals: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TaskRow:
    """One text to learn.

    Attributes:
        example: the row as it is put to the student: prefix in the question, the target as its only answer.
        task: `predict`, `explain`, `factual` …; the loss is a weighted sum of one mean per task.
        weight: of its task in the loss.
        given: how much of the target's beginning stands there without being learned (a rationale teacher-forced in
            the decoder); a prefix of the target, in characters.
    """

    example: Example
    task: str
    weight: float = 1.0
    given: int = 0
