"""How far a judge can be relied on, in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from understudy.report.formatting import number


def reliability(details: Mapping[str, Any]) -> list[str]:
    """What a judged metric measured of its judge, in phrases.

    Args:
        details: `Score.details` of a judged metric.
    """
    num_questions, num_cached = details.get("asked") or 0, details.get("cached") or 0
    phrases = [f"judge {details['judge']}" if details.get("judge") else "", _questions_text(num_questions, num_cached)]
    share = details.get("unparseable_share")
    if num_questions and share is not None:
        phrases.append(f"{number(100 * share)}% of its verdicts could not be read")
    missing = details.get("missing") or {}
    phrases.append(
        "no item missing"
        if not missing
        else "items missing: " + ", ".join(f"{count:,} ({reason})" for reason, count in missing.items())
    )
    phrases += _repeats(details)
    return [phrase for phrase in phrases if phrase]


def _questions_text(num_questions: int, num_cached: int) -> str:
    if not num_questions:
        return ""
    return f"{num_questions:,} questions" + (f", {num_cached:,} answered from the cache" if num_cached else "")


def _repeats(details: Mapping[str, Any]) -> list[str]:
    repeats = details.get("repeats") or 1
    if repeats < 2:
        return ["each item judged once, so its own variance is not known"]
    phrases = [f"each item judged {repeats} times"]
    if details.get("varied_share") is not None:
        phrases.append(f"verdicts differ on {number(100 * details['varied_share'])}% of the items")
    if details.get("repeat_variance") is not None:
        phrases.append(f"standard deviation of a verdict {number(100 * details['repeat_variance'] ** 0.5)} points")
    if details.get("reliability") is not None:
        phrases.append(f"reliability (ICC) {number(details['reliability'], 2)}")
    return phrases
