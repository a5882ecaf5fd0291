"""How sure a figure is: bootstrap intervals and paired bootstrap tests (Efron, 1979; Koehn, 2004).

Items are drawn with replacement, whole groups at a time where items hang together (several questions about one fact
are not independent evidence). Both sides of a comparison see the same draw, so what an item makes hard for both falls
out of their difference. A draw is a row of weights and a resampled aggregate is weights times statistics: ten thousand
draws of everything are one matrix product.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from understudy.errors import DataError
from understudy.metrics.scores import FromTotals, Score, mean_from_totals

Values = Score | Sequence[float] | np.ndarray
_CHUNK = 1 << 22  # weights held at once: 32 MB


@dataclass(frozen=True, slots=True)
class Interval:
    """A figure and its percentile bootstrap interval; the bounds are NaN where fewer than two groups are there.

    Attributes:
        value: the figure on the items as they are.
        low: lower bound.
        high: upper bound.
        n: number of items.
    """

    value: float
    low: float
    high: float
    n: int

    def excludes(self, value: float) -> bool:
        """Whether `value` lies outside the interval; never true of an interval that is not known."""
        return value < self.low or value > self.high

    def to_dict(self) -> dict[str, float | int | None]:
        """JSON-able: what is not known is null."""
        return _without_nan(asdict(self))


@dataclass(frozen=True, slots=True)
class Difference:
    """System a minus system b on the same items.

    Attributes:
        mean_a: aggregate of a (for a corpus metric, its corpus value).
        mean_b: aggregate of b.
        difference: `mean_a - mean_b`.
        low: lower bound of the difference's percentile interval; NaN with fewer than two groups.
        high: upper bound.
        p_value: two-sided; the share of draws whose difference strays from the observed one as far as that does
            from 0. Never below 2^(1 − groups), the least that so many signs could show.
        n: number of items.
        groups: number of independent groups they form.
    """

    mean_a: float
    mean_b: float
    difference: float
    low: float
    high: float
    p_value: float
    n: int
    groups: int

    def to_dict(self) -> dict[str, float | int | None]:
        """JSON-able: what is not known is null."""
        return _without_nan(asdict(self))


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
        a: a `Score`, or one value an item. A corpus metric is resampled from its counts.
        b: the other system, items in the same order.
        resamples: number of draws.
        confidence: level of the interval.
        seed: seed of the draws.
        groups: the group of each item; whole groups are drawn. Default: each item is its own.

    Raises:
        DataError: the two sides have no items, or not the same number.
    """
    (stats_a, from_a), (stats_b, from_b) = _statistics(a), _statistics(b)
    if len(stats_a) != len(stats_b):
        raise DataError(
            f"cannot pair {len(stats_a)} items with {len(stats_b)}", hint="both sides need the same items in order"
        )
    both = np.concatenate([stats_a, stats_b], axis=1)
    samples = resampled_totals(both, resamples=resamples, seed=seed, groups=groups)
    width = stats_a.shape[1]
    return difference_of(
        (float(from_a(stats_a.sum(axis=0))), from_a(samples[:, :width])),
        (float(from_b(stats_b.sum(axis=0))), from_b(samples[:, width:])),
        n=len(both),
        groups=num_groups(len(both), groups),
        confidence=confidence,
    )


def bootstrap_interval(
    values: Values,
    *,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
    groups: Sequence[Hashable] | None = None,
) -> Interval:
    """Percentile bootstrap interval of a mean or of a corpus metric; arguments as in `paired_bootstrap`."""
    statistics, from_totals = _statistics(values)
    samples = from_totals(resampled_totals(statistics, resamples=resamples, seed=seed, groups=groups))
    low, high = percentile_bounds(samples, confidence, num_groups(len(statistics), groups))
    return Interval(float(from_totals(statistics.sum(axis=0))), low, high, len(statistics))


def resampled_totals(
    statistics: np.ndarray, *, resamples: int, seed: int, groups: Sequence[Hashable] | None = None
) -> np.ndarray:
    """Column sums of `[n, k]` statistics over `resamples` draws of whole groups: `[resamples, k]`.

    The same seed, items and groups give the same draws whatever the columns are, so figures from several calls pair up.
    """
    if groups is not None:
        statistics = _group_sums(statistics, groups)
    count = len(statistics)
    generator = np.random.default_rng(seed)
    chunk = max(1, _CHUNK // count)
    totals = np.empty((resamples, statistics.shape[1]))
    for start in range(0, resamples, chunk):
        rows = min(chunk, resamples - start)
        draws = generator.integers(count, size=(rows, count)) + np.arange(rows)[:, None] * count
        weights = np.bincount(draws.ravel(), minlength=rows * count).reshape(rows, count)
        totals[start : start + rows] = weights.astype(np.float64) @ statistics
    return totals


def num_groups(n: int, groups: Sequence[Hashable] | None) -> int:
    """How many independent groups `n` items form."""
    return n if groups is None else len(set(groups))


def difference_of(
    a: tuple[float, np.ndarray], b: tuple[float, np.ndarray], *, n: int, groups: int, confidence: float
) -> Difference:
    """The comparison of two (value, resampled values) pairs that come from the same draws."""
    observed, samples = a[0] - b[0], a[1] - b[1]
    low, high = percentile_bounds(samples, confidence, groups)
    strays = np.abs(samples - observed) >= abs(observed) * (1 - 1e-9)
    p_value = max((1 + int(strays.sum())) / (1 + len(samples)), 2.0 ** (1 - min(groups, 1000)))
    return Difference(a[0], b[0], observed, low, high, p_value, n, groups)


def percentile_bounds(samples: np.ndarray, confidence: float, groups: int) -> tuple[float, float]:
    """The bounds that leave (1 − confidence)/2 of the samples on either side; draws without a value are passed over."""
    known = samples[np.isfinite(samples)]
    if groups < 2 or not len(known):
        return float("nan"), float("nan")
    low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)


def _statistics(values: Values) -> tuple[np.ndarray, FromTotals]:
    if isinstance(values, Score):
        return values.statistics, values.from_totals
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array):
        raise DataError("a paired test needs at least one value a side, one an item")
    return np.stack([array, np.ones_like(array)], axis=1), mean_from_totals


def _group_sums(statistics: np.ndarray, groups: Sequence[Hashable]) -> np.ndarray:
    if len(groups) != len(statistics):
        raise DataError(f"{len(groups)} group names for {len(statistics)} items")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(groups))}
    sums = np.zeros((len(numbers), statistics.shape[1]))
    np.add.at(sums, [numbers[name] for name in groups], statistics)
    return sums


def _without_nan(fields: dict[str, float | int]) -> dict[str, float | int | None]:
    return {name: None if value != value else value for name, value in fields.items()}
