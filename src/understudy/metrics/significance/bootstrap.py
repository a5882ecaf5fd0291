"""How sure a figure is: bootstrap intervals and paired bootstrap tests (Efron, 1979; Koehn, 2004).

Items are drawn with replacement, whole clusters at a time where items hang together (several questions about one fact
are not independent evidence). Both sides of a comparison see the same draw, so what an item makes hard for both falls
out of their difference. `resampling` says how far out the percentiles are taken.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from understudy.metrics.scores import FromTotals
from understudy.metrics.significance.pairing import (
    Values,
    cluster_numbers,
    measured,
    pair,
    row_sums,
    statistics_of,
)
from understudy.metrics.significance.resampling import (
    DEFAULT_RESAMPLING,
    Columns,
    Resampled,
    Resampling,
    bootstrap_weights,
    resample,
    tail_share,
)
from understudy.metrics.significance.results import Result


@dataclass(frozen=True, slots=True)
class Interval(Result):
    """A figure and its bootstrap interval; the bounds are NaN where fewer than two clusters are there.

    Attributes:
        value: the figure on the items as they are.
        low: lower bound.
        high: upper bound.
        n: number of items that have a value.
        missing: number of items that have none; they are in no figure.
    """

    value: float
    low: float
    high: float
    n: int
    missing: int = 0

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside the interval; never true of an interval that is not known."""
        return value < self.low or value > self.high


@dataclass(frozen=True, slots=True)
class Difference(Result):
    """System a minus system b on the items that both have.

    Attributes:
        mean_a: aggregate of a (for a corpus metric, its corpus value).
        mean_b: aggregate of b.
        difference: `mean_a - mean_b`.
        low: lower bound of the difference's interval; NaN with fewer than two clusters.
        high: upper bound.
        p_value: two-sided; the share of draws whose difference strays from the observed one as far as that does
            from 0. Never below 2^(1 − clusters), the least that so many signs could show.
        n: number of items.
        groups: number of independent groups they form.
        missing: number of items that one side or both lack; they are in no figure.
    """

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p_value: float
    n: int
    groups: int
    missing: int = 0


def paired_bootstrap(
    a: Values,
    b: Values,
    *,
    resampling: Resampling = DEFAULT_RESAMPLING,
    clusters: Sequence[Hashable] | None = None,
) -> Difference:
    """Compare two systems on the same items.

    Args:
        a: a `Score`, or one value an item; NaN is missing. A corpus metric is resampled from its counts.
        b: the other system, items in the same order.
        resampling: draws, level of the interval, seed.
        clusters: the cluster of each item; whole clusters are drawn. Default: each item is its own.

    Raises:
        DataError: the two sides have no items, not the same number, or none in common.
    """
    paired = pair(a, b, clusters)
    sides = Columns(paired.totals_a, paired.from_a), Columns(paired.totals_b, paired.from_b)
    first, second = resample(sides, resampling)
    return difference_of(
        first,
        second,
        n=paired.n,
        num_clusters=paired.num_clusters,
        confidence=resampling.confidence,
        missing=paired.missing,
    )


def bootstrap_interval(
    values: Values,
    *,
    resampling: Resampling = DEFAULT_RESAMPLING,
    clusters: Sequence[Hashable] | None = None,
) -> Interval:
    """Bootstrap interval of a mean or of a corpus metric; arguments as in `paired_bootstrap`."""
    statistics, from_totals = statistics_of(values)
    is_measured = measured(values)
    numbers = cluster_numbers(clusters, len(is_measured))
    if not is_measured.any():
        return Interval(float("nan"), float("nan"), float("nan"), 0, len(is_measured))
    statistics = statistics[is_measured]
    measured_clusters = None if numbers is None else numbers[is_measured].tolist()
    figure = resampled_figure(statistics, from_totals, resampling=resampling, clusters=measured_clusters)
    bounds = figure.bounds(resampling.confidence, count_clusters(len(statistics), measured_clusters))
    return Interval(figure.value, *bounds, len(statistics), int((~is_measured).sum()))


def resampled_figure(
    statistics: np.ndarray,
    from_totals: FromTotals,
    *,
    resampling: Resampling = DEFAULT_RESAMPLING,
    clusters: Sequence[Hashable] | None = None,
) -> Resampled:
    """A figure of `[n, k]` statistics over draws of whole clusters.

    The same seed, items and clusters give the same draws whatever the columns are, so that figures from several calls
    pair up.
    """
    return resample([Columns(_cluster_sums(statistics, clusters), from_totals)], resampling)[0]


def resampled_totals(
    statistics: np.ndarray, *, resampling: Resampling = DEFAULT_RESAMPLING, clusters: Sequence[Hashable] | None = None
) -> np.ndarray:
    """Column sums of `[n, k]` statistics over the same draws of whole clusters: `[draws, k]`."""
    summed = _cluster_sums(statistics, clusters)
    return np.concatenate([weights @ summed for weights in bootstrap_weights(len(summed), resampling)])


def _cluster_sums(statistics: np.ndarray, clusters: Sequence[Hashable] | None) -> np.ndarray:
    numbers = cluster_numbers(clusters, len(statistics))
    return statistics if numbers is None else row_sums(statistics, numbers, int(numbers.max()) + 1)


def count_clusters(n: int, clusters: Sequence[Hashable] | None) -> int:
    """How many independent clusters `n` items form."""
    return n if clusters is None else len(set(clusters))


def difference_of(
    a: Resampled, b: Resampled, *, n: int, num_clusters: int, confidence: float, missing: int = 0
) -> Difference:
    """The comparison of two figures that come from the same draws."""
    difference = a.minus(b)
    deviations = (difference.samples - difference.value) * difference.expansion(confidence, num_clusters)
    p_value = max(
        tail_share(deviations, difference.value, abs(a.value) + abs(b.value)), 2.0 ** (1 - min(num_clusters, 1000))
    )
    return Difference(
        a.value,
        b.value,
        difference.value,
        *difference.bounds(confidence, num_clusters),
        p_value,
        n,
        num_clusters,
        missing,
    )
