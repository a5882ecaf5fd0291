"""Has the stream changed? Detectors that are wrong once in a chosen number of requests, whatever is watched.

1. *Ranks.* The score of a request, larger where it is stranger, becomes p = (#{larger} + u #{equal}) / n: its place
   among the n scores seen so far, its own and those of a reference among them, with u uniform. As long as reference
   and traffic are exchangeable, these p are independent and uniform on [0, 1] – exactly, at every n and with every
   score (inductive conformal martingales; Vovk et al. 2003; Volkhonskiy et al. 2017, arXiv 1706.03415).
2. *Bets.* After a change the p are not uniform, and a density f on [0, 1] that foresees how wins on the average.
3. *Restarts.* M_t = f(p_t) (1 + M_(t−1)) bets from each past request on at once. M_t − t is a martingale, so
   that E[T] ≥ c for the first T with M_T ≥ c: an e-detector (Shiryaev–Roberts; Shin, Ramdas, Rinaldo 2022,
   arXiv 2203.03532). The mean of several is one too, so that k detectors with c = k·a each have a mean run length of at
   least a *together*, however they depend on each other.

Departure: a fixed mixture over few Beta densities in place of an adaptive one, so the state is a handful of numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, logsumexp

Array = NDArray[np.float64]
Direction = Literal["larger", "both"]

LARGER = ((0.25, 1.0), (0.5, 1.0), (1.0, 2.0), (1.0, 5.0), (1.0, 15.0))
"""Beta densities that foresee small p: scores above the reference, by a few far outliers or by all a little."""
BOTH = (*LARGER, *((b, a) for a, b in LARGER), (0.5, 0.5), (4.0, 4.0))
"""And the mirrored ones; scores further out on both sides; scores in the middle."""
_ALTERNATIVES = {"larger": LARGER, "both": BOTH}
_TINY = 1e-12

NUM_BINS = 128
"""Scores are told apart by so many quantiles of the reference; equal ones are drawn in a random order."""


def edges_of(scores: ArrayLike) -> Array:
    """Borders between scores, from a sample that is in no detector's reference: quantiles, and beyond its ends."""
    scores = np.asarray(scores, dtype=np.float64)
    return np.unique(np.quantile(scores, np.linspace(0, 1, NUM_BINS)))


class ConformalRanks:
    """Places of scores among all that came before, for one stream or many independent ones.

    Args:
        edges: borders between scores that are told apart, ascending (`edges_of`).
        reference: scores `[n]`, or `[streams, n]`, that the stream starts with.
    """

    def __init__(self, edges: ArrayLike, reference: ArrayLike) -> None:
        self._edges = np.asarray(edges, dtype=np.float64)
        reference = np.asarray(reference, dtype=np.float64)
        self._streams = np.arange(len(reference)) if reference.ndim == 2 else None
        rows = np.atleast_2d(reference)
        size = 2 * len(self._edges) + 1
        self._counts = np.stack([np.bincount(self._bins(row), minlength=size) for row in rows]).astype(np.float64)

    def _bins(self, scores: Array) -> NDArray[np.int64]:
        # An edge is a bin of its own, or a score with many equals would share one with its neighbours.
        return np.searchsorted(self._edges, scores, "left") + np.searchsorted(self._edges, scores, "right")

    def p_values(self, scores: ArrayLike, uniform: ArrayLike) -> Array:
        """The place of each stream's next score, which is then one of those seen.

        Args:
            scores: `[streams]`, or one number of one stream.
            uniform: in (0, 1), as many: the order among equals.
        """
        bins = self._bins(np.atleast_1d(np.asarray(scores, dtype=np.float64)))
        rows = np.arange(len(bins))
        self._counts[rows, bins] += 1
        equal = self._counts[rows, bins]
        later = np.where(np.arange(self._counts.shape[1]) > bins[:, None], self._counts, 0).sum(1)
        values = (later + np.atleast_1d(uniform) * equal) / self._counts.sum(1)
        return values if self._streams is not None else values[:1]

    @property
    def n(self) -> int:
        """Scores seen by a stream."""
        return int(self._counts[0].sum())


class EDetector:
    """Mixture of restarting bets against uniform p-values.

    Args:
        direction: `larger`: only scores above the reference are a change; `both`.
        threshold: c, the mean run length to a false alarm of this detector, at least.
        streams: how many independent ones are watched at once.
    """

    def __init__(self, direction: Direction, threshold: float, *, streams: int = 1) -> None:
        self.threshold = threshold
        alternatives: Sequence[tuple[float, float]] = _ALTERNATIVES[direction]
        self._a, self._b = np.array(alternatives).T
        self._constant = betaln(self._a, self._b)
        self._log = np.full((streams, len(alternatives)), -np.inf)

    def update(self, p: ArrayLike) -> NDArray[np.bool_]:
        """Take the next p-value of each stream.

        Returns:
            Which streams raise an alarm; those start anew.
        """
        p = np.clip(np.asarray(p, dtype=np.float64), _TINY, 1 - _TINY)[:, None]
        density = (self._a - 1) * np.log(p) + (self._b - 1) * np.log1p(-p) - self._constant
        self._log = density + np.logaddexp(0, self._log)
        alarms = self.log_evidence >= math.log(self.threshold)
        self._log[alarms] = -np.inf
        return alarms

    @property
    def log_evidence(self) -> Array:
        """Log M of each stream."""
        return logsumexp(self._log, axis=1) - math.log(self._log.shape[1])

    @property
    def level(self) -> float:
        """Log M over log c of the first stream, in [0, 1]: how near an alarm is."""
        return float(np.clip(self.log_evidence[0] / math.log(self.threshold), 0, 1))


@dataclass(frozen=True, slots=True)
class ShiftAlarm:
    """A detector's alarm.

    Attributes:
        request: how many requests the detector had seen.
        p: the last p-value.
    """

    request: int
    p: float


class ShiftDetector:
    """One score of one stream: ranks, bets, alarm.

    Args:
        edges: borders between scores (`edges_of`), from a part of the reference.
        reference: scores of the other part.
        direction: see `EDetector`.
        threshold: see `EDetector`.
        seed: of the order among equal scores.
    """

    def __init__(
        self, edges: ArrayLike, reference: ArrayLike, *, direction: Direction, threshold: float, seed: int = 0
    ) -> None:
        self._ranks = ConformalRanks(edges, reference)
        self._bets = EDetector(direction, threshold)
        self._rng = np.random.default_rng(seed)
        self.num_requests = 0

    def update(self, score: float) -> ShiftAlarm | None:
        """Take the next score; an alarm, or None."""
        self.num_requests += 1
        p = self._ranks.p_values(score, self._rng.uniform(size=1))
        return ShiftAlarm(self.num_requests, float(p[0])) if self._bets.update(p)[0] else None

    @property
    def level(self) -> float:
        """How near an alarm is, in [0, 1]."""
        return self._bets.level
