"""Many tests at once: p-values corrected as one family, and several systems ranked on the same items."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Literal, TypeVar

import numpy as np

from understudy.errors import DataError
from understudy.metrics.significance.pairing import Values, cluster_numbers, per_item, tidy
from understudy.metrics.significance.results import Friedman

Name = TypeVar("Name", bound=Hashable)
_METHODS = {"holm": "holm", "bh": "fdr_bh"}


def adjusted(p_values: Mapping[Name, float], method: Literal["holm", "bh"] = "holm") -> dict[Name, float]:
    """p-values corrected over the whole family; NaN stays NaN and is not counted.

    Args:
        p_values: name of the test -> p-value.
        method: `holm` (1979) holds the probability of even one false finding; `bh` (Benjamini and Hochberg, 1995)
            holds the expected share of false ones among the findings.
    """
    from statsmodels.stats.multitest import multipletests

    finite = {name: value for name, value in p_values.items() if value == value}
    if not finite:
        return dict(p_values)
    corrected = np.asarray(multipletests(list(finite.values()), method=_METHODS[method])[1], dtype=np.float64)
    return {**p_values, **dict(zip(finite, corrected.tolist(), strict=True))}


def holm_levels(p_values: Mapping[Name, float], alpha: float = 0.05) -> dict[Name, float]:
    """The level at which Holm tests each p-value: alpha / (m − number of smaller ones); NaN where there is none.

    Equal p-values share the strictest level of theirs.

    Args:
        p_values: name of the test -> p-value; m is the number of those that are not NaN.
        alpha: level of the whole family.
    """
    finite = [value for value in p_values.values() if value == value]
    return {
        name: alpha / (len(finite) - sum(other < value for other in finite)) if value == value else float("nan")
        for name, value in p_values.items()
    }


def friedman_test(
    systems: Mapping[str, Values],
    *,
    clusters: Sequence[Hashable] | None = None,
    higher_is_better: bool = True,
    alpha: float = 0.05,
) -> Friedman:
    """Rank the systems on every item (cluster) and ask whether average ranks differ (Friedman, 1937; Demšar, 2006).

    Two average ranks differ at `alpha` where they are further apart than Nemenyi's critical difference
    q·sqrt(k(k + 1)/(6n)), q the studentised range's quantile over √2.

    Args:
        systems: name -> `Score` or one value per item, items in the same order; items that any lacks are left out.
        clusters: the cluster of each item; cluster means are ranked.
        higher_is_better: the metric's direction.
        alpha: level of the critical difference.

    Raises:
        DataError: fewer than two systems, lengths differ, or no item that all have.
    """
    if len(systems) < 2:
        raise DataError("ranking needs at least two systems")
    table = _blocks(systems, clusters)
    n, k = table.shape
    ranks = _ranks(table if not higher_is_better else -table)
    average = ranks.mean(axis=0)
    order = np.argsort(average, kind="stable")
    statistic, p_value = _chi_squared(table) if k > 2 else (float("nan"), float("nan"))
    rank_error = float(np.sqrt(k * (k + 1) / (6 * n)))
    critical = _studentised_quantile(alpha, k) / np.sqrt(2) * rank_error
    names, sorted_ranks = list(systems), average[order]
    return Friedman(
        systems=tuple(names[index] for index in order),
        average_ranks=tuple(sorted_ranks.tolist()),
        statistic=statistic,
        p_value=p_value,
        critical_difference=float(critical),
        nemenyi=_nemenyi(sorted_ranks, rank_error),
        cliques=tuple(
            tuple(names[index] for index in order[start:stop]) for start, stop in cliques(sorted_ranks, critical)
        ),
        alpha=alpha,
        n=n,
    )


def cliques(ranks: np.ndarray, critical_difference: float) -> list[tuple[int, int]]:
    """`(start, stop)` of the longest runs of sorted ranks no further apart than that; runs of one are left out."""
    stops = np.searchsorted(ranks, ranks + critical_difference + 1e-12, side="right")
    runs = [(0, int(stops[0]))] + [
        (start + 1, int(stop)) for start, (previous_stop, stop) in enumerate(pairwise(stops)) if stop > previous_stop
    ]
    return [(start, stop) for start, stop in runs if stop - start > 1]


def _blocks(systems: Mapping[str, Values], clusters: Sequence[Hashable] | None) -> np.ndarray:
    columns = [per_item(values) for values in systems.values()]
    if len({len(column) for column in columns}) > 1:
        raise DataError("the systems do not have the same number of items")
    table = np.stack(columns, axis=1)
    in_all_systems = ~np.isnan(table).any(axis=1)
    if not in_all_systems.any():
        raise DataError("there is no item that all systems have")
    numbers = cluster_numbers(clusters, len(table))
    table = table[in_all_systems]
    if numbers is None:
        return tidy(table)
    rows = np.unique(numbers[in_all_systems], return_inverse=True)[1]
    sums = np.stack([np.bincount(rows, weights=column) for column in table.T], axis=1)
    return tidy(sums / np.bincount(rows)[:, None])


def _ranks(table: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return rankdata(table, axis=1)


def _chi_squared(table: np.ndarray) -> tuple[float, float]:
    from scipy.stats import friedmanchisquare

    if (table == table[:, :1]).all():
        return 0.0, 1.0
    result = friedmanchisquare(*table.T)
    return float(result.statistic), float(result.pvalue)


def _nemenyi(ranks: np.ndarray, rank_error: float) -> tuple[tuple[float, ...], ...]:
    from scipy.stats import studentized_range

    scaled_gaps = np.abs(ranks[:, None] - ranks[None, :]) / rank_error * np.sqrt(2)
    p_values = np.ones_like(scaled_gaps)
    upper = np.triu_indices(len(ranks), 1)
    p_values[upper] = np.clip(studentized_range.sf(scaled_gaps[upper], len(ranks), np.inf), 0.0, 1.0)
    p_values.T[upper] = p_values[upper]
    return tuple(tuple(row) for row in p_values.tolist())


@lru_cache(maxsize=64)
def _studentised_quantile(alpha: float, k: int) -> float:
    from scipy.stats import studentized_range

    return float(studentized_range.ppf(1 - alpha, k, np.inf))
