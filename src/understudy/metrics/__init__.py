"""How good a text is, and how sure that is. Imports neither torch nor a model."""

from understudy.metrics.registry import METRICS, TEXT_METRICS, Metric, score
from understudy.metrics.scores import Score, Texts, Tools, mean_score, not_measured
from understudy.metrics.significance import Difference, Interval, bootstrap_interval, paired_bootstrap

__all__ = [
    "METRICS",
    "TEXT_METRICS",
    "Difference",
    "Interval",
    "Metric",
    "Score",
    "Texts",
    "Tools",
    "bootstrap_interval",
    "mean_score",
    "not_measured",
    "paired_bootstrap",
    "score",
]
