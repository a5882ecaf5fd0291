"""What a pilot says: worth it, not worth it, or cannot tell – and what would be worth paying for.

A verdict rests on paired tests of the largest amount alone, Holm over the few that are made. No sign of a gain is no
sign that there is none: "not worth it" needs an interval that lies below the smallest gain of interest, and students
that have learned what these rows and steps teach.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from understudy.metrics.significance import PairTest, Settings
from understudy.metrics.significance.power import items_needed_at

Kind = Literal["worth it", "not worth it", "cannot tell"]
Answer = Literal["yes", "no", "cannot tell"]


@dataclass(frozen=True)
class Paired:
    """A paired difference, in points of 0 to 100.

    Attributes:
        difference: first minus second.
        low: lower bound of its interval; None where there are too few items for one.
        high: upper bound.
        sign: 1 where it is significantly above 0, -1 below, else 0.
        items: test items that it is of.
        items_needed: how many would show it, or the smallest gain of interest where it is smaller; None: unknown.
    """

    difference: float
    low: float | None
    high: float | None
    sign: int
    items: int
    items_needed: int | None

    def below(self, least: float) -> bool:
        """Whether a gain of `least` points is ruled out."""
        return self.high is not None and self.high < least

    @property
    def text(self) -> str:
        """Difference and interval."""
        points = f"{self.difference:+.1f} points"
        if self.low is None or self.high is None:
            return points.replace("-", "−")
        return f"{points} ({self.low:+.1f} to {self.high:+.1f})".replace("-", "−")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """What the pilot says.

    Attributes:
        kind: `worth it`, `not worth it` or `cannot tell`.
        why: one sentence.
        items_needed: of `cannot tell`, the test items that could tell; None where it is not for want of these.
        rows_needed: of `cannot tell`, rows to learn from that could; None where it is not for want of these.
    """

    kind: Kind
    why: str
    items_needed: int | None = None
    rows_needed: int | None = None


@dataclass(frozen=True)
class Advice:
    """Whether something is worth paying for.

    Attributes:
        what: `more rows`, `more steps`, `a larger student`.
        answer: yes, no, cannot tell.
        why: one sentence with its figures.
    """

    what: str
    answer: Answer
    why: str


def paired_of(test: PairTest, settings: Settings, least: float, family: int) -> Paired:
    """A test in points, its sign after Holm.

    Args:
        test: of one metric.
        settings: level and power.
        least: the smallest gain of interest, in points.
        family: how many tests the level is shared by.
    """
    figures = test.comparison
    factor = 100 / figures.maximum * (1 if figures.higher_is_better else -1)
    size = max(abs(figures.difference * factor), least)
    looked_for = replace(figures, difference=size * figures.maximum / 100)
    items = items_needed_at(looked_for, settings.alpha / family, power=settings.power, alpha=settings.alpha)
    low, high = sorted((figures.low * factor, figures.high * factor))
    return Paired(
        difference=figures.difference * factor,
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        sign=0 if not test.better else 1 if test.better == test.a else -1,
        items=figures.n,
        items_needed=None if math.isnan(items) else int(items),
    )


def judge(
    *,
    gain: Paired,
    ahead: Paired,
    learned: Paired,
    rise: Paired | None,
    rows: tuple[int, int],
    least: float,
) -> Verdict:
    """The verdict.

    Args:
        gain: the method's student minus SFT-only.
        ahead: the teacher minus SFT-only.
        learned: the best trained student minus the student as it came.
        rise: the method's student at the largest amount minus at half of it.
        rows: that the pilot learned from, and that there are.
        least: the smallest gain of interest, in points.
    """
    used, there = rows
    if gain.sign > 0 and not gain.below(least):
        return Verdict("worth it", f"distilling gains {gain.text} over fine-tuning on the gold answers alone.")
    if learned.sign <= 0:
        return Verdict(
            "cannot tell",
            f"no student is shown to have learned anything: the best is {learned.text} from the student as it came.",
            items_needed=_more(learned),
            rows_needed=there if used < there else None,
        )
    if used < there and rise is not None and rise.sign > 0:
        return Verdict(
            "cannot tell",
            f"the distilled student still rises with its rows ({rise.text} from half of the pilot's to all of them), "
            f"and these are {used:,} of {there:,}; so far it gains {gain.text}.",
            items_needed=_more(gain),
            rows_needed=there,
        )
    if gain.sign < 0:
        return Verdict("not worth it", f"the distilled student is worse than SFT-only: {gain.text}.")
    if gain.below(least):
        return Verdict("not worth it", f"a gain of {least:g} points or more is ruled out: it is {gain.text}.")
    if ahead.below(least) or ahead.sign < 0:
        return Verdict("not worth it", f"the teacher is not ahead of the SFT-only student: {ahead.text}.")
    return Verdict(
        "cannot tell",
        f"the distilled student stands {gain.text} from SFT-only on {gain.items:,} test items.",
        items_needed=_more(gain),
    )


def _more(test: Paired) -> int | None:
    """Items that could tell, where they are more than there were."""
    return test.items_needed if test.items_needed is not None and test.items_needed > test.items else None


def more_rows(rise: Paired | None, rows: tuple[int, int], least: float) -> Advice:
    """Whether more rows would pay, from the largest amount against half of it."""
    if rise is None:
        return Advice("more rows", "cannot tell", "the two larger amounts are one and the same rows.")
    half, full = rows
    why = f"from {half:,} rows to {full:,} the distilled student gained {rise.text}"
    if rise.sign > 0 and not rise.below(least):
        return Advice("more rows", "yes", f"{why}, and the curve still rises.")
    if rise.below(least):
        return Advice("more rows", "no", f"{why}.")
    needed = f"; {_more(rise):,} test items could tell" if _more(rise) else ""
    return Advice("more rows", "cannot tell", f"{why}{needed}.")


def more_steps(curves: list[list[tuple[int, float]]], least: float) -> Advice:
    """Whether more steps would pay, from the last two development scores of each seed.

    Args:
        curves: (step, score of 0 to 100) of each seed.
        least: the smallest gain of interest, in points.
    """
    rises = [curve[-1][1] - curve[-2][1] for curve in curves if len(curve) > 1]
    if not rises:
        return Advice("more steps", "cannot tell", "development rows were answered less than twice.")
    mean, steps = sum(rises) / len(rises), curves[0]
    why = f"from step {steps[-2][0]:,} to {steps[-1][0]:,} the development score changed by {mean:+.1f} points"
    why += f" ({min(rises):+.1f} to {max(rises):+.1f} over {len(rises)} seeds)" if len(rises) > 1 else " (one seed)"
    why = why.replace("-", "−")
    if all(rise >= least for rise in rises):
        return Advice("more steps", "yes", f"{why}, while the learning rate was falling to 0.")
    if all(rise < least for rise in rises):
        return Advice("more steps", "no", f"{why}; the learning rate falls to 0, so this is a sign and no proof.")
    return Advice("more steps", "cannot tell", f"{why}; the seeds disagree.")


def larger_student(left: Paired, least: float) -> Advice:
    """Whether a larger student could gain, from what is left to the teacher."""
    if left.sign > 0 and not left.below(least):
        return Advice("a larger student", "yes", f"{left.text} are left to the teacher, which a larger one may close.")
    if left.below(least):
        return Advice("a larger student", "no", f"nothing much is left to the teacher: {left.text}.")
    needed = f"; {_more(left):,} test items could tell" if _more(left) else ""
    return Advice("a larger student", "cannot tell", f"to the teacher it is {left.text}{needed}.")
