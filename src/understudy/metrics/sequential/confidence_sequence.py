"""An interval for a mean that holds at all times at once, however often it is looked at.

Each candidate mean m has two bettors who start with capital 1 and bet that the observations are larger, or smaller:

    K⁺(m) = ∏ (1 + λ⁺ v (x − m)),    K⁻(m) = ∏ (1 − λ⁻ v (x − m)),

where v > 0 is the observation's weight. If m is the mean, neither can be expected to win, and by Ville's inequality
P(∃t: ½ max(K⁺, K⁻) ≥ 1/α) ≤ α. The interval is the set of all m under which nobody has won that much. That is the
hedged capital of Waudby-Smith and Ramdas (2020, arXiv 2010.09686) with their predictable bets; on weights of 1 it is
theirs.

*Weights.* Where request i is looked at with a probability π_i that may depend on the request and on all before,
E[ξ_i/π_i (x_i − m)] = 0 for the mean m over *all* requests, looked at or not: those not looked at have a factor of 1,
and the others count by 1/π_i. Weights are scaled by the least probability, v = π_min/π ≤ 1, so that a sample of one
probability is an unweighted one. (Off-policy: Waudby-Smith et al. 2022, arXiv 2210.10768; theirs weights x, not x − m.)

The target is a mean that stays the same. Where it moves, `RunningMeanSequence` holds for the average so far.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import zeta

Array = NDArray[np.float64]

GRID = 1000
"""Candidate means are 1/GRID apart; the interval is widened by that much on each side."""
_LARGEST_STAKE = 0.5
_PRIOR_MEAN, _PRIOR_VARIANCE = 0.5, 0.25


@dataclass(frozen=True, slots=True)
class LiveInterval:
    """A mean so far with bounds that hold at all times.

    Attributes:
        estimate: weighted mean; NaN without observations.
        lower: bound from below.
        upper: bound from above.
        n: observations.
        consistent: whether any mean is left; if not, the mean has changed since the beginning, and the bounds are the
            last ones there were.
    """

    estimate: float
    lower: float
    upper: float
    n: int
    consistent: bool = True


class HedgedCapital:
    """Capital of the two bettors, for each candidate mean, and for many independent sequences at once if wanted.

    Args:
        means: candidates in [0, 1]; their axes broadcast against those of the observations.
        alpha: level that the bets are made for; the capital is valid at any.
    """

    def __init__(self, means: ArrayLike, *, alpha: float = 0.05) -> None:
        self.means = np.asarray(means, dtype=np.float64)
        self._growth = 2 * math.log(2 / alpha)
        self.up: Array = np.zeros_like(self.means)
        self.down: Array = np.zeros_like(self.means)
        self.n = 0
        self._weight: Array | float = 1.0
        self._sum: Array | float = _PRIOR_MEAN
        self._squares: Array | float = _PRIOR_VARIANCE

    def update(self, value: ArrayLike, weight: ArrayLike = 1.0) -> None:
        """One observation of each sequence.

        Args:
            value: in [0, 1].
            weight: in [0, 1]: the least sampling probability over that of this observation; 0: not looked at.
        """
        value, weight = np.asarray(value, dtype=np.float64), np.asarray(weight, dtype=np.float64)
        stake, gain = self._stake(), weight * (value - self.means)
        with np.errstate(divide="ignore"):
            up = np.minimum(stake, _LARGEST_STAKE / self.means)
            down = np.minimum(stake, _LARGEST_STAKE / (1 - self.means))
        self.up = self.up + np.log1p(up * gain)
        self.down = self.down + np.log1p(-down * gain)
        self._learn(value, weight)

    def _stake(self) -> Array:
        """λ = √(2 log(2/α) / (σ̂² t log(1 + t))), of what was seen before."""
        t = self.n + 1
        variance = np.asarray(self._squares) / t
        return np.sqrt(self._growth / (variance * t * math.log(1 + t)))

    def _learn(self, value: Array, weight: Array) -> None:
        self.n += 1
        self._weight = self._weight + weight
        self._sum = self._sum + weight * value
        self._squares = self._squares + (weight * (value - self._sum / self._weight)) ** 2

    @property
    def log_capital(self) -> Array:
        """Log ½ max(K⁺, K⁻): where it is log(1/α) or more, the candidate is rejected."""
        return np.maximum(self.up, self.down) + math.log(0.5)

    @property
    def log_evidence(self) -> Array:
        """Log ½ (K⁺ + K⁻), a little more than `log_capital` and as valid: an e-process for each candidate."""
        return np.logaddexp(self.up, self.down) + math.log(0.5)


class ConfidenceSequence:
    """Interval for the mean of values in [0, 1], seen one by one with known sampling probabilities.

    Args:
        alpha: P(the mean is ever outside) is at most this.
        min_probability: the least probability with which anything is sampled.

    Raises:
        ValueError: alpha is not inside (0, 1), or min_probability not in (0, 1].
    """

    def __init__(self, *, alpha: float = 0.05, min_probability: float = 1.0) -> None:
        if not 0 < alpha < 1 or not 0 < min_probability <= 1:
            raise ValueError(f"alpha {alpha} or min_probability {min_probability} is outside its range")
        self.alpha, self.min_probability = alpha, min_probability
        self._capital = HedgedCapital(np.linspace(0, 1, GRID + 1), alpha=alpha)
        self._lower, self._upper, self._consistent = 0.0, 1.0, True
        self._weights = self._total = 0.0

    def update(self, value: float, probability: float | None = None) -> LiveInterval:
        """Take one sampled value.

        Args:
            value: in [0, 1].
            probability: with which it was sampled, decided before it was seen; None: `min_probability`.

        Raises:
            ValueError: the value is outside [0, 1], or the probability below `min_probability` or above 1.
        """
        weight = self.min_probability / checked(value, probability or self.min_probability, self.min_probability)
        self._capital.update(value, weight)
        self._weights += weight
        self._total += weight * value
        self._narrow()
        return self.interval

    def _narrow(self) -> None:
        kept = np.flatnonzero(self._capital.log_capital < math.log(1 / self.alpha))
        if not len(kept):
            self._consistent = False
            return
        lower = max(self._lower, (kept[0] - 1) / GRID)
        upper = min(self._upper, (kept[-1] + 1) / GRID)
        if lower > upper:
            self._consistent = False
            return
        self._lower, self._upper = lower, upper

    @property
    def interval(self) -> LiveInterval:
        """The bounds after all observations so far."""
        estimate = self._total / self._weights if self._weights else math.nan
        return LiveInterval(estimate, float(self._lower), float(self._upper), self._capital.n, self._consistent)


def checked(value: float, probability: float, least: float) -> float:
    """The probability, where it and the value are what was promised; without that nothing holds.

    Raises:
        ValueError: they are not.
    """
    if not 0 <= value <= 1:
        raise ValueError(f"value {value} is outside [0, 1]")
    if not least * (1 - 1e-12) <= probability <= 1:
        raise ValueError(f"probability {probability} is outside [{least}, 1]")
    return max(probability, least)


class RunningMeanSequence:
    """Interval for the average of the conditional means so far, (1/t) Σ E[x_i | past], which may move as it likes.

    Of each request, sampled (ξ = 1) or not, enters g + ξ/π (x − g), where g is the mean foreseen from what was sampled
    before: unbiased whatever g is. Its sum strays from that of the conditional means by no more than a curve of the sum
    of squared surprises V (empirical Bernstein; Howard et al. 2021, theorem 4, arXiv 1810.08240), stitched with η = 2
    and s = 1.4 for sub-gamma processes of scale c = 1/π_min. Wider than `ConfidenceSequence`.

    Args:
        alpha: two-sided level.
        min_probability: the least probability with which anything is sampled.
    """

    def __init__(self, *, alpha: float = 0.05, min_probability: float = 1.0) -> None:
        self.alpha, self.min_probability = alpha, min_probability
        self._t = self._n = 0
        self._sum = self._variance = 0.0
        self._seen, self._seen_weight = _PRIOR_MEAN, 1.0

    def update(self, value: float | None, probability: float) -> LiveInterval:
        """One request.

        Args:
            value: in [0, 1]; None: it was not sampled.
            probability: with which it was to be sampled.
        """
        foreseen = self._seen / self._seen_weight
        surprise = 0.0
        if value is not None:
            probability = checked(value, probability, self.min_probability)
            surprise = (value - foreseen) / probability
            self._n += 1
            self._seen += value * self.min_probability / probability
            self._seen_weight += self.min_probability / probability
        self._t += 1
        self._sum += foreseen + surprise
        self._variance += surprise**2
        return self.interval

    @property
    def interval(self) -> LiveInterval:
        """The bounds after all requests so far."""
        if not self._t:
            return LiveInterval(math.nan, 0.0, 1.0, 0)
        mean = self._sum / self._t
        radius = stitched_bound(self._variance, self.alpha / 2, scale=1 / self.min_probability) / self._t
        return LiveInterval(min(1.0, max(0.0, mean)), max(0.0, mean - radius), min(1.0, mean + radius), self._n)


def stitched_bound(variance: float, alpha: float, *, scale: float) -> float:
    """A curve that a sub-gamma process of that scale crosses at any time with probability α at most.

    S(v) = √(k₁² v ℓ(v) + k₂² c² ℓ(v)²) + k₂ c ℓ(v), ℓ(v) = s log log(ηv/m) + log(ζ(s)/(α log^s η)), v ≥ m
    (Howard et al. 2021, equation 10), with m = c².
    """
    eta, s = 2.0, 1.4
    k1, k2 = (eta**0.25 + eta**-0.25) / math.sqrt(2), (math.sqrt(eta) + 1) / 2
    v, c = max(variance, scale**2), scale
    length = s * math.log(math.log(eta * v / scale**2)) + math.log(float(zeta(s)) / (alpha * math.log(eta) ** s))
    return math.sqrt(k1**2 * v * length + (k2 * c * length) ** 2) + k2 * c * length
