"""Paired tests and effect sizes against scipy, statsmodels and values worked by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.contingency_tables import mcnemar

from understudy.errors import DataError
from understudy.metrics import score
from understudy.metrics.significance import (
    Resampling,
    cohen_dz,
    mcnemar_test,
    odds_ratio,
    randomisation_test,
    rank_biserial,
    wilcoxon_test,
)


@pytest.fixture
def sides() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(2)
    a = generator.beta(2, 2, size=60)
    return a, a - generator.normal(0.02, 0.1, size=60)


def test_randomisation_agrees_with_all_exchanges_by_hand() -> None:
    a, b = np.array([3.0, 1.0, 4.0, 1.0, 5.0, 9.0]), np.array([2.0, 1.5, 1.0, 0.0, 5.5, 6.0])
    sums = np.array([np.dot(signs, a - b) for signs in product((1, -1), repeat=6)])
    exact = np.mean(np.abs(sums) >= abs((a - b).sum()) - 1e-12)
    ours = randomisation_test(a, b, resampling=Resampling(40_000))
    assert ours.p_value == pytest.approx(exact, abs=0.01)
    assert ours.difference == pytest.approx(7 / 6)


def test_randomisation_agrees_with_scipy(sides) -> None:
    theirs = stats.permutation_test(
        sides, lambda x, y, axis: (x - y).mean(axis=axis), permutation_type="samples", n_resamples=20_000, rng=1
    )
    assert randomisation_test(*sides, resampling=Resampling(40_000)).p_value == pytest.approx(theirs.pvalue, abs=0.012)


def test_randomisation_exchanges_counts_of_corpus_bleu() -> None:
    references = [[f"the {name} selects the SMF for session {name}"] for name in "abcd"]
    first = [item[0] for item in references[:3]] + ["nothing like it at all"]
    second = [f"the {name} chooses an SMF for session {name}" for name in "abcd"]
    values = []
    for swap in product((False, True), repeat=4):
        a = [y if exchanged else x for x, y, exchanged in zip(first, second, swap, strict=True)]
        b = [x if exchanged else y for x, y, exchanged in zip(first, second, swap, strict=True)]
        both = [score(side, references, metrics=["bleu"])["bleu"].value for side in (a, b)]
        values.append(both[0] - both[1])
    exact = np.mean(np.abs(values) >= abs(values[0]) - 1e-9)
    scores = [score(side, references, metrics=["bleu"])["bleu"] for side in (first, second)]
    assert randomisation_test(*scores, resampling=Resampling(40_000)).p_value == pytest.approx(exact, abs=0.01)


def test_groups_are_exchanged_whole() -> None:
    a, b = [1.0] * 20, [0.0] * 20
    assert randomisation_test(a, b).p_value < 0.001
    assert randomisation_test(a, b, clusters=["x"] * 10 + ["y"] * 10).p_value == pytest.approx(0.5, abs=0.02)


def test_equal_systems_and_missing_items(sides) -> None:
    assert randomisation_test(sides[0], sides[0]).p_value == 1
    holed = sides[0].copy()
    holed[:10] = np.nan
    result = wilcoxon_test(holed, sides[1])
    assert (result.n, result.missing) == (50, 10)
    assert result.p_value == wilcoxon_test(sides[0][10:], sides[1][10:]).p_value
    with pytest.raises(DataError, match="different metrics"):
        randomisation_test(
            *(score(["a b"], [["a c"]], metrics=["bleu", "rouge1"])[name] for name in ("bleu", "rouge1"))
        )


def test_wilcoxon_agrees_with_scipy(sides) -> None:
    exact = stats.wilcoxon(*sides, method="exact")
    assert wilcoxon_test(*sides).p_value == pytest.approx(exact.pvalue, rel=1e-9)
    long = np.random.default_rng(3).normal(0.1, 1, size=400)
    theirs = stats.wilcoxon(long, method="asymptotic")
    assert wilcoxon_test(long, np.zeros(400)).p_value == pytest.approx(theirs.pvalue, rel=1e-9)


def test_wilcoxon_is_exact_with_ties_and_zeros() -> None:
    differences = np.array([1.0, 1.0, -1.0, 2.0, 2.0, 3.0, 0.0, 0.0, 4.0])
    nonzero = differences[differences != 0]
    ranks = stats.rankdata(np.abs(nonzero))
    sums = np.array([np.dot(signs, ranks) for signs in product((0, 1), repeat=7)])
    seen = ranks[nonzero > 0].sum()
    exact = min(1.0, 2 * min(np.mean(sums <= seen), np.mean(sums >= seen)))
    result = wilcoxon_test(differences, np.zeros(9))
    assert result.p_value == pytest.approx(exact)
    assert result.statistic == 26  # ranks 2, 2, (2), 4.5, 4.5, 6, 7
    assert wilcoxon_test([1.0, 2.0], [1.0, 2.0]).p_value == 1


def test_wilcoxon_sees_ties_that_rounding_hides() -> None:
    a, b = np.array([0.3, 0.8, 0.6, 0.1]), np.array([0.2, 0.7, 0.5, 0.2])
    assert len(np.unique(np.abs(a - b))) > 1
    assert wilcoxon_test(a, b).p_value == wilcoxon_test([1, 1, 1, -1], [0, 0, 0, 0]).p_value


@pytest.mark.parametrize(("only_a", "only_b"), [(9, 2), (3, 3), (0, 6), (1, 0), (20, 31)])
def test_mcnemar_agrees_with_statsmodels(only_a: int, only_b: int) -> None:
    a, b = [1.0] * only_a + [0.0] * only_b + [1.0] * 5, [0.0] * only_a + [1.0] * only_b + [1.0] * 5
    ours = mcnemar_test(a, b)
    assert (ours.only_a, ours.only_b) == (only_a, only_b)
    assert ours.p_exact == pytest.approx(mcnemar([[5, only_a], [only_b, 0]], exact=True).pvalue)
    least, both = min(only_a, only_b), only_a + only_b
    by_hand = 2 * stats.binom.cdf(least, both, 0.5) - stats.binom.pmf(least, both, 0.5)
    assert ours.p_mid == pytest.approx(min(1, by_hand))


def test_mcnemar_of_groups_is_one_vote_each() -> None:
    a, b = [1, 1, 0, 1, 0, 1], [0, 0, 1, 0, 1, 1]
    result = mcnemar_test(a, b, clusters=["x", "x", "x", "y", "y", "z"])
    assert (result.only_a, result.only_b, result.p_exact) == (1, 0, 1)
    with pytest.raises(DataError, match="0 or 1"):
        mcnemar_test([0.5, 1], [0, 1])
    assert mcnemar_test([1, 0], [1, 0]).p_mid == 1


def test_odds_ratio_and_its_exact_interval() -> None:
    shares = stats.binomtest(9, 11).proportion_ci(0.95, method="exact")
    effect = odds_ratio(9, 2)
    assert effect.value == 4.5
    assert effect.low == pytest.approx(shares.low / (1 - shares.low))
    assert effect.high == pytest.approx(shares.high / (1 - shares.high))
    assert odds_ratio(0, 3).low == 0
    assert odds_ratio(3, 0).to_dict()["high"] is None
    assert np.isnan(odds_ratio(0, 0).value)


def test_cohen_dz_is_the_t_statistic_over_root_n(sides) -> None:
    effect = cohen_dz(*sides)
    assert effect.value == pytest.approx(stats.ttest_rel(*sides).statistic / np.sqrt(60))
    assert effect.low < effect.value < effect.high
    assert cohen_dz(sides[0], sides[0]).value == 0
    assert np.isnan(cohen_dz([1.0, 1.0, 1.0], [0.5, 0.5, 0.5]).value)


def test_rank_biserial_by_hand_and_by_walsh_averages(sides) -> None:
    assert rank_biserial([3.0, 2.0, 0.0], [0.0, 0.0, 1.0]).value == pytest.approx((3 + 2 - 1) / 6)
    differences = sides[0] - sides[1]
    walsh = np.sign(differences[:, None] + differences[None, :])[np.triu_indices(60)]
    effect = rank_biserial(*sides)
    assert effect.value == pytest.approx(walsh.mean())
    assert -1 < effect.low < effect.value < effect.high < 1
    all_one_way = rank_biserial([1.0, 2.0, 3.0], [0.0, 0.0, 0.0])
    assert (all_one_way.value, all_one_way.to_dict()["low"]) == (1, None)


def test_sides_exchanged_only_change_the_sign(sides) -> None:
    a, b = sides
    for effect in (cohen_dz, rank_biserial):
        one, two = effect(a, b), effect(b, a)
        assert (one.value, one.low, one.high) == pytest.approx((-two.value, -two.high, -two.low))
    for test in (randomisation_test, wilcoxon_test):
        assert test(a, b).p_value == pytest.approx(test(b, a).p_value)
