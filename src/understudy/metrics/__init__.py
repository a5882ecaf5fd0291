"""How good a text is, and how sure that is. Imports neither torch nor a model."""

from understudy.metrics.registry import METRICS, TEXT_METRICS, Metric, score
from understudy.metrics.scores import Score, Texts, mean_score
from understudy.metrics.significance import Difference, Interval, bootstrap_interval, paired_bootstrap

__all__ = [
    "METRICS",
    "TEXT_METRICS",
    "Difference",
    "Interval",
    "Metric",
    "Score",
    "Texts",
    "bootstrap_interval",
    "mean_score",
    "paired_bootstrap",
    "score",
]
