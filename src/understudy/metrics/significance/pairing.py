"""Two systems side by side: the items that both have, as rows whose sums give each one's figure.

Pairing is by position. An item that either system lacks (NaN in `per_example`, or in a plain list of values) is taken
out of both, so that a difference is always over the same items; `missing` counts them.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np

from understudy.errors import DataError
from understudy.metrics.scores import FromTotals, Score, mean_from_totals

Values = Score | Sequence[float] | np.ndarray


@dataclass(frozen=True, slots=True, eq=False)
class Paired:
    """What two systems have in common.

    Attributes:
        totals_a: `[rows, k]` statistics of a, summed over the items of each cluster; zeros where a cluster has none.
        totals_b: likewise of b.
        from_a: column sums of `totals_a` -> a's figure.
        from_b: likewise of b.
        values_a: `[n]` per-item values of a, items that both sides have.
        values_b: `[n]` likewise of b.
        rows: `[n]` which row of the totals each of these items went to.
        missing: number of items that one side or both lack.
    """

    totals_a: np.ndarray
    totals_b: np.ndarray
    from_a: FromTotals
    from_b: FromTotals
    values_a: np.ndarray
    values_b: np.ndarray
    rows: np.ndarray
    missing: int

    @property
    def n(self) -> int:
        """Items that both sides have."""
        return len(self.rows)

    @property
    def num_clusters(self) -> int:
        """Independent clusters that these items form."""
        return len(np.unique(self.rows))

    @property
    def value_a(self) -> float:
        """Figure of a over these items."""
        return float(self.from_a(self.totals_a.sum(axis=0)))

    @property
    def value_b(self) -> float:
        """Figure of b over the same items."""
        return float(self.from_b(self.totals_b.sum(axis=0)))

    @property
    def differences(self) -> np.ndarray:
        """`[n]` per-item differences, free of the last digits' noise so that ties are ties."""
        return tidy(self.values_a - self.values_b)

    @property
    def is_mean(self) -> bool:
        """Whether both figures are plain means of their per-item values."""
        return self.from_a is mean_from_totals and self.from_b is mean_from_totals

    def cluster_means(self, values: np.ndarray) -> np.ndarray:
        """`[clusters]` mean of `[n]` per-item values over each cluster's items."""
        sizes = np.bincount(self.rows)
        return np.bincount(self.rows, weights=values)[sizes > 0] / sizes[sizes > 0]


def pair(a: Values, b: Values, clusters: Sequence[Hashable] | None = None) -> Paired:
    """Set two systems side by side, rows for the clusters that are left once missing items are out.

    Args:
        a: a `Score`, or one value per item; NaN is missing.
        b: the other system, items in the same order.
        clusters: the cluster of each item. Default: each item is its own.

    Raises:
        DataError: no items, not the same number, or none that both sides have.
    """
    (totals_a, _), (totals_b, _) = statistics_of(a), statistics_of(b)
    if len(totals_a) != len(totals_b):
        raise DataError(
            f"cannot pair {len(totals_a)} items with {len(totals_b)}", hint="both sides need the same items in order"
        )
    in_both = measured(a) & measured(b)
    if not in_both.any():
        raise DataError("there is no item that both sides have", hint="see each score's `reason` and `per_example`")
    return pair_rows(a, b, cluster_numbers(clusters, len(in_both)), compact=True)


def pair_rows(a: Values, b: Values, numbers: np.ndarray | None, *, compact: bool = False) -> Paired:
    """As `pair`, for cluster numbers; without `compact` rows of clusters without an item stay, as zeros."""
    (statistics_a, from_a), (statistics_b, from_b) = statistics_of(a), statistics_of(b)
    in_both = measured(a) & measured(b)
    rows = np.arange(len(in_both)) if numbers is None else numbers
    count = len(in_both) if numbers is None else int(numbers.max()) + 1
    item_rows = rows[in_both]
    if compact:
        item_rows = np.unique(item_rows, return_inverse=True)[1]
        count = int(item_rows.max()) + 1
    summed = [row_sums(statistics[in_both], item_rows, count) for statistics in (statistics_a, statistics_b)]
    values = [per_item(side)[in_both] for side in (a, b)]
    return Paired(summed[0], summed[1], from_a, from_b, values[0], values[1], item_rows, int((~in_both).sum()))


def statistics_of(values: Values) -> tuple[np.ndarray, FromTotals]:
    """`[n, k]` statistics and what turns their column sums into a figure; a missing item's row is zeros."""
    if isinstance(values, Score):
        return values.statistics, values.from_totals
    array = per_item(values)
    if array.ndim != 1 or not len(array):
        raise DataError("a paired test needs at least one value a side, one an item")
    is_measured = ~np.isnan(array)
    return np.stack([np.where(is_measured, array, 0.0), is_measured.astype(np.float64)], axis=1), mean_from_totals


def per_item(values: Values) -> np.ndarray:
    """`[n]` per-item values, NaN where missing."""
    return np.asarray(values.per_example if isinstance(values, Score) else values, dtype=np.float64)


def measured(values: Values) -> np.ndarray:
    """`[n]` bool: which items have a value."""
    return ~np.isnan(per_item(values))


def cluster_numbers(clusters: Sequence[Hashable] | None, items: int) -> np.ndarray | None:
    """`[items]` number of each item's cluster, in order of appearance; None where each item is its own."""
    if clusters is None:
        return None
    if len(clusters) != items:
        raise DataError(f"{len(clusters)} group names for {items} items")
    numbers = {name: number for number, name in enumerate(dict.fromkeys(clusters))}
    return np.array([numbers[name] for name in clusters])


def row_sums(statistics: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """`[count, k]`: the statistics of each row's items, added up."""
    if len(rows) == count and np.array_equal(rows, np.arange(count)):
        return statistics
    return np.stack([np.bincount(rows, weights=column, minlength=count) for column in statistics.T], axis=1)


def tidy(values: np.ndarray) -> np.ndarray:
    """`values` to twelve decimals: two sums that are equal on paper may differ in the last bit."""
    return np.round(values, 12) + 0.0
