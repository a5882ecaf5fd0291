"""Which of two students agrees with the teacher more often, told while the requests come in.

The difference of two values in [0, 1] is bounded, so it is a mean of the kind that `confidence_sequence` watches:
(d/b + 1)/2 for |d| ≤ b. Its e-process at the difference 0 is the test, its interval the size. By Ville's inequality the
test errs with probability α at most if it is looked at after every request, for as long as one likes
(Waudby-Smith, Ramdas 2020, arXiv 2010.09686; e-processes: Ramdas et al. 2023, arXiv 2210.01948).

Two designs. *Paired*: both students and the teacher answer the sampled request, d = y_B − y_A. *Unpaired*: each
request goes to one student, to the candidate with a known share ρ, and d = (y − g)(1_B/ρ − 1_A/(1 − ρ)) with g foreseen
from before; its mean is that of y_B − y_A whatever g is (Waudby-Smith et al. 2022, arXiv 2210.10768).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from understudy.metrics.sequential.confidence_sequence import (
    ConfidenceSequence,
    HedgedCapital,
    checked,
)

Verdict = Literal["candidate", "current", "undecided"]


@dataclass(frozen=True, slots=True)
class CanaryResult:
    """What is known of candidate minus current.

    Attributes:
        difference: estimated difference of the means; NaN without observations.
        lower: bound from below that holds at all times.
        upper: bound from above that holds at all times.
        e_value: evidence against equal means; 1/α rejects.
        p: the least 1/e so far, a p-value that holds at all times.
        n: sampled requests.
        verdict: who is better, as soon as that is shown.
        consistent: whether any difference fits all requests; if not, it has changed, and the bounds are old.
    """

    difference: float
    lower: float
    upper: float
    e_value: float
    p: float
    n: int
    verdict: Verdict
    consistent: bool = True


class _Difference:
    """Values in [−bound, bound] whose mean is the difference of two means."""

    def __init__(self, alpha: float, bound: float, min_probability: float) -> None:
        self.alpha, self._bound = alpha, bound
        self._interval = ConfidenceSequence(alpha=alpha, min_probability=min_probability)
        self._test = HedgedCapital(np.array([0.5]), alpha=alpha)
        self._most = 0.0
        self._verdict: Verdict = "undecided"

    def update(self, value: float, probability: float) -> None:
        scaled = min(1.0, max(0.0, (value / self._bound + 1) / 2))
        self._interval.update(scaled, probability)
        self._test.update(scaled, self._interval.min_probability / probability)
        self._most = max(self._most, float(self._test.log_evidence[0]))
        # A verdict stays: the level is that of the first time anybody would have acted.
        if self._verdict == "undecided" and self._most >= math.log(1 / self.alpha):
            self._verdict = "candidate" if self._test.up[0] > self._test.down[0] else "current"

    @property
    def result(self) -> CanaryResult:
        interval, bound = self._interval.interval, self._bound
        difference, lower, upper = (
            max(-1.0, min(1.0, bound * (2 * value - 1))) if not math.isnan(value) else value
            for value in (interval.estimate, interval.lower, interval.upper)
        )
        evidence = math.exp(min(700.0, float(self._test.log_evidence[0])))
        p = min(1.0, math.exp(-self._most))
        return CanaryResult(difference, lower, upper, evidence, p, interval.n, self._verdict, interval.consistent)


class PairedCanary:
    """Both students answer each sampled request.

    Args:
        alpha: two-sided level.
        min_probability: the least probability with which a request is sampled.
    """

    def __init__(self, *, alpha: float = 0.05, min_probability: float = 1.0) -> None:
        self._difference = _Difference(alpha, 1.0, min_probability)
        self._least = min_probability

    def update(self, current: float, candidate: float, probability: float | None = None) -> CanaryResult:
        """One sampled request.

        Args:
            current: agreement of the current student with the teacher, in [0, 1].
            candidate: that of the candidate.
            probability: with which the request was sampled; None: the least one.
        """
        probability = checked(current, probability or self._least, self._least)
        checked(candidate, probability, self._least)
        self._difference.update(candidate - current, probability)
        return self.result

    @property
    def result(self) -> CanaryResult:
        """After all requests so far."""
        return self._difference.result


class UnpairedCanary:
    """Each request is answered by one of the students.

    Args:
        alpha: two-sided level.
        min_share: the least probability with which either student is chosen, above 0 and at most ½.
        min_probability: the least probability with which a request is sampled.
    """

    def __init__(self, *, alpha: float = 0.05, min_share: float, min_probability: float = 1.0) -> None:
        if not 0 < min_share <= 0.5:
            raise ValueError(f"min_share {min_share} is not above 0 and at most 0.5")
        self._difference = _Difference(alpha, 1 / min_share, min_probability)
        self._least, self._min_share = min_probability, min_share
        self._sum, self._n = 0.5, 1.0

    def update(self, value: float, *, candidate: bool, share: float, probability: float | None = None) -> CanaryResult:
        """One sampled request.

        Args:
            value: agreement of the student that answered with the teacher, in [0, 1].
            candidate: whether it was the candidate.
            share: probability with which the candidate was to answer, decided before.
            probability: with which the request was sampled; None: the least one.
        """
        if not self._min_share * (1 - 1e-12) <= share <= 1 - self._min_share * (1 - 1e-12):
            raise ValueError(f"share {share} is outside [{self._min_share}, {1 - self._min_share}]")
        probability = checked(value, probability or self._least, self._least)
        factor = 1 / share if candidate else -1 / (1 - share)
        self._difference.update((value - self._sum / self._n) * factor, probability)
        self._sum, self._n = self._sum + value, self._n + 1
        return self.result

    @property
    def result(self) -> CanaryResult:
        """After all requests so far."""
        return self._difference.result
