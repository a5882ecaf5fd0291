"""What it would take to be sure: the least difference that so many items can show, and how many items it takes.

For paired differences with standard error s over g independent clusters, Student's t rejects with probability

    P(|T'(g − 1, δ/s)| > t_{1−α/2, g−1}),    T' noncentral t,

for a true difference δ. Where items are correlated, s is that of cluster totals, so g clusters count and not n items. A
corpus metric has no per-item differences; its s is the jackknife's, each cluster left out in turn.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from understudy.metrics.significance.pairing import Paired, Values, pair
from understudy.metrics.significance.resampling import jackknife_error
from understudy.metrics.significance.results import MetricComparison, Result

POWER = 0.8
"""Probability of finding a true difference, where nothing else is asked for."""

_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Power(Result):
    """What the items at hand can show.

    Attributes:
        difference: a minus b, as observed.
        standard_error: of the difference, over whole clusters.
        minimal_detectable: the least true difference that is found with the power asked for.
        items_needed: how many items would find a true difference as large as the observed one with that power; NaN
            where it is 0. An estimate as uncertain as the difference itself.
        n: number of items.
        groups: number of independent groups they form.
        power: the power asked for.
        alpha: level of the two-sided test.
    """

    difference: float
    standard_error: float
    minimal_detectable: float
    items_needed: float
    n: int
    groups: int
    power: float
    alpha: float


def power_analysis(
    a: Values,
    b: Values,
    *,
    clusters: Sequence[Hashable] | None = None,
    power: float = POWER,
    alpha: float = 0.05,
) -> Power:
    """What the items at hand can show of two systems; arguments as in `randomisation_test`."""
    paired = pair(a, b, clusters)
    error = standard_error(paired)
    difference = paired.value_a - paired.value_b
    return Power(
        difference=difference,
        standard_error=error,
        minimal_detectable=minimal_detectable(error, paired.num_clusters, power=power, alpha=alpha),
        items_needed=items_needed(difference, error, paired.num_clusters, items=paired.n, power=power, alpha=alpha),
        n=paired.n,
        groups=paired.num_clusters,
        power=power,
        alpha=alpha,
    )


def standard_error(paired: Paired) -> float:
    """Standard error of a difference over whole clusters, NaN with fewer than two.

    Of means sqrt(g/(g − 1)·Σ_g (Σ_{i∈g} dᵢ − d̄)²)/n, of a corpus metric the jackknife's.
    """
    num_clusters = paired.num_clusters
    if num_clusters < 2:
        return _NAN
    if not paired.is_mean:
        return jackknife_error(_without_each_cluster(paired), paired.value_a - paired.value_b, num_clusters)
    differences = paired.differences
    sums = np.bincount(paired.rows, weights=differences - differences.mean())
    return float(np.sqrt(num_clusters / (num_clusters - 1) * (sums**2).sum())) / paired.n


def _without_each_cluster(paired: Paired) -> np.ndarray:
    """`[rows]` the difference with each row of the totals left out."""
    a, b = paired.totals_a.sum(axis=0), paired.totals_b.sum(axis=0)
    return np.asarray(paired.from_a(a - paired.totals_a)) - np.asarray(paired.from_b(b - paired.totals_b))


def minimal_detectable(error: float, num_clusters: int, *, power: float = POWER, alpha: float = 0.05) -> float:
    """The least true difference that a two-sided test of level `alpha` finds with probability `power`.

    Args:
        error: standard error of the difference.
        num_clusters: number of independent clusters behind it.
        power: probability of finding it.
        alpha: level of the test.
    """
    return (
        _NAN
        if num_clusters < 2 or math.isnan(error)
        else required_noncentrality(num_clusters - 1, power, alpha) * error
    )


def items_needed(
    difference: float, error: float, num_clusters: int, *, items: int, power: float = POWER, alpha: float = 0.05
) -> float:
    """How many items would find a true difference of this size, if they vary and are correlated as these are.

    A whole number; NaN where the difference is 0 or nothing is known of its error.
    """
    if num_clusters < 2 or math.isnan(error) or difference == 0:
        return _NAN
    spread = error * math.sqrt(num_clusters)
    needed = 2.0
    for _ in range(50):  # contracts quickly: required_noncentrality hardly depends on the degrees of freedom
        previous, needed = (
            needed,
            max(2.0, (required_noncentrality(round(needed) - 1, power, alpha) * spread / difference) ** 2),
        )
        if abs(needed - previous) < 0.5:
            break
    return float(math.ceil(math.ceil(needed - 1e-9) * items / num_clusters))


def items_needed_at(comparison: MetricComparison, level: float, *, power: float, alpha: float) -> float:
    """`items_needed` of a comparison at another level, such as that of its step in Holm's correction.

    Args:
        comparison: of two systems; its standard error is taken back from the difference that it can detect.
        level: of the test that is to find the difference.
        power: as in the comparison.
        alpha: level that the comparison was made for.
    """
    num_clusters = comparison.groups
    if num_clusters < 2 or math.isnan(level) or math.isnan(comparison.minimal_detectable):
        return _NAN
    error = comparison.minimal_detectable / required_noncentrality(num_clusters - 1, power, alpha)
    return items_needed(comparison.difference, error, num_clusters, items=comparison.n, power=power, alpha=level)


def power_of(difference: float, error: float, num_clusters: int, *, alpha: float = 0.05) -> float:
    """Probability that a two-sided t-test of level `alpha` finds a true difference of this size."""
    if num_clusters < 2 or math.isnan(error):
        return _NAN
    if error == 0:
        return 1.0 if difference else alpha
    return _power(abs(difference) / error, num_clusters - 1, alpha)


@lru_cache(maxsize=4096)
def required_noncentrality(degrees_of_freedom: int, power: float, alpha: float) -> float:
    """The true difference, in standard errors, that is found with probability `power`."""
    from scipy.optimize import brentq

    upper = 10.0
    while _power(upper, degrees_of_freedom, alpha) < power:
        upper *= 2
    root: Any = brentq(lambda noncentrality: _power(noncentrality, degrees_of_freedom, alpha) - power, 0.0, upper)
    return float(root)


def _power(noncentrality: float, degrees_of_freedom: int, alpha: float) -> float:
    from scipy.special import nctdtr, ndtr, stdtrit

    critical_t = float(stdtrit(degrees_of_freedom, 1 - alpha / 2))
    if degrees_of_freedom > 100_000:
        return float(ndtr(noncentrality - critical_t) + ndtr(-noncentrality - critical_t))
    # Below 1e-6 from 5 on; below 1e-9 where scipy has no value for it.
    wrong_side = nctdtr(degrees_of_freedom, noncentrality, -critical_t) if noncentrality < 5 else 0.0
    wrong_side = 0.0 if math.isnan(wrong_side) else wrong_side
    return float(1 - nctdtr(degrees_of_freedom, noncentrality, critical_t) + wrong_side)
