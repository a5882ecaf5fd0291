"""At which temperature a server's log-probabilities stand, by what it draws.

If ℓ = log softmax(z/τ) is what a server says and it draws at temperature 1, then p ∝ exp(τ·ℓ), and the maximum of the
likelihood of n draws,

    Σ_i a·ℓ(x_i) − log Σ_j exp(a·ℓ_j),

lies at a = τ, up to a standard error of 1/√(Σ_i Var_a ℓ). It is concave in a. Draws may be looked at among some of the
tokens alone, for a distribution that is cut down to these has the same a.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

Place = tuple[Sequence[float], Sequence[int]]
"""Log-probabilities of the tokens that are looked at, and how often each was drawn."""

_LARGEST = 20.0
_HALVINGS = 40


def fit_temperature(places: Sequence[Place]) -> tuple[float, float]:
    """The most likely temperature, and its standard error; an infinite one where the draws tell nothing."""
    low, high = 0.0, _LARGEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if _derivatives(places, middle)[0] > 0 else (low, middle)
    # At 1, which is what is asked about: at a wild estimate of a few draws the variance may vanish.
    information = _derivatives(places, 1.0)[1]
    return (low + high) / 2, 1 / math.sqrt(information) if information > 0 else math.inf


def spread(logp: Sequence[float]) -> float:
    """Variance of the log-probabilities under their own distribution: how much a draw tells of the temperature."""
    return _derivatives([(logp, [1] + [0] * (len(logp) - 1))], 1.0)[1]


def _derivatives(places: Sequence[Place], exponent: float) -> tuple[float, float]:
    """First derivative of the log-likelihood, and minus its second."""
    first = second = 0.0
    for logp, drawn in places:
        values, counts = np.asarray(logp, np.float64), np.asarray(drawn, np.float64)
        weights = np.exp(exponent * (values - values.max()))
        weights /= weights.sum()
        mean = float(weights @ values)
        first += float(counts @ (values - mean))
        second += float(counts.sum() * (weights @ (values - mean) ** 2))
    return first, second
