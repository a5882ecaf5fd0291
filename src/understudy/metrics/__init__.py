"""How good a text is, and how sure that is. Imports neither torch nor a model."""

from understudy.metrics.registry import (
    EMBEDDING,
    FOURTEEN,
    JUDGED,
    METRICS,
    NGRAM,
    TEXT_METRICS,
    Metric,
    register,
    score,
)
from understudy.metrics.scores import Score, Texts, Tools, mean_score, not_measured
from understudy.metrics.significance import Difference, Interval, bootstrap_interval, paired_bootstrap

__all__ = [
    "EMBEDDING",
    "FOURTEEN",
    "JUDGED",
    "METRICS",
    "NGRAM",
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
    "register",
    "score",
]
