"""Scores of each system by itself: values, intervals, signatures, one value an item, and what was not measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from understudy.evaluation.compare import versions
from understudy.evaluation.scoring import score_systems
from understudy.evaluation.systems import System
from understudy.metrics import MetricModels
from understudy.metrics.significance import DEFAULT_RESAMPLING, Resampling


def evaluation(
    systems: Sequence[System],
    metrics: Sequence[str],
    models: MetricModels | None = None,
    *,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> dict[str, Any]:
    """Score every system on its own items; they need not be the same.

    Returns:
        JSON-able: `systems` (name -> items, ids and `metrics`: each score with its interval and per-example values),
        `not_measured` (metric -> system -> reason), `notes`, `settings`, `versions`.
    """
    results: dict[str, Any] = {"systems": {}, "not_measured": {}, "notes": []}
    for system in systems:
        scored = score_systems([system], metrics, models)
        intervals = scored.intervals(resampling)[system.name]
        results["systems"][system.name] = {
            "origin": system.origin,
            "items": len(scored.rows),
            "groups": len(set(scored.clusters)),
            "ids": [row.id for row in scored.rows],
            "metrics": {
                name: {
                    **result.to_dict(),
                    "low": intervals[name].to_dict()["low"],
                    "high": intervals[name].to_dict()["high"],
                }
                for name, result in scored.scores[system.name].items()
            },
        }
        for metric, reasons in scored.not_measured.items():
            results["not_measured"].setdefault(metric, {}).update(reasons)
        results["notes"] += [note for note in scored.notes if note not in results["notes"]]
    return {**results, "settings": resampling.to_dict(), "versions": versions()}
