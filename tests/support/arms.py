"""Arms of a run that was never run: prediction rows by arm, compared as those of a run folder are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from understudy.evaluation.compare import Comparison, compare
from understudy.evaluation.scoring import score_systems
from understudy.evaluation.systems import System
from understudy.metrics import TEXT_METRICS, MetricModels
from understudy.metrics.significance import DEFAULT_RESAMPLING, MetricComparison, Resampling
from understudy.records import Prediction

Rows = Sequence[Prediction] | Sequence[Mapping[str, Any]]


def compare_arms(
    arms: Mapping[str, Rows],
    *,
    metrics: Sequence[str] = TEXT_METRICS,
    resampling: Resampling = DEFAULT_RESAMPLING,
    models: MetricModels | None = None,
) -> Comparison:
    systems = [
        System(name, list(map(_prediction, rows)), "run", arm=name, seed=0, family=f"run/{name}")
        for name, rows in arms.items()
    ]
    return compare(score_systems(systems, metrics, models), resampling=resampling)


def _prediction(row: Prediction | Mapping[str, Any]) -> Prediction:
    return row if isinstance(row, Prediction) else Prediction.from_json(row)


def difference(comparison: Comparison, a: str, b: str, metric: str) -> MetricComparison:
    """What was found of one pair on one metric."""
    [test] = [test for test in comparison.tests.tests if (test.a, test.b, test.metric) == (a, b, metric)]
    return test.comparison
