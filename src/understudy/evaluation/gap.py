"""Gap recovered: how much of the way from the SFT-only student to the teacher distillation went."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.metrics.significance import percentile_bounds


@dataclass(frozen=True, slots=True)
class Gap:
    """gap = (distilled − SFT-only) / (teacher − SFT-only): 0 is no gain over SFT, 1 is the teacher.

    Attributes:
        value: the share, or None where there is no gap to speak of.
        low: lower bound of its percentile bootstrap interval.
        high: upper bound.
        reason: in words, why `value` is not given; empty where it is.
    """

    value: float | None
    low: float | None
    high: float | None
    reason: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"value": self.value, "low": self.low, "high": self.high, "reason": self.reason}


def gap_recovered(
    distilled: tuple[float, np.ndarray],
    sft: tuple[float, np.ndarray],
    teacher: tuple[float, np.ndarray],
    *,
    confidence: float,
    groups: int,
) -> Gap:
    """The gap recovered on one metric, from (value, resampled values) of three arms over the same draws.

    A ratio over a denominator that may be 0 says nothing, so it is given only when the interval of teacher − SFT-only
    lies above 0. With little to share out, the ratio's own interval is wide: read it before the value.
    """
    below = teacher[0] - sft[0]
    below_samples = teacher[1] - sft[1]
    low, high = percentile_bounds(below_samples, confidence, groups)
    if not low > 0:
        return Gap(None, None, None, _reason(below, low, high, confidence))
    share = (distilled[1] - sft[1])[below_samples > 0] / below_samples[below_samples > 0]
    bounds = percentile_bounds(share, confidence, groups)
    return Gap((distilled[0] - sft[0]) / below, *bounds)


def _reason(difference: float, low: float, high: float, confidence: float) -> str:
    if low != low:
        return "not given: too few items to tell the teacher from the SFT-only student"
    figures = f"teacher − SFT-only is {difference:.3g}, {confidence:.0%} interval {low:.3g} to {high:.3g}"
    if high < 0:
        return f"not given: the teacher is worse than the SFT-only student ({figures})"
    return f"not given: the teacher is not clearly better than the SFT-only student ({figures})"
