"""From the sums of a few steps to a line of the log: what each term is the mean over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

STATISTICS = ("agreement", "student_entropy", "teacher_entropy", "mapped_mass")
"""Terms that are measured in some steps alone."""


def looked_at_means(sums: dict[str, Any]) -> dict[str, float]:
    """Take the terms of the student's own answers and of weighed rows out of `sums`; means, and counts as such."""
    names = [
        name for name in sums if name.startswith(("rollout_", "filtered_")) or name in ("row_weight", "weighed_rows")
    ]
    own = {name: float(sums.pop(name)) for name in names}
    means = {name: value / own[unit] for name, value in own.items() if own.get(unit := _unit(name), 0)}
    return means | {name: value for name, value in own.items() if name.startswith("filtered_")}


def _unit(name: str) -> str:
    """What a term is the mean over; empty for what counts, and is no mean."""
    if name in _ROLLOUT_UNITS.values():
        return ""
    statistics = "rollout_measured_tokens" if name.removeprefix("rollout_") in STATISTICS else "rollout_tokens"
    return _ROLLOUT_UNITS.get(name, statistics)


_ROLLOUT_UNITS = {
    **dict.fromkeys(("rollout_length", "rollout_finished", "rollout_repetition", "rollout_age"), "rollout_rows"),
    "rollout_overlap": "rollout_compared_tokens",
    "rollout_teacher_logp": "rollout_heard_tokens",
    "rollout_agreement": "rollout_measured_tokens",
    "rollout_divergence": "rollout_tokens",
    "row_weight": "weighed_rows",
    **{f"filtered_{why}": "" for why in ("entropy", "gold", "teachers")},
}


def task_terms(tasks: Sequence[str]) -> list[str]:
    """The terms of the losses of tasks, by their names in `Result.sums`."""
    return [name for task in tasks for name in (f"task_{task}", f"task_{task}_tokens")]


def task_means(sums: dict[str, Any], tasks: Sequence[str]) -> dict[str, float]:
    """Take the terms of tasks out of `sums`; the mean cross-entropy of each that had a token."""
    task_sums = {name: sums.pop(name).item() for name in task_terms(tasks)}
    tokens = {task: task_sums[f"task_{task}_tokens"] for task in tasks}
    return {f"task_{task}": task_sums[f"task_{task}"] / number for task, number in tokens.items() if number}
