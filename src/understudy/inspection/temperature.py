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

Draw = tuple[Sequence[float], int]
"""Log-probabilities of the tokens that are looked at, and which of them was drawn."""

_LARGEST = 20.0


def fit_temperature(draws: Sequence[Draw]) -> tuple[float, float]:
    """The most likely temperature, and its standard error; an infinite one where the draws tell nothing."""
    low, high = 0.0, _LARGEST
    for _ in range(60):
        middle = (low + high) / 2
        slope, _ = _slope(draws, middle)
        low, high = (middle, high) if slope > 0 else (low, middle)
    fitted = (low + high) / 2
    # At 1, which is what is asked about: at a wild estimate of a few draws the variance may vanish.
    information = _slope(draws, 1.0)[1]
    return fitted, 1 / math.sqrt(information) if information > 0 else math.inf


def spread(logp: Sequence[float]) -> float:
    """Variance of the log-probabilities under their own distribution: how much a draw tells of the temperature."""
    return _slope([(logp, 0)], 1.0)[1]


def _slope(draws: Sequence[Draw], exponent: float) -> tuple[float, float]:
    """First derivative of the log-likelihood, and minus its second."""
    first = second = 0.0
    for logp, drawn in draws:
        values = np.asarray(logp, np.float64)
        weights = np.exp(exponent * values - (exponent * values).max())
        weights /= weights.sum()
        mean = float(weights @ values)
        first += float(values[drawn]) - mean
        second += float(weights @ (values - mean) ** 2)
    return first, second
