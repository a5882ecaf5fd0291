"""How a study is analysed."""

from __future__ import annotations

from dataclasses import dataclass

from understudy.metrics.significance.resampling import Resampling
from understudy.study.preregistration import PAIR_DRAWS


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """How to analyse.

    Attributes:
        draws: of the permutation tests of two methods.
        confidence: level of the intervals; 1 − confidence is the level of the tests.
        resamples: of the bootstraps.
        seed: of all of them.
    """

    draws: int = PAIR_DRAWS
    confidence: float = 0.95
    resamples: int = 4000
    seed: int = 0

    @property
    def resampling(self) -> Resampling:
        """For the bootstraps."""
        return Resampling(self.resamples, self.confidence, self.seed)

    @property
    def alpha(self) -> float:
        """Level of the tests."""
        return round(1 - self.confidence, 12)
