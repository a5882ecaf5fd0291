"""How far those who rate agree: Krippendorff's alpha, intraclass correlation, and Cronbach's alpha of a scale.

Units are what is rated (one text), raters whoever rates; few need to have rated the same units.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from understudy.errors import DataError
from understudy.metrics.significance.bootstrap import resampled_figure
from understudy.metrics.significance.resampling import DEFAULT_RESAMPLING, Resampling
from understudy.metrics.significance.results import Result

Level = Literal["nominal", "ordinal", "interval"]
_NAN = float("nan")


@dataclass(frozen=True, slots=True)
class RaterAgreement(Result):
    """A coefficient of agreement.

    Attributes:
        name: `krippendorff_alpha` or `icc1`.
        value: 1 is full agreement, 0 what chance gives; NaN where nothing varies or nothing was rated twice.
        low: lower bound of its interval; NaN where that is not known.
        high: upper bound.
        units: how many units (groups) it rests on.
        values: how many ratings.
    """

    name: str
    value: float
    low: float
    high: float
    units: int
    values: int


def krippendorff_alpha(
    values: Sequence[float] | np.ndarray,
    units: Sequence[Hashable] | np.ndarray,
    *,
    level: Level = "ordinal",
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> RaterAgreement:
    """Krippendorff's alpha (2004) of any number of raters, whoever rated what.

    ```text
    α = 1 − D_o/D_e = 1 − (n − 1) · Σ_ck o_ck δ²_ck / Σ_ck n_c n_k δ²_ck
    o_ck = Σ_u (pairs c, k within unit u) / (m_u − 1),   n_c = Σ_k o_ck
    ordinal δ²_ck = (Σ_{g=c..k} n_g − (n_c + n_k)/2)²;   interval (c − k)²;   nominal 1
    ```

    m_u is the number of ratings of unit u; units with one rating say nothing. The interval is the bootstrap's over
    units.

    Args:
        values: ratings; NaN is missing.
        units: what each of them is of.
        level: what a difference counts.
        resampling: draws, level of the interval, seed.
    """
    ratings = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(ratings)
    numbers = np.unique(np.asarray(units)[there], return_inverse=True)[1]
    scale, codes = np.unique(ratings[there], return_inverse=True)
    counts = np.zeros((int(numbers.max(initial=-1)) + 1, len(scale)))
    np.add.at(counts, (numbers, codes), 1.0)
    counts = counts[counts.sum(axis=1) > 1]
    if not len(counts):
        return RaterAgreement("krippendorff_alpha", _NAN, _NAN, _NAN, 0, 0)
    sizes = counts.sum(axis=1)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(len(scale))
    coincidences = (pairs / (sizes - 1)[:, None, None]).reshape(len(counts), -1)
    figure = resampled_figure(coincidences, lambda totals: _alpha(totals, scale, level), resampling=resampling)
    low, high = figure.bounds(resampling.confidence, len(counts))
    return RaterAgreement("krippendorff_alpha", figure.value, low, high, len(counts), int(sizes.sum()))


def _alpha(totals: np.ndarray, scale: np.ndarray, level: Level) -> np.ndarray:
    """`[…, K²]` coincidences -> alpha."""
    observed = totals.reshape(*totals.shape[:-1], len(scale), len(scale))
    margins = observed.sum(axis=-1)
    n = margins.sum(axis=-1)
    distance = _distances(margins, scale, level)
    expected = (margins[..., :, None] * margins[..., None, :] * distance).sum(axis=(-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return 1 - (n - 1) * (observed * distance).sum(axis=(-2, -1)) / np.where(expected > 0, expected, _NAN)


def _distances(margins: np.ndarray, scale: np.ndarray, level: Level) -> np.ndarray:
    if level == "nominal":
        return 1.0 - np.eye(len(scale))
    if level == "interval":
        return (scale[:, None] - scale[None, :]) ** 2
    # Σ_{g=c..k} n_g − (n_c + n_k)/2 is the distance of the two values' mid-ranks.
    middle = margins.cumsum(axis=-1) - margins / 2
    return (middle[..., :, None] - middle[..., None, :]) ** 2


def icc_oneway(
    values: Sequence[float] | np.ndarray, groups: Sequence[Hashable] | np.ndarray, *, confidence: float = 0.95
) -> RaterAgreement:
    """ICC(1) of Shrout and Fleiss (1979): the share of the variance that lies between groups.

    ```text
    ICC(1) = (MS_between − MS_within) / (MS_between + (m₀ − 1) MS_within),   m₀ = (n − Σ m_g²/n) / (g − 1)
    ```

    With texts as groups, how far raters agree on a text; with raters as groups, how much of a rating is the rater's
    habit. The interval is that of F, exact where groups are of one size (m₀ is it) and near it elsewhere.

    Args:
        values: ratings; NaN is missing.
        groups: the group of each.
        confidence: level of the interval.
    """
    ratings = np.asarray(values, dtype=np.float64)
    there = ~np.isnan(ratings)
    ratings, numbers = ratings[there], np.unique(np.asarray(groups)[there], return_inverse=True)[1]
    sizes = np.bincount(numbers) if len(ratings) else np.zeros(0)
    n, num_groups = len(ratings), len(sizes)
    if num_groups < 2 or n <= num_groups:
        return RaterAgreement("icc1", _NAN, _NAN, _NAN, num_groups, n)
    means = np.bincount(numbers, weights=ratings) / sizes
    within = float(((ratings - means[numbers]) ** 2).sum() / (n - num_groups))
    between = float((sizes * (means - ratings.mean()) ** 2).sum() / (num_groups - 1))
    size = float((n - (sizes**2).sum() / n) / (num_groups - 1))
    if within <= 0:
        return RaterAgreement("icc1", 1.0 if between > 0 else _NAN, _NAN, _NAN, num_groups, n)
    from scipy.special import fdtri

    ratio, degrees = between / within, (num_groups - 1, n - num_groups)
    above = (1 + confidence) / 2
    low = ratio / float(fdtri(*degrees, above))
    high = ratio * float(fdtri(*reversed(degrees), above))
    value, low, high = ((f - 1) / (f + size - 1) for f in (ratio, low, high))
    return RaterAgreement("icc1", value, low, high, num_groups, n)


def cronbach_alpha(table: np.ndarray) -> float:
    """Cronbach's alpha (1951) of a scale: do its items measure one thing?

    ```text
    α = k/(k − 1) · (1 − Σ_i s²_i / s²_total)
    ```

    Args:
        table: `[rows, k]` values of k items; rows that lack one are left out.

    Raises:
        DataError: fewer than two items.
    """
    if table.shape[1] < 2:
        raise DataError("a scale has at least two items")
    complete = table[~np.isnan(table).any(axis=1)]
    if len(complete) < 2 or np.ptp(complete.sum(axis=1)) == 0:
        return _NAN
    k = table.shape[1]
    return float(k / (k - 1) * (1 - complete.var(axis=0, ddof=1).sum() / complete.sum(axis=1).var(ddof=1)))
