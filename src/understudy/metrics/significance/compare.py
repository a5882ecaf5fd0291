"""Whole comparisons: two systems on every metric, or all pairs of several."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Literal

from understudy.metrics.scores import Score
from understudy.metrics.significance.results import SystemComparison, SystemsComparison


def compare_systems(
    scores_a: Mapping[str, Score],
    scores_b: Mapping[str, Score],
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
    power: float = 0.8,
    seed: int = 0,
) -> SystemComparison:
    """Compare two systems on every metric that both have, with one set of draws."""
    raise NotImplementedError


def compare_many(
    systems: Mapping[str, Mapping[str, Score]],
    *,
    groups: Sequence[Hashable] | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
    power: float = 0.8,
    seed: int = 0,
    family_test: Literal["randomisation", "bootstrap"] = "randomisation",
) -> SystemsComparison:
    """Compare all pairs of systems on all metrics; p-values adjusted over the whole family."""
    raise NotImplementedError
