"""Scores of each system by itself: values, intervals, signatures, one value an item, and what was not measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.evaluation.compare import versions
from understudy.evaluation.scoring import Scored, score_systems
from understudy.evaluation.systems import System
from understudy.metrics import Interval, MetricModels, Score
from understudy.metrics.significance import DEFAULT_RESAMPLING, Resampling


@dataclass(frozen=True)
class SystemScores:
    """The scores of one system on its own items.

    Attributes:
        origin: the file or folder that its answers come from.
        ids: of the items.
        groups: number of facts (or other groups) that the items ask about.
        scores: metric -> score.
        intervals: metric -> the same with its interval.
    """

    origin: str
    ids: Sequence[str]
    groups: int
    scores: Mapping[str, Score]
    intervals: Mapping[str, Interval]

    @property
    def items(self) -> int:
        """Number of items."""
        return len(self.ids)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: each score with its interval and its values item by item."""
        bounds = {name: interval.to_dict() for name, interval in self.intervals.items()}
        metrics = {
            name: {**score.to_dict(), "low": bounds[name]["low"], "high": bounds[name]["high"]}
            for name, score in self.scores.items()
        }
        about = {"origin": self.origin, "items": self.items, "groups": self.groups, "ids": list(self.ids)}
        return {**about, "metrics": metrics}


@dataclass(frozen=True)
class Evaluation:
    """Systems, each scored on its own items.

    Attributes:
        systems: name -> scores.
        not_measured: metric -> system -> why there is no figure.
        notes: what was left out, in words.
        settings: draws and level of the intervals.
    """

    systems: Mapping[str, SystemScores]
    not_measured: Mapping[str, Mapping[str, str]]
    notes: Sequence[str]
    settings: Resampling

    def to_dict(self) -> dict[str, Any]:
        """JSON-able: what `scores.json` of `understudy evaluate` holds."""
        return {
            "systems": {name: system.to_dict() for name, system in self.systems.items()},
            "not_measured": {metric: dict(reasons) for metric, reasons in self.not_measured.items()},
            "notes": list(self.notes),
            "settings": self.settings.to_dict(),
            "versions": versions(),
        }


def evaluation(
    systems: Sequence[System],
    metrics: Sequence[str],
    models: MetricModels | None = None,
    *,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Evaluation:
    """Score every system on its own items; they need not be the same."""
    evaluated: dict[str, SystemScores] = {}
    not_measured: dict[str, dict[str, str]] = {}
    notes: dict[str, None] = {}
    for system in systems:
        scored = score_systems([system], metrics, models)
        evaluated[system.name] = _scores_of(system, scored, resampling)
        for metric, reasons in scored.not_measured.items():
            not_measured.setdefault(metric, {}).update(reasons)
        notes |= dict.fromkeys(scored.notes)
    return Evaluation(evaluated, not_measured, list(notes), resampling)


def _scores_of(system: System, scored: Scored, resampling: Resampling) -> SystemScores:
    return SystemScores(
        system.origin,
        [row.id for row in scored.rows],
        len(set(scored.clusters)),
        scored.scores[system.name],
        scored.intervals(resampling)[system.name],
    )
