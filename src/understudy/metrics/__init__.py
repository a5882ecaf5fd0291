"""How good a text is, and how sure that is. Imports neither torch nor a model."""

from understudy.metrics.registry import (
    BUNDLE,
    BUNDLE_PUBLISHED,
    EMBEDDING,
    JUDGED,
    LABELS,
    METRICS,
    NGRAM,
    RETRIEVAL,
    SPEECH,
    STUDY_METRICS,
    TEXT_METRICS,
    Metric,
    register,
    score,
)
from understudy.metrics.scores import MetricInputs, MetricModels, Score, mean_score, not_measured
from understudy.metrics.significance import Difference, Interval, bootstrap_interval, paired_bootstrap

__all__ = [
    "BUNDLE",
    "BUNDLE_PUBLISHED",
    "EMBEDDING",
    "JUDGED",
    "LABELS",
    "METRICS",
    "NGRAM",
    "RETRIEVAL",
    "SPEECH",
    "STUDY_METRICS",
    "TEXT_METRICS",
    "Difference",
    "Interval",
    "Metric",
    "MetricInputs",
    "MetricModels",
    "Score",
    "bootstrap_interval",
    "mean_score",
    "not_measured",
    "paired_bootstrap",
    "register",
    "score",
]
