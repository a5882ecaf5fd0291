"""Detectors of change: uniform ranks, an exact martingale, false alarms as rare as promised."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import beta, kstest

from understudy.metrics.sequential.canary import PairedCanary, UnpairedCanary
from understudy.metrics.sequential.shift import BOTH, ConformalRanks, EDetector, ShiftDetector, edges_of
from understudy.metrics.sequential.two_samples import KernelDistance, psi_of_shares, stability


def test_ranks_are_the_counted_ones() -> None:
    rng = np.random.default_rng(0)
    fit, seen = rng.integers(0, 9, 40).astype(float), list(rng.integers(0, 9, 30).astype(float))
    ranks = ConformalRanks(edges_of(fit), seen)
    for score, u in zip(rng.integers(0, 9, 50).astype(float), rng.uniform(size=50), strict=True):
        seen.append(score)
        larger, equal = sum(other > score for other in seen), sum(other == score for other in seen)
        assert ranks.p_values(score, u)[0] == pytest.approx((larger + u * equal) / len(seen))
    assert ranks.n == 80


@pytest.mark.parametrize("ties", [False, True])
def test_ranks_are_uniform_and_independent_with_a_small_reference(ties: bool) -> None:
    rng, streams = np.random.default_rng(1), 4000
    scores = rng.gamma(2, size=(streams, 32))
    scores = scores.round(1) if ties else scores
    ranks = ConformalRanks(edges_of(rng.gamma(2, size=20)), scores[:, :20])
    p = np.stack([ranks.p_values(column, rng.uniform(size=streams)) for column in scores[:, 20:].T])
    assert kstest(p.ravel(), "uniform").pvalue > 0.01
    assert np.abs(np.corrcoef(p) - np.eye(12)).max() < 0.07


def test_each_bet_is_a_density() -> None:
    detector = EDetector("both", 1e9, streams=1999)
    p = (np.arange(1999) + 0.5) / 1999
    detector.update(p)
    expected = np.mean([beta.pdf(p, a, b) for a, b in BOTH], axis=0)
    assert np.exp(detector.log_evidence) == pytest.approx(expected)
    assert np.mean([beta.cdf(1, a, b) for a, b in BOTH]) == 1


def test_restarts_are_the_sum_over_all_beginnings() -> None:
    p = np.random.default_rng(2).uniform(size=12)
    detector = EDetector("larger", 1e30)
    for value in p:
        detector.update([value])
    by_hand = np.mean(
        [sum(np.prod([beta.pdf(value, a, b) for value in p[start:]]) for start in range(12)) for a, b in BOTH[:5]]
    )
    assert np.exp(detector.log_evidence[0]) == pytest.approx(by_hand)


def test_false_alarms_are_as_rare_as_promised() -> None:
    rng, streams, steps, threshold = np.random.default_rng(3), 400, 1500, 1000
    detector = EDetector("both", threshold, streams=streams)
    alarms = sum(int(detector.update(rng.uniform(size=streams)).sum()) for _ in range(steps))
    # 600 expected where the promise were just kept; four standard deviations of that are left to chance.
    assert alarms < streams * steps / threshold + 4 * (streams * steps / threshold) ** 0.5


def test_a_shift_of_one_deviation_is_seen_within_100_requests() -> None:
    rng = np.random.default_rng(4)
    fit, reference = rng.normal(size=300), rng.normal(size=300)
    waits = []
    for seed in range(20):
        detector = ShiftDetector(edges_of(fit), reference, direction="both", threshold=8 * 70_000, seed=seed)
        assert not any(detector.update(score) for score in rng.normal(size=200))
        waits.append(next(step for step in range(500) if detector.update(rng.normal(1))))
    assert np.quantile(waits, 0.95) < 100


def test_psi_is_the_symmetric_divergence() -> None:
    p, q = np.array([0.2, 0.3, 0.5]), np.array([0.4, 0.4, 0.2])
    assert psi_of_shares(p, q) == pytest.approx(sum((a - b) * np.log(a / b) for a, b in zip(p, q, strict=True)))


@pytest.mark.parametrize("second", [(0.25, 0.25, 0.25, 0.25), (0.4, 0.3, 0.2, 0.1), (0.7, 0.1, 0.1, 0.1)])
def test_the_interval_of_psi_holds_the_true_one(second: tuple[float, ...]) -> None:
    p, q = np.array(second), np.full(4, 0.25)
    rng, true, runs = np.random.default_rng(5), float(psi_of_shares(p, q)), 300
    draws = [stability(rng.multinomial(500, p), rng.multinomial(500, q), draws=200) for _ in range(runs)]
    assert np.mean([draw.lower <= true <= draw.upper for draw in draws]) >= 0.92
    assert np.mean([draw.psi for draw in draws]) == pytest.approx(true, abs=0.01 + 0.03 * true)


def test_mmd_is_the_sum_over_pairs() -> None:
    rng = np.random.default_rng(6)
    sample, block = rng.normal(size=(12, 3)), rng.normal(1, size=(4, 3))
    distance = KernelDistance(sample)

    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.exp(-((x - y) ** 2).sum() / (2 * distance.bandwidth**2)))

    within = np.mean([k(x, y) for i, x in enumerate(block) for j, y in enumerate(block) if i != j])
    usual = np.mean([k(x, y) for i, x in enumerate(sample) for j, y in enumerate(sample) if i != j])
    across = np.mean([k(x, y) for x in block for y in sample])
    assert distance.mmd(block) == pytest.approx(within + usual - 2 * across)


def test_a_canary_of_equal_students_errs_at_most_once_in_twenty() -> None:
    rng, wrong = np.random.default_rng(7), 0
    for _ in range(60):
        canary = PairedCanary()
        values = (rng.random((300, 2)) < 0.8).astype(float)
        wrong += any(canary.update(*pair).verdict != "undecided" for pair in values)
    assert wrong <= 60 * 0.05 + 2


def test_a_better_candidate_is_found_paired_sooner_than_unpaired() -> None:
    rng = np.random.default_rng(8)
    paired, unpaired, steps = PairedCanary(), UnpairedCanary(min_share=0.5), []
    first = rng.random(6000) < 0.7
    second = first | (rng.random(6000) < 0.5)
    for canary in ("paired", "unpaired"):
        step = 0
        for a, b in zip(first.astype(float), second.astype(float), strict=True):
            step += 1
            chosen = bool(rng.random() < 0.5)
            result = (
                paired.update(a, b)
                if canary == "paired"
                else unpaired.update(b if chosen else a, candidate=chosen, share=0.5)
            )
            if result.verdict != "undecided":
                break
        assert result.verdict == "candidate"
        assert result.lower < 0.15 < result.upper
        assert result.p <= 0.05
        steps.append(step)
    assert steps[0] < steps[1]


def test_a_worse_candidate_is_called_worse_and_a_verdict_stays() -> None:
    canary = PairedCanary()
    for _ in range(100):
        result = canary.update(1.0, 0.0)
    assert result.verdict == "current"
    for _ in range(500):
        result = canary.update(0.0, 1.0)
    assert result.verdict == "current"
