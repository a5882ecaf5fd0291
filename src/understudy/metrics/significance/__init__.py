"""How sure a figure is.

`compare_systems` and `compare_many` answer whole questions; the rest are the parts they are made of.
"""

from understudy.metrics.significance.bootstrap import (
    Difference,
    Interval,
    bootstrap_interval,
    count_clusters,
    difference_of,
    paired_bootstrap,
    resampled_figure,
    resampled_totals,
)
from understudy.metrics.significance.compare import compare_many, compare_systems
from understudy.metrics.significance.effects import cohen_dz, odds_ratio, rank_biserial
from understudy.metrics.significance.factorial import Anova, factorial_anova
from understudy.metrics.significance.mixed import SeedsModel, seeds_model
from understudy.metrics.significance.multiple_testing import adjusted, friedman_test
from understudy.metrics.significance.paired_tests import PairedTest, mcnemar_test, randomisation_test, wilcoxon_test
from understudy.metrics.significance.power import Power, power_analysis
from understudy.metrics.significance.resampling import DEFAULT_RESAMPLING, Resampled, Resampling
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
    "DEFAULT_RESAMPLING",
    "Anova",
    "Difference",
    "Effect",
    "Friedman",
    "Interval",
    "McNemar",
    "MetricComparison",
    "NotMeasured",
    "PairTest",
    "PairedTest",
    "Power",
    "Resampled",
    "Resampling",
    "SeedsModel",
    "Settings",
    "SystemComparison",
    "SystemsComparison",
    "adjusted",
    "bootstrap_interval",
    "cohen_dz",
    "compare_many",
    "compare_systems",
    "count_clusters",
    "difference_of",
    "factorial_anova",
    "friedman_test",
    "mcnemar_test",
    "odds_ratio",
    "paired_bootstrap",
    "power_analysis",
    "randomisation_test",
    "rank_biserial",
    "resampled_figure",
    "resampled_totals",
    "seeds_model",
    "wilcoxon_test",
]
