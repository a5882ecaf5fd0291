"""Raters made of a normal variable: ratings with the means, the spread and the habits that are expected.

A rating is a latent normal value cut into the steps of the scale:

    z = δ_m + √ρ·a_r + √(1 − ρ)·e,   a, e ~ N(0, 1);      rating = lowest + #{k: z > τ_k},   τ_k = c + s·k

Centre c and spacing s are solved so that ratings have the mean and the standard deviation that are expected, ρ so that
the share of their variance between raters is the expected one – of the ratings, not of z – and δ_m so that each
method has its mean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from understudy.errors import ConfigError
from understudy.study.config import HIGHEST, LOWEST

_NODES = 60
_LEAST_SHARE, _MOST_SHARE = 1e-9, 0.995
_SPACINGS = (-6.0, 3.0)  # logarithms of the least and the most that cut points lie apart
_NEAR = 1e-3  # of a bound of the variance, where cut points run to infinity


@dataclass(frozen=True, slots=True, eq=False)
class RatingModel:
    """How ratings of one construct come about.

    Attributes:
        methods: names.
        cuts: `[steps − 1]` τ, ascending.
        shifts: `[M]` δ of each method.
        latent_share: ρ.
        means: `[M]` mean rating of each method.
        sd: standard deviation of all ratings.
        rater_share: share of the ratings' variance between raters.
    """

    methods: tuple[str, ...]
    cuts: np.ndarray
    shifts: np.ndarray
    latent_share: float
    means: np.ndarray
    sd: float
    rater_share: float
    lowest: int = LOWEST

    def draw(
        self,
        rater: np.ndarray,
        method: np.ndarray,
        count: int,
        rng: np.random.Generator,
        *,
        null: bool = False,
    ) -> np.ndarray:
        """`[n, count]` ratings of `count` studies.

        Args:
            rater: `[n]` number of the rater.
            method: `[n]` number of the method.
            count: how many studies.
            rng: source of the draw.
            null: without any difference between methods.
        """
        habit = rng.standard_normal((int(rater.max()) + 1, count))[rater]
        noise = rng.standard_normal((len(rater), count))
        latent = np.sqrt(self.latent_share) * habit + np.sqrt(1 - self.latent_share) * noise
        return self.rating_of(latent if null else latent + self.shifts[method][:, None])

    def rating_of(self, latent: np.ndarray) -> np.ndarray:
        """Latent values -> ratings."""
        return (self.lowest + np.searchsorted(self.cuts, latent)).astype(np.float64)


def rating_model(
    means: Sequence[float],
    sd: float,
    rater_share: float,
    *,
    methods: Sequence[str] | None = None,
    lowest: int = LOWEST,
    highest: int = HIGHEST,
) -> RatingModel:
    """Solve for cut points, shifts and the latent share.

    Args:
        means: mean rating of each method.
        sd: standard deviation of all ratings together.
        rater_share: share of their variance between raters.
        methods: names; default m1, m2 …
        lowest: end of the scale.
        highest: the other end.

    Raises:
        ConfigError: a mean outside the scale, a standard deviation that such ratings cannot have, a share outside
            [0, 1).
    """
    values = np.asarray(means, dtype=np.float64)
    names = tuple(methods or (f"m{number}" for number in range(1, len(values) + 1)))
    if len(values) < 2 or not ((values > lowest) & (values < highest)).all():
        raise ConfigError(f"means between {lowest} and {highest} of two methods or more are needed")
    if not 0 <= rater_share < 1:
        raise ConfigError(f"the share of variance between raters is {rater_share}", hint="from 0 up to below 1")
    grand = float(values.mean())
    within = sd**2 - float(values.var())
    # Two neighbouring steps alone give the least spread, the two ends the most.
    part = grand - np.floor(grand)
    least, most = part * (1 - part), (grand - lowest) * (highest - grand)
    cuts = None
    if least + _NEAR < within < most - _NEAR:
        cuts = _cut_points(grand, float(np.sqrt(within)), lowest, highest - lowest)
    if cuts is None:
        raise ConfigError(
            f"ratings from {lowest} to {highest} with mean {grand:.2f} cannot have a standard deviation of {sd:g}",
            hint=f"well between {np.sqrt(least + values.var()):.2f} and {np.sqrt(most + values.var()):.2f}",
        )
    shifts = np.array([_shift(cuts, mean, lowest) for mean in values])
    return RatingModel(names, cuts, shifts, _latent_share(cuts, rater_share, lowest), values, sd, rater_share, lowest)


def _moments(cuts: np.ndarray, lowest: int, centre: np.ndarray | float = 0.0, sd: float = 1.0) -> np.ndarray:
    """Mean and mean square of the rating of N(centre, sd²); rating = lowest + Σ_k 1[z > τ_k]."""
    from scipy.special import ndtr

    above = ndtr((np.asarray(centre)[..., None] - cuts) / sd)
    steps = np.arange(lowest, lowest + len(cuts))
    mean = lowest + above.sum(axis=-1)
    # (r + 1)² − r² = 2r + 1 for each step that is passed.
    square = lowest**2 + (above * (2 * steps + 1)).sum(axis=-1)
    return np.stack([mean, square])


def _cut_points(mean: float, sd: float, lowest: int, steps: int) -> np.ndarray | None:
    """Equally spaced cut points that give mean and standard deviation, by nested bisection; None where none do."""
    from scipy.optimize import brentq

    offsets = np.arange(steps) - (steps - 1) / 2

    def centred(log_spacing: float) -> np.ndarray:
        spread = np.exp(log_spacing) * offsets
        reach = float(np.abs(spread).max()) + 12
        centre = brentq(lambda c: _moments(spread + c, lowest)[0] - mean, -reach, reach)
        return spread + centre

    def excess(log_spacing: float) -> float:
        first, second = _moments(centred(log_spacing), lowest)
        return float(second - first**2 - sd**2)

    if excess(_SPACINGS[0]) <= 0 or excess(_SPACINGS[1]) >= 0:
        return None
    return centred(float(brentq(excess, *_SPACINGS)))  # pyright: ignore[reportArgumentType]


def _shift(cuts: np.ndarray, mean: float, lowest: int) -> float:
    from scipy.optimize import brentq

    reach = float(np.abs(cuts).max()) + 12
    return float(brentq(lambda shift: _moments(cuts, lowest, shift)[0] - mean, -reach, reach))  # pyright: ignore


def _latent_share(cuts: np.ndarray, rater_share: float, lowest: int) -> float:
    """ρ at which Var_a(E[rating | a]) / Var(rating) is the share, by Gauss–Hermite quadrature over a."""
    from scipy.optimize import brentq

    if rater_share == 0:
        return 0.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()
    mean, square = _moments(cuts, lowest)
    variance = square - mean**2

    def excess(rho: float) -> float:
        conditional = _moments(cuts, lowest, np.sqrt(rho) * nodes, float(np.sqrt(1 - rho)))[0]
        return float((weights * (conditional - mean) ** 2).sum() / variance - rater_share)

    if excess(_LEAST_SHARE) >= 0:
        return 0.0
    if excess(_MOST_SHARE) <= 0:
        raise ConfigError(
            f"ratings in whole steps cannot have {rater_share:.0%} of their variance between raters",
            hint="state a smaller share",
        )
    return float(brentq(excess, _LEAST_SHARE, _MOST_SHARE))  # pyright: ignore[reportArgumentType]


@lru_cache(maxsize=1)
def published() -> dict[str, RatingModel]:
    """The five constructs as the explanation study (arXiv 2504.16056) found them."""
    methods = ("CF", "MT", "MT+CF", "MT+CF revised")
    figures = {
        "plausibility": ((4.03, 4.24, 4.19, 4.21), 0.96, 0.28),
        "understandability": ((4.35, 4.45, 4.37, 4.46), 0.69, 0.29),
        "completeness": ((3.83, 4.02, 3.96, 4.11), 1.01, 0.33),
        "satisfaction": ((3.84, 4.00, 3.96, 4.00), 1.05, 0.34),
        "contrastiveness": ((3.54, 3.65, 3.64, 3.96), 1.28, 0.54),
    }
    return {name: rating_model(means, sd, share, methods=methods) for name, (means, sd, share) in figures.items()}
