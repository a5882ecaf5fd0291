"""What preferences show: shares, tests that draw sides anew, and one scale for all methods."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from understudy.errors import DataError
from understudy.metrics.significance.bootstrap import bootstrap_interval
from understudy.metrics.significance.multiple_testing import adjusted as corrected
from understudy.metrics.significance.preferences import bradley_terry
from understudy.study.answers import Answers, seats_of
from understudy.study.assignment import PairSeat, redraw_pairs
from understudy.study.findings import PreferenceFindings, PreferencePair
from understudy.study.options import AnalysisOptions
from understudy.study.ratings import Preference

_SIDE_DRAWS = 2000


def preference_findings(
    chosen: Sequence[Preference], answers: Answers, options: AnalysisOptions
) -> PreferenceFindings | None:
    """All that preferences show; None where there are none.

    Args:
        chosen: the preferences.
        answers: what they are part of.
        options: draws, levels, seed.

    Raises:
        DataError: a preference is of no place of the assignment.
    """
    if not chosen:
        return None
    raters, outcomes = [choice.rater for choice in chosen], [choice.outcome for choice in chosen]
    firsts, seconds = [choice.first for choice in chosen], [choice.second for choice in chosen]
    kinds = sorted({_kind(choice) for choice in chosen})
    turned = _turns(chosen, answers, options.seed)
    found = {kind: _side_test(chosen, kind, turned) for kind in kinds}
    holm = corrected(found)
    return PreferenceFindings(
        raters=len(set(raters)),
        choices=len(chosen),
        strengths=bradley_terry(firsts, seconds, outcomes, clusters=raters, resampling=options.resampling),
        pairs=tuple(_preference_pair(chosen, kind, found[kind], holm[kind], options) for kind in kinds),
        first_share=bootstrap_interval(np.array(outcomes), clusters=raters, resampling=options.resampling),
    )


def _kind(choice: Preference) -> tuple[str, str]:
    a, b = sorted((choice.first, choice.second))
    return a, b


def _signs(chosen: Sequence[Preference], kind: tuple[str, str]) -> np.ndarray:
    """`[n]` 1 where the kind's first method was preferred, −1 where the second, 0 a tie or another kind."""
    return np.array(
        [
            0.0 if _kind(choice) != kind else (2 * choice.outcome - 1) * (1 if choice.first == kind[0] else -1)
            for choice in chosen
        ]
    )


def _turns(chosen: Sequence[Preference], answers: Answers, seed: int) -> np.ndarray:
    """`[draws, n]` which pairs stand the other way round: by the design, or within each rater and kind by coins."""
    rng = np.random.default_rng([seed, 8])
    seats = seats_of(answers.study)
    if seats is None or not isinstance(seats[0], PairSeat):
        return rng.integers(0, 2, (_SIDE_DRAWS, len(chosen))).astype(bool)
    numbers = {(seat.rater, seat.item): number for number, seat in enumerate(seats)}
    rows = [numbers.get((answers.slots.get(choice.rater, -1), choice.item)) for choice in chosen]
    if None in rows or any(
        (seats[row].first, seats[row].second) != (choice.first, choice.second)
        for row, choice in zip(rows, chosen, strict=True)
        if row is not None
    ):
        raise DataError("a preference is of no place of the assignment", hint="the preferences are of another study")
    return redraw_pairs(seats, _SIDE_DRAWS, rng)[:, np.array(rows)]


def _side_test(chosen: Sequence[Preference], kind: tuple[str, str], turned: np.ndarray) -> float:
    """The p of choices for one minus choices for the other, when sides are drawn anew and the chosen side stays."""
    signs = _signs(chosen, kind)
    observed = abs(signs.sum())
    drawn = np.abs(np.where(turned, -1.0, 1.0) @ signs)
    return float((1 + (drawn >= observed - 1e-9).sum()) / (1 + len(drawn)))


def _preference_pair(
    chosen: Sequence[Preference], kind: tuple[str, str], p_value: float, holm: float, options: AnalysisOptions
) -> PreferencePair:
    signs = _signs(chosen, kind)
    there = np.array([_kind(choice) == kind for choice in chosen])
    raters = [choice.rater for choice, mine in zip(chosen, there, strict=True) if mine]
    share = bootstrap_interval((signs[there] + 1) / 2, clusters=raters, resampling=options.resampling)
    better = None if holm > options.alpha else kind[0] if signs.sum() > 0 else kind[1]
    won = float(((signs[there] + 1) / 2).sum())
    return PreferencePair(*kind, won, int(there.sum()), share, p_value, holm, better)
