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

__all__ = [
    "Difference",
    "Interval",
    "bootstrap_interval",
    "difference_of",
    "num_groups",
    "paired_bootstrap",
    "percentile_bounds",
    "resampled_totals",
]
