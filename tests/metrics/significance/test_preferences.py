"""Bradley and Terry's model against choix, and by its own equations."""

from itertools import combinations

import choix
import numpy as np
import pytest

from understudy.errors import DataError
from understudy.metrics.significance.preferences import bradley_terry, chance_of, log_strengths
from understudy.metrics.significance.resampling import Resampling

TRUE = {"cf": -0.6, "mt": 0.0, "revised": 0.7, "teacher": 1.1}
FEW = Resampling(draws=300)


def comparisons(number, seed):
    rng = np.random.default_rng(seed)
    pairs = [list(combinations(TRUE, 2))[n] for n in rng.integers(0, 6, number)]
    won = [float(rng.random() < chance_of(TRUE, a, b)) for a, b in pairs]
    return [a for a, _ in pairs], [b for _, b in pairs], won


def test_strengths_are_those_of_choix() -> None:
    firsts, seconds, won = comparisons(600, 1)
    names = sorted(TRUE)
    data = [
        (names.index(a), names.index(b)) if w else (names.index(b), names.index(a))
        for a, b, w in zip(firsts, seconds, won, strict=True)
    ]
    expected = choix.ilsr_pairwise(4, data)
    found = bradley_terry(firsts, seconds, won, resampling=FEW)
    assert [s.system for s in found] == names
    assert [s.value for s in found] == pytest.approx(list(expected - expected.mean()), abs=1e-6)
    middle = float(np.mean(list(TRUE.values())))
    assert sum(s.low < TRUE[s.system] - middle < s.high for s in found) >= 3


def test_two_systems_have_the_log_odds_of_their_wins() -> None:
    found = bradley_terry(["a"] * 8, ["b"] * 8, [1, 1, 1, 1, 1, 0, 0, 0.5], resampling=FEW)
    assert found[0].value - found[1].value == pytest.approx(np.log(5.5 / 2.5))
    assert (found[0].wins, found[0].comparisons) == (5.5, 8)


def test_whoever_always_wins_stops_at_a_bound() -> None:
    strengths = log_strengths(np.array([[0.0, 9.0], [0.0, 0.0]]))
    assert np.isfinite(strengths).all()
    assert strengths[0] - strengths[1] == pytest.approx(15)


def test_whole_raters_are_drawn() -> None:
    """Ten raters who each say the same thing fifty times know no more than ten raters who say it once."""
    won = [1, 1, 1, 1, 1, 1, 0, 0, 0, 0]
    once = bradley_terry(["a"] * 10, ["b"] * 10, won, clusters=range(10), resampling=FEW)[0]
    often = bradley_terry(
        ["a"] * 500, ["b"] * 500, np.repeat(won, 50), clusters=np.repeat(range(10), 50).tolist(), resampling=FEW
    )[0]
    assert (often.low, often.high) == (pytest.approx(once.low), pytest.approx(once.high))


def test_no_preference_at_all() -> None:
    with pytest.raises(DataError, match="no preference"):
        bradley_terry([], [], [])
