"""Gap recovered: how much of the way from the SFT-only student to the teacher distillation went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.metrics import Score
from understudy.metrics.significance import Resampled, Resampling
from understudy.metrics.significance.pairing import row_sums
from understudy.metrics.significance.resampling import Columns, resample


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


def gaps_recovered(
    scores: Mapping[str, Mapping[str, Score]],
    systems: tuple[str, str, str],
    clusters: Sequence[int],
    resampling: Resampling,
) -> dict[str, Gap]:
    """Metric -> gap recovered, on the items that the run's own student, SFT-only and the teacher all have.

    Args:
        scores: system -> metric -> score over all items.
        systems: names of the student, of SFT-only and of the teacher; no gaps where one is absent.
        clusters: the group number of each item.
        resampling: draws, level and seed.
    """
    if not set(systems) <= scores.keys():
        return {}
    cluster_of_item, columns, counts = np.asarray(clusters), [], {}
    for metric in scores[systems[0]]:
        measured = [scores[name][metric] for name in systems if metric in scores[name]]
        common = np.logical_and.reduce([score.measured for score in measured])
        if len(measured) < len(systems) or not common.any():
            continue
        counts[metric] = len(set(cluster_of_item[common]))
        columns += [
            Columns(
                row_sums(score.statistics * common[:, None], cluster_of_item, int(cluster_of_item.max()) + 1),
                score.from_totals,
            )
            for score in measured
        ]
    resampled = iter(resample(columns, resampling) if columns else ())
    return {
        metric: gap_recovered(
            *figures,
            confidence=resampling.confidence,
            num_clusters=counts[metric],
            maximum=scores[systems[0]][metric].maximum,
        )
        for metric, figures in zip(counts, zip(resampled, resampled, resampled, strict=True), strict=True)
    }


def gap_recovered(
    distilled: Resampled,
    sft: Resampled,
    teacher: Resampled,
    *,
    confidence: float,
    num_clusters: int,
    maximum: float = 1.0,
) -> Gap:
    """The gap recovered on one metric, from three arms over the same draws.

    A ratio over a denominator that may be 0 says nothing, so it is given only when the interval of teacher − SFT-only
    lies above 0. With little to share out, the ratio's own interval is wide: read it before the value.

    Args:
        distilled: the run's own student.
        sft: the SFT-only student.
        teacher: the teacher.
        confidence: level of the intervals.
        num_clusters: independent groups among the items.
        maximum: the metric's own, so that the reason is in points of 0 to 100.
    """
    distance = teacher.minus(sft)
    low, high = distance.bounds(confidence, num_clusters)
    if not low > 0:
        return Gap(None, None, None, _reason(distance.value, low, high, confidence, 100 / maximum))
    share = distilled.minus(sft).over(distance)
    return Gap(share.value, *share.bounds(confidence, num_clusters))


def _reason(difference: float, low: float, high: float, confidence: float, factor: float) -> str:
    if low != low:
        return "not given: too few items to tell the teacher from the SFT-only student"
    points, *interval = (f"{factor * value:+.1f}".replace("-", "−") for value in (difference, low, high))
    figures = f"teacher − SFT-only is {points} points, {confidence:.0%} interval {' to '.join(interval)}"
    if high < 0:
        return f"not given: the teacher is worse than the SFT-only student ({figures})"
    return f"not given: the teacher is not clearly better than the SFT-only student ({figures})"
