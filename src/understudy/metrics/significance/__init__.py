"""How sure a figure is."""

from understudy.metrics.significance.bootstrap import (
    Difference,
    Interval,
    bootstrap_interval,
    difference_of,
    num_groups,
    paired_bootstrap,
    percentile_bounds,
    resampled_totals,
)
from understudy.metrics.significance.compare import compare_many, compare_systems
from understudy.metrics.significance.results import (
    Effect,
    Friedman,
    McNemar,
    MetricComparison,
    NotMeasured,
    PairTest,
    Settings,
    SystemComparison,
    SystemsComparison,
)

__all__ = [
    "Difference",
    "Effect",
    "Friedman",
    "Interval",
    "McNemar",
    "MetricComparison",
    "NotMeasured",
    "PairTest",
    "Settings",
    "SystemComparison",
    "SystemsComparison",
    "bootstrap_interval",
    "compare_many",
    "compare_systems",
    "difference_of",
    "num_groups",
    "paired_bootstrap",
    "percentile_bounds",
    "resampled_totals",
]
