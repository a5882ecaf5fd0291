"""Intervals that hold at all times: equal to the authors' own, and right as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from understudy.metrics.sequential.confidence_sequence import (
    ConfidenceSequence,
    HedgedCapital,
    RunningMeanSequence,
    stitched_bound,
)


def test_bounds_are_those_of_confseq() -> None:
    """Computed once with gostevehoward/confseq @ 70b1ef30 (`hedged_cs`, alpha 0.05, 1000 breaks)."""
    theirs = {5: (0.259, 1.0), 20: (0.564, 0.880), 50: (0.682, 0.843), 100: (0.747, 0.839), 200: (0.778, 0.833)}
    _same(np.random.default_rng(7).beta(8, 2, size=200), theirs)
    theirs = {5: (0.196, 1.0), 20: (0.658, 1.0), 50: (0.777, 0.997), 100: (0.847, 0.984), 300: (0.864, 0.958)}
    _same((np.random.default_rng(8).random(300) < 0.9).astype(float), theirs)


def _same(values: np.ndarray, theirs: dict[int, tuple[float, float]]) -> None:
    sequence = ConfidenceSequence()
    ours = [sequence.update(float(value)) for value in values]
    for step, bounds in theirs.items():
        assert (ours[step - 1].lower, ours[step - 1].upper) == pytest.approx(bounds, abs=1e-9)


def test_capital_is_that_of_confseq() -> None:
    """`betting_mart` of the same commit, its maximum and its convex combination of the two bettors."""
    capital = HedgedCapital([0.5, 0.75, 0.8, 0.85])
    for value in np.random.default_rng(7).beta(8, 2, size=200):
        capital.update(value)
    theirs = [8.321690769968034e20, 612.9034103612855, 0.8711743161370399, 1632.610715836486]
    assert np.exp(capital.log_capital) == pytest.approx(theirs, rel=1e-9)
    mixed = [8.321690769968034e20, 612.903410408327, 0.8788676425908559, 1632.6129409133382]
    assert np.exp(capital.log_evidence) == pytest.approx(mixed, rel=1e-9)


def test_a_sample_of_one_probability_is_an_unweighted_one() -> None:
    values = np.random.default_rng(1).random(100)
    sampled, whole = ConfidenceSequence(min_probability=0.05), ConfidenceSequence()
    for value in values:
        assert sampled.update(float(value), 0.05) == whole.update(float(value))


def test_what_is_sampled_more_often_counts_less() -> None:
    sequence = ConfidenceSequence(min_probability=0.1)
    for _ in range(300):
        for value, probability in ((0.0, 1.0), (1.0, 0.1)):
            interval = sequence.update(value, probability)
    # One in ten of the ones was looked at and each of the zeros: ten ones stand against each zero.
    assert interval.estimate == pytest.approx(10 / 11)
    assert interval.lower < 10 / 11 < interval.upper < 0.97


@pytest.mark.parametrize("varied", [False, True])
def test_the_mean_is_inside_at_all_times_in_95_of_100_sequences(varied: bool) -> None:
    rng, runs = np.random.default_rng(0), 1000
    capital, missed = HedgedCapital(np.full(runs, 0.8)), np.zeros(runs, bool)
    for _ in range(400):
        unsure = rng.random(runs) < 0.1
        agrees = (rng.random(runs) >= 0.2 * np.where(unsure, 4, 2 / 3)).astype(float)
        probability = np.where(unsure & varied, 0.5, 0.05)
        capital.update(agrees, np.where(rng.random(runs) < probability * (1 if varied else 20), 0.05 / probability, 0))
        missed |= capital.log_capital >= math.log(20)
    assert missed.mean() <= 0.05


def test_the_capital_is_a_martingale() -> None:
    """E[K] = 1 exactly: all 2⁸ outcomes of eight requests, sampled or not, weighed by their probability."""
    mean, weights, total = 0.3, (1.0, 0.25), 0.0
    for code in range(2**8):
        capital, chance = HedgedCapital([mean]), 1.0
        for step in range(4):
            value, weight = float(code >> 2 * step & 1), weights[code >> (2 * step + 1) & 1]
            chance *= (mean if value else 1 - mean) * 0.5
            capital.update(value, weight)
        total += chance * math.exp(capital.log_evidence[0])
    assert total == pytest.approx(1.0, abs=1e-12)


def test_an_agreement_that_falls_is_told() -> None:
    sequence = ConfidenceSequence()
    for value in [1.0] * 300 + [0.0] * 300:
        interval = sequence.update(value)
    assert not interval.consistent
    assert interval.lower <= interval.upper


def test_the_average_so_far_is_inside_while_it_moves() -> None:
    rng, held = np.random.default_rng(4), 0
    for _ in range(60):
        sequence, total, good = RunningMeanSequence(min_probability=0.2), 0.0, True
        for step in range(300):
            mean = 0.9 - 0.5 * step / 300
            total += mean
            agrees = float(rng.random() < mean)
            interval = sequence.update(agrees if rng.random() < 0.2 else None, 0.2)
            good &= interval.lower <= total / (step + 1) <= interval.upper
        held += good
    assert held >= 57
    assert interval.lower > 0.2


def test_the_curve_is_that_of_the_paper() -> None:
    """Worked out from equation 10 of Howard et al. with η = 2, s = 1.4, in the order of the paper's symbols."""
    length = 1.4 * math.log(math.log(2 * 50)) + math.log(3.1055472779775806 / (0.025 * math.log(2) ** 1.4))
    k1, k2 = (2**0.25 + 2**-0.25) / math.sqrt(2), (math.sqrt(2) + 1) / 2
    assert stitched_bound(50, 0.025, scale=1) == pytest.approx(
        math.sqrt(k1**2 * 50 * length + k2**2 * length**2) + k2 * length
    )


@pytest.mark.parametrize(("value", "probability"), [(1.1, 0.5), (-0.1, 0.5), (0.5, 0.04), (0.5, 1.1), (math.nan, 0.5)])
def test_what_breaks_the_promise_is_refused(value: float, probability: float) -> None:
    with pytest.raises(ValueError, match="outside"):
        ConfidenceSequence(min_probability=0.05).update(value, probability)
