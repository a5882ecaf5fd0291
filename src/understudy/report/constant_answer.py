"""Whether reading the question paid: students and teacher against the answers that read none."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.arms import ARMS, MAJORITY
from understudy.report.formatting import arm_label, in_a_sentence, metric_label, number, scale
from understudy.report.verdicts import ComparisonJson, names_of

_MAKE_IT_LEARN = "more steps, more rows"
_INSPECT = "`understudy inspect RECIPE` shows what the models read and learn"


@dataclass(frozen=True)
class ConstantAnswer:
    """What the majority answer reaches, and what nobody of a run beats.

    Attributes:
        metric: on which metric.
        value: of the majority answer, 0 to 100.
        best: the best student.
        best_value: what it reaches, 0 to 100.
        teacher_value: what the teacher reaches, 0 to 100; None where it was not measured.
        higher_is_better: of the metric.
    """

    metric: str
    value: float
    best: str
    best_value: float
    teacher_value: float | None
    higher_is_better: bool

    @property
    def beats_students(self) -> bool:
        """Whether no student lies above it. Whether one that does is clear of it, its own test says."""
        return not self._clears(self.best_value)

    @property
    def beats_teacher(self) -> bool:
        """Whether the teacher does not lie above it either."""
        return self.teacher_value is not None and not self._clears(self.teacher_value)

    def _clears(self, value: float) -> bool:
        return value > self.value if self.higher_is_better else value < self.value

    @property
    def verdict(self) -> str:
        """The headline where it beats every student."""
        if self.teacher_value is None:
            return "No student beats the constant answer."
        if self.beats_teacher:
            return "No student beats the constant answer, and neither does the teacher."
        return "No student beats the constant answer; the teacher does."

    @property
    def figures(self) -> str:
        """The values behind the verdict."""
        teacher = "" if self.teacher_value is None else f", the teacher {number(self.teacher_value)}"
        return (
            f"The most frequent answers alone, which read no question, reach {number(self.value)} in "
            f"{in_a_sentence(metric_label(self.metric))}; the best student ({arm_label(self.best)}) reaches "
            f"{number(self.best_value)}{teacher}. Differences between students below that level do not show that "
            "a question is read."
        )

    @property
    def advice(self) -> str:
        """What to try next: the student where there is something to learn from the teacher, else the teacher first."""
        if self.beats_teacher:
            return f"Try next: a better teacher ({_MAKE_IT_LEARN} in its own training, or another model). {_INSPECT}."
        return f"Try next: {_MAKE_IT_LEARN}, or a larger student. {_INSPECT}."


def constant_answer(comparison: ComparisonJson, metric: str) -> ConstantAnswer | None:
    """The majority answer of a run against its students and its teacher; None where it or they were not measured.

    Args:
        comparison: `Comparison.to_dict()` of a run's arms.
        metric: on which metric.
    """
    factor, higher = scale(comparison, metric), comparison["metrics"][metric]["higher_is_better"]
    table = comparison["overall"]["table"]
    values = {
        name: table[name][metric]["value"] * factor
        for name in names_of(comparison)
        if (table.get(name, {}).get(metric) or {}).get("value") is not None
    }
    students = [name for name in values if name not in ARMS or ARMS[name].model == "student"]
    if MAJORITY.name not in values or not students:
        return None
    best = (max if higher else min)(students, key=lambda name: values[name])
    return ConstantAnswer(metric, values[MAJORITY.name], best, values[best], values.get("teacher"), higher)
