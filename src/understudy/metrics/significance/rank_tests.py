"""Ranks of independent groups: Kruskal and Wallis, Dunn's pairs, and how often one group lies above another.

All of them take every value as evidence of its own. Where one person gives several, as in a study, they are not: the
person's habits enter every group alike, the groups differ less by chance than the formulas suppose, and the tests find
too little (`understudy docs statistics`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal

import numpy as np

from understudy.errors import DataError
from understudy.metrics.significance.multiple_testing import adjusted
from understudy.metrics.significance.results import Effect, Result


@dataclass(frozen=True, slots=True)
class KruskalWallis(Result):
    """Do any of the groups lie higher than others?

    Attributes:
        statistic: H, corrected for ties.
        degrees_of_freedom: groups − 1.
        p_value: by χ².
        epsilon_squared: H / (n − 1), the share of the ranks' variance between groups.
        n: number of values.
    """

    statistic: float
    degrees_of_freedom: int
    p_value: float
    epsilon_squared: float
    n: int


@dataclass(frozen=True, slots=True)
class DunnPair(Result):
    """Two of several groups.

    Attributes:
        a: one group.
        b: the other.
        z: difference of their mean ranks over its standard error.
        p_value: two-sided, of this pair alone.
        adjusted: corrected over the pairs.
        effect: Vargha and Delaney's A of a over b.
    """

    a: str
    b: str
    z: float
    p_value: float
    adjusted: float
    effect: Effect


def kruskal_wallis(groups: Mapping[str, np.ndarray]) -> KruskalWallis:
    """Kruskal and Wallis' H (1952).

    ```text
    H = [12 / (n(n + 1)) · Σ_g R_g² / n_g − 3(n + 1)] / [1 − Σ_t (t³ − t) / (n³ − n)]
    ```

    R_g is the sum of a group's ranks, t the size of each tie.

    Raises:
        DataError: fewer than two groups, or one without a value.
    """
    values, numbers = _stacked(groups)
    n, k = len(values), len(groups)
    if np.ptp(values) == 0:
        return KruskalWallis(0.0, k - 1, 1.0, 0.0, n)
    from scipy.stats import kruskal

    result: Any = kruskal(*(values[numbers == number] for number in range(k)))
    statistic = float(result.statistic)
    return KruskalWallis(statistic, k - 1, float(result.pvalue), statistic / (n - 1), n)


def dunn_test(
    groups: Mapping[str, np.ndarray],
    *,
    correction: Literal["bonferroni", "holm"] = "bonferroni",
    confidence: float = 0.95,
) -> tuple[DunnPair, ...]:
    """Dunn's test (1964) of every two groups, on the ranks of all of them together.

    ```text
    z_ab = (R̄_a − R̄_b) / √( [n(n + 1)/12 − Σ_t (t³ − t) / (12(n − 1))] · (1/n_a + 1/n_b) )
    ```

    Args:
        groups: name -> values.
        correction: Bonferroni's, as the explanation study has it, or Holm's.
        confidence: level of the effects' intervals.

    Raises:
        DataError: fewer than two groups, or one without a value.
    """
    from scipy.special import ndtr
    from scipy.stats import rankdata

    values, numbers = _stacked(groups)
    n, sizes = len(values), np.bincount(numbers)
    means = np.bincount(numbers, weights=rankdata(values)) / sizes
    ties = np.unique(values, return_counts=True)[1].astype(np.float64)
    variance = n * (n + 1) / 12 - float((ties**3 - ties).sum()) / (12 * max(1, n - 1))
    names, pairs = list(groups), list(combinations(range(len(groups)), 2))
    z_scores = {
        (a, b): float((means[a] - means[b]) / np.sqrt(variance * (1 / sizes[a] + 1 / sizes[b])))
        if variance > 0
        else 0.0
        for a, b in pairs
    }
    p_values = {pair: float(2 * ndtr(-abs(z))) for pair, z in z_scores.items()}
    corrected = (
        adjusted(p_values)
        if correction == "holm"
        else {pair: min(1.0, len(pairs) * value) for pair, value in p_values.items()}
    )
    return tuple(
        DunnPair(
            names[a],
            names[b],
            z_scores[a, b],
            p_values[a, b],
            corrected[a, b],
            vargha_delaney(groups[names[a]], groups[names[b]], confidence=confidence),
        )
        for a, b in pairs
    )


def vargha_delaney(a: np.ndarray, b: np.ndarray, *, confidence: float = 0.95) -> Effect:
    """Vargha and Delaney's A (2000): how often a value of `a` lies above one of `b`, ties counted half; 0.5 is none.

    ```text
    A = P(a > b) + ½ P(a = b);    Var Â = s²(p_a)/n_a + s²(p_b)/n_b
    ```

    p_a are the placements: for each value of `a` the share of `b` below it, ties half. The interval is Student's t on
    the logit of A with Welch's degrees of freedom (Brunner and Munzel, 2000). The bounds are NaN with fewer than two
    values on a side, or where nothing overlaps.
    """
    above_a, above_b = _placements(a, b), _placements(b, a)
    value = float(above_a.mean())
    n_a, n_b = len(above_a), len(above_b)
    if min(n_a, n_b) < 2 or not 0 < value < 1:
        return Effect("vargha_delaney_a", value, float("nan"), float("nan"))
    parts = np.array([above_a.var(ddof=1) / n_a, above_b.var(ddof=1) / n_b])
    if parts.sum() <= 0:
        return Effect("vargha_delaney_a", value, float("nan"), float("nan"))
    from scipy.special import expit, logit, stdtrit

    degrees = float(parts.sum() ** 2 / (parts**2 / [n_a - 1, n_b - 1]).sum())
    half = float(stdtrit(degrees, (1 + confidence) / 2) * np.sqrt(parts.sum()) / (value * (1 - value)))
    return Effect("vargha_delaney_a", value, float(expit(logit(value) - half)), float(expit(logit(value) + half)))


def _placements(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    ordered = np.sort(np.asarray(b, dtype=np.float64))
    below, not_above = np.searchsorted(ordered, a), np.searchsorted(ordered, a, side="right")
    return (below + not_above) / (2 * len(ordered))


def _stacked(groups: Mapping[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    if len(groups) < 2 or not all(len(values) for values in groups.values()):
        raise DataError("ranks are compared between at least two groups that have values")
    values = np.concatenate([np.asarray(group, dtype=np.float64) for group in groups.values()])
    return values, np.repeat(np.arange(len(groups)), [len(group) for group in groups.values()])
