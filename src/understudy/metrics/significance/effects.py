"""How large a difference is, freed of the metric's scale, with an interval.

`cohen_dz` is in standard deviations of the paired differences; `rank_biserial` runs from −1 (b better on every item)
to 1; the odds ratio is how many times as often only a is right as only b.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from understudy.metrics.significance.pairing import Paired, Values, pair, row_sums, tidy
from understudy.metrics.significance.resampling import DEFAULT_RESAMPLING, Columns, Resampled, Resampling, resample
from understudy.metrics.significance.results import Effect

_NAN = float("nan")


def cohen_dz(
    a: Values,
    b: Values,
    *,
    clusters: Sequence[Hashable] | None = None,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> Effect:
    """Cohen's d_z (1988): mean of the per-item differences over their standard deviation (n − 1).

    The interval is the expanded percentile one of the bootstrap; whole clusters are drawn.
    """
    paired = pair(a, b, clusters)
    return dz_of(resample([dz_columns(paired)], resampling)[0], paired.num_clusters, resampling.confidence)


def dz_columns(paired: Paired) -> Columns:
    """d_z as a figure that can be resampled: sums of the differences, their squares and their number."""
    differences = paired.differences
    moments = np.stack([differences, differences**2, np.ones_like(differences)], axis=1)
    return Columns(row_sums(moments, paired.rows, len(paired.totals_a)), _dz_from_totals)


def dz_of(dz: Resampled, num_clusters: int, confidence: float) -> Effect:
    """d_z with the interval that its draws give."""
    if not np.isfinite(dz.value):
        return Effect("cohen_dz", _NAN, _NAN, _NAN)
    return Effect("cohen_dz", dz.value, *dz.bounds(confidence, num_clusters))


def _dz_from_totals(totals: np.ndarray) -> np.ndarray:
    """`[..., 3]` sums -> d_z; 0 where all differences are 0, NaN where all are equal and not 0."""
    sums, squares, n = totals[..., 0], totals[..., 1], totals[..., 2]
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = sums / n
        variance = (squares - n * mean**2) / (n - 1)
        # Squares summed and subtracted leave noise where nothing varies.
        flat = variance <= 1e-12 * squares / n
        value = np.where(flat, _NAN, mean / np.sqrt(np.where(flat, 1.0, variance)))
    return np.where((squares == 0) & (n > 0), 0.0, value)


def rank_biserial(
    a: Values, b: Values, *, clusters: Sequence[Hashable] | None = None, confidence: float = 0.95
) -> Effect:
    """Matched-pairs rank-biserial correlation (Kerby, 2014): (R₊ − R₋) / (R₊ + R₋) of Wilcoxon's rank sums."""
    paired = pair(a, b, clusters)
    return rank_biserial_of(paired.cluster_means(paired.differences), confidence)


def rank_biserial_of(differences: np.ndarray, confidence: float) -> Effect:
    """Rank-biserial correlation of differences, with an interval.

    It is the mean of sign(dᵢ + dⱼ) over all pairs i ≤ j of differences that are not 0 – Walsh averages, a U-statistic.
    So its variance is 4·Var(h)/m with hᵢ the mean over j of sign(dᵢ + dⱼ); the interval is Student's t on Fisher's z.
    The bounds are NaN with fewer than three such differences, or where all point one way.
    """
    from scipy.special import stdtrit
    from scipy.stats import rankdata

    nonzero = tidy(differences)
    nonzero = nonzero[nonzero != 0]
    m = len(nonzero)
    if not m:
        return Effect("rank_biserial", 0.0 if len(differences) else _NAN, _NAN, _NAN)
    value = float((np.sign(nonzero) * rankdata(np.abs(nonzero))).sum() / (m * (m + 1) / 2))
    if m < 3 or abs(value) >= 1 - 1e-12:
        return Effect("rank_biserial", value, _NAN, _NAN)
    ordered = np.sort(nonzero)
    below, not_above = np.searchsorted(ordered, -nonzero), np.searchsorted(ordered, -nonzero, side="right")
    influence = ((m - not_above) - below - np.sign(nonzero)) / (m - 1)
    error = 2 * influence.std(ddof=1) / np.sqrt(m)
    half_width = float(stdtrit(m - 1, (1 + confidence) / 2)) * error / (1 - value**2)
    centre = np.arctanh(value)
    return Effect("rank_biserial", value, float(np.tanh(centre - half_width)), float(np.tanh(centre + half_width)))


def odds_ratio(only_a: int, only_b: int, *, confidence: float = 0.95) -> Effect:
    """McNemar's odds ratio `only_a / only_b`, with the exact interval (Clopper and Pearson, 1934) of its binomial."""
    from scipy.special import betaincinv

    discordant = only_a + only_b
    if not discordant:
        return Effect("odds_ratio", _NAN, _NAN, _NAN)
    outside = (1 - confidence) / 2
    low = float(betaincinv(only_a, only_b + 1, outside)) if only_a else 0.0
    high = float(betaincinv(only_a + 1, only_b, 1 - outside)) if only_b else 1.0
    return Effect("odds_ratio", only_a / only_b if only_b else float("inf"), _odds(low), _odds(high))


def _odds(share: float) -> float:
    return share / (1 - share) if share < 1 else float("inf")
