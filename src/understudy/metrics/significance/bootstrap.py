"""How sure a figure is: bootstrap intervals and paired bootstrap tests (Efron, 1979; Koehn, 2004).

Items are drawn with replacement, whole groups at a time where items hang together (several questions about one fact
are not independent evidence). Both sides of a comparison see the same draw, so what an item makes hard for both falls
out of their difference.

The bootstrap's own spread is too small by the factor sqrt((g − 1)/g) for g groups, and its quantiles are those of a
normal where Student's t would be in place. Both are made good as Hesterberg (2015) proposes: the percentiles taken lie
further out, at Φ(−c·z) with c = sqrt(g/(g − 1))·t/z, and c stretches the draws that the p-value counts.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from understudy.metrics.significance.pairing import (
    Values,
    group_numbers,
    measured,
    pair,
    row_sums,
    statistics_of,
)
from understudy.metrics.significance.resampling import Columns, bootstrap_weights, resample, tail_share
from understudy.metrics.significance.results import Record


@dataclass(frozen=True, slots=True)
class Interval(Record):
    """A figure and its bootstrap interval; the bounds are NaN where fewer than two groups are there.

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
class Difference(Record):
    """System a minus system b on the items that both have.

    Attributes:
        mean_a: aggregate of a (for a corpus metric, its corpus value).
        mean_b: aggregate of b.
        difference: `mean_a - mean_b`.
        low: lower bound of the difference's interval; NaN with fewer than two groups.
        high: upper bound.
        p_value: two-sided; the share of draws whose difference strays from the observed one as far as that does
            from 0. Never below 2^(1 − groups), the least that so many signs could show.
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
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> Difference:
    """Compare two systems on the same items.

    Args:
        a: a `Score`, or one value an item; NaN is missing. A corpus metric is resampled from its counts.
        b: the other system, items in the same order.
        resamples: number of draws.
        confidence: level of the interval.
        seed: seed of the draws.
        groups: the group of each item; whole groups are drawn. Default: each item is its own.

    Raises:
        DataError: the two sides have no items, not the same number, or none in common.
    """
    paired = pair(a, b, groups)
    sides = Columns(paired.totals_a, paired.from_a), Columns(paired.totals_b, paired.from_b)
    samples = resample(sides, resamples=resamples, seed=seed)
    return difference_of(
        (paired.value_a, samples[0]),
        (paired.value_b, samples[1]),
        n=paired.n,
        groups=paired.groups,
        confidence=confidence,
        missing=paired.missing,
    )


def bootstrap_interval(
    values: Values,
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> Interval:
    """Bootstrap interval of a mean or of a corpus metric; arguments as in `paired_bootstrap`."""
    statistics, from_totals = statistics_of(values)
    known = measured(values)
    numbers = group_numbers(groups, len(known))
    if not known.any():
        return Interval(float("nan"), float("nan"), float("nan"), 0, len(known))
    statistics = statistics[known]
    names = None if numbers is None else numbers[known].tolist()
    samples = from_totals(resampled_totals(statistics, resamples=resamples, seed=seed, groups=names))
    low, high = percentile_bounds(samples, confidence, num_groups(len(statistics), names))
    value = float(from_totals(statistics.sum(axis=0)))
    return Interval(value, low, high, len(statistics), int((~known).sum()))


def resampled_totals(
    statistics: np.ndarray, *, resamples: int, seed: int, groups: Sequence[Hashable] | None = None
) -> np.ndarray:
    """Column sums of `[n, k]` statistics over `resamples` draws of whole groups: `[resamples, k]`.

    The same seed, items and groups give the same draws whatever the columns are, so figures from several calls pair up.
    """
    numbers = group_numbers(groups, len(statistics))
    if numbers is not None:
        statistics = row_sums(statistics, numbers, int(numbers.max()) + 1)
    return np.concatenate([weights @ statistics for weights in bootstrap_weights(len(statistics), resamples, seed)])


def num_groups(n: int, groups: Sequence[Hashable] | None) -> int:
    """How many independent groups `n` items form."""
    return n if groups is None else len(set(groups))


def difference_of(
    a: tuple[float, np.ndarray],
    b: tuple[float, np.ndarray],
    *,
    n: int,
    groups: int,
    confidence: float,
    missing: int = 0,
) -> Difference:
    """The comparison of two (value, resampled values) pairs that come from the same draws."""
    observed, samples = a[0] - b[0], a[1] - b[1]
    low, high = percentile_bounds(samples, confidence, groups)
    strays = (samples - observed) * expansion(confidence, groups)
    p_value = max(tail_share(strays, observed, abs(a[0]) + abs(b[0])), 2.0 ** (1 - min(groups, 1000)))
    return Difference(a[0], b[0], observed, low, high, p_value, n, groups, missing)


def percentile_bounds(samples: np.ndarray, confidence: float, groups: int) -> tuple[float, float]:
    """Expanded percentile bounds of the samples; draws without a value are passed over."""
    known = samples[np.isfinite(samples)]
    if groups < 2 or not len(known):
        return float("nan"), float("nan")
    from scipy.special import ndtr, ndtri

    outside = float(ndtr(-expansion(confidence, groups) * ndtri((1 + confidence) / 2)))
    low, high = np.quantile(known, [outside, 1 - outside])
    return float(low), float(high)


def expansion(confidence: float, groups: int) -> float:
    """How much wider than the bootstrap's own spread an interval has to be: sqrt(g/(g − 1))·t/z; 1 for one group."""
    if groups < 2:
        return 1.0
    from scipy.special import ndtri, stdtrit

    level = (1 + confidence) / 2
    return float(np.sqrt(groups / (groups - 1)) * stdtrit(groups - 1, level) / ndtri(level))
