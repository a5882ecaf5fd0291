"""How far two samples of requests lie apart: population stability index and maximum mean discrepancy."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial.distance import cdist

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stability:
    """A population stability index.

    Attributes:
        psi: less what counts of this size show where nothing has changed; never below 0.
        lower: 95% bound from below.
        upper: 95% bound from above.
        n: observations.
        n_reference: observations of the reference.
    """

    psi: float
    lower: float
    upper: float
    n: int
    n_reference: int


def psi_of_shares(p: Array, q: Array) -> Array:
    """PSI = Σ_b (p_b − q_b) log(p_b/q_b), the symmetric Kullback–Leibler divergence, along the last axis."""
    return ((p - q) * np.log(p / q)).sum(-1)


def stability(counts: ArrayLike, reference: ArrayLike, *, draws: int = 1000, seed: int = 0) -> Stability:
    """PSI of two samples in the same bins, with a bootstrap interval.

    Half a count is added to each bin. Two samples of one population have a PSI of about (B − 1)(1/n + 1/m) by chance;
    that bias is taken off the estimate and – as the bootstrap adds it once more – twice off its draws.

    Args:
        counts: of the live sample, by bin.
        reference: of the reference.
        draws: bootstrap samples of both.
        seed: of these.
    """
    live, old = np.asarray(counts, dtype=np.int64), np.asarray(reference, dtype=np.int64)
    n, m, bins = int(live.sum()), int(old.sum()), len(live)
    if not n or not m:
        return Stability(math.nan, 0.0, math.inf, n, m)
    rng = np.random.default_rng(seed)
    shares = [_shares(sample) for sample in (live, old)]
    again = psi_of_shares(_shares(rng.multinomial(n, shares[0], draws)), _shares(rng.multinomial(m, shares[1], draws)))
    observed = float(psi_of_shares(*shares))
    bias = float(again.mean()) - observed
    low, high = np.quantile(again - 2 * bias, (0.025, 0.975))
    chance = (bins - 1) * (1 / n + 1 / m)
    # Near 0 the bootstrap's spread is not the estimate's: there the size is that of chance alone.
    lower = max(0.0, float(low)) if observed > 2 * chance else 0.0
    return Stability(max(0.0, observed - bias), lower, max(0.0, float(high), chance), n, m)


def _shares(counts: Array | NDArray[np.int64]) -> Array:
    return (counts + 0.5) / (counts + 0.5).sum(-1, keepdims=True)


class KernelDistance:
    """Squared maximum mean discrepancy between a block of vectors and a fixed sample.

    MMD²(X, Y) = mean k(x, x′) over pairs of X, x ≠ x′, − 2 mean k(x, y) + mean k(y, y′), with
    k(x, y) = exp(−‖x − y‖²/2h²) and h the median distance within Y (Gretton et al. 2012, JMLR 13:723, equation 3).

    Args:
        sample: vectors `[n, d]` of the reference, at least 2.
    """

    def __init__(self, sample: ArrayLike) -> None:
        self._sample = np.asarray(sample, dtype=np.float64)
        squares = cdist(self._sample, self._sample, "sqeuclidean")
        apart = squares[~np.eye(len(squares), dtype=bool)]
        self.bandwidth = math.sqrt(float(np.median(apart)) or 1.0)
        self._within = float(self._kernel(apart).mean())

    def _kernel(self, squares: NDArray[Any]) -> Array:
        return np.exp(-squares / (2 * self.bandwidth**2))

    def closeness(self, vectors: ArrayLike) -> Array:
        """Mean k(x, y) over the sample, of each vector."""
        return self._kernel(cdist(np.atleast_2d(vectors), self._sample, "sqeuclidean")).mean(1)

    def mmd(self, block: ArrayLike, closeness: Array | None = None) -> float:
        """MMD² of a block `[b, d]`, unbiased; may be below 0.

        Args:
            block: vectors, at least 2.
            closeness: of each, where it is known.
        """
        block = np.asarray(block, dtype=np.float64)
        closeness = self.closeness(block) if closeness is None else closeness
        own = self._kernel(cdist(block, block, "sqeuclidean"))
        within = (own.sum() - len(block)) / (len(block) * (len(block) - 1))
        return float(within - 2 * closeness.mean() + self._within)
