"""Kruskal–Wallis, Dunn and Vargha–Delaney against scipy, scikit-posthocs, and a count over all pairs."""

import numpy as np
import pytest
import scikit_posthocs
from scipy import stats

from understudy.errors import DataError
from understudy.metrics.significance.rank_tests import dunn_test, kruskal_wallis, vargha_delaney

GROUPS = {
    name: np.random.default_rng(seed).integers(1, 6, size).astype(float) + shift
    for name, seed, size, shift in (("cf", 1, 31, 0), ("mt", 2, 40, 0), ("revised", 3, 25, 1))
}


def test_kruskal_wallis_is_that_of_scipy() -> None:
    expected = stats.kruskal(*GROUPS.values())
    found = kruskal_wallis(GROUPS)
    assert found.statistic == pytest.approx(expected.statistic)
    assert found.p_value == pytest.approx(expected.pvalue)
    assert (found.degrees_of_freedom, found.n) == (2, 96)
    assert found.epsilon_squared == pytest.approx(expected.statistic / 95)


@pytest.mark.parametrize("correction", ["bonferroni", "holm"])
def test_dunn_is_that_of_scikit_posthocs(correction) -> None:
    names = list(GROUPS)
    raw = scikit_posthocs.posthoc_dunn(list(GROUPS.values()))
    expected = scikit_posthocs.posthoc_dunn(list(GROUPS.values()), p_adjust=correction)
    for pair in dunn_test(GROUPS, correction=correction):
        cell = names.index(pair.a) + 1, names.index(pair.b) + 1
        assert pair.p_value == pytest.approx(raw.loc[cell])
        assert pair.adjusted == pytest.approx(expected.loc[cell])
        assert np.sign(pair.z) == np.sign(pair.effect.value - 0.5)


def test_vargha_delaney_counts_pairs_with_ties_half() -> None:
    a, b = GROUPS["cf"], GROUPS["revised"]
    above = np.mean([(x > y) + 0.5 * (x == y) for x in a for y in b])
    effect = vargha_delaney(a, b)
    assert effect.value == pytest.approx(above)
    assert effect.value == pytest.approx(stats.mannwhitneyu(a, b).statistic / (len(a) * len(b)))
    assert effect.low < effect.value < effect.high
    other = vargha_delaney(b, a)
    assert (other.value, other.low) == (pytest.approx(1 - effect.value), pytest.approx(1 - effect.high))


def test_the_interval_of_vargha_delaney_agrees_with_brunner_and_munzel_on_whether_there_is_a_difference() -> None:
    """Its bound touches one half at the level at which their test just rejects, to the curvature of the logit."""
    a, b = GROUPS["mt"], GROUPS["revised"]
    p_value = stats.brunnermunzel(a, b).pvalue
    effect = vargha_delaney(a, b, confidence=1 - p_value)
    assert effect.high == pytest.approx(0.5, abs=0.02)


def test_what_ranks_cannot_tell() -> None:
    flat = {"a": np.full(5, 3.0), "b": np.full(4, 3.0)}
    assert (kruskal_wallis(flat).statistic, kruskal_wallis(flat).p_value) == (0.0, 1.0)
    assert [pair.p_value for pair in dunn_test(flat)] == [1.0]
    assert np.isnan(vargha_delaney(np.array([5.0, 6]), np.array([1.0, 2])).low)
    with pytest.raises(DataError, match="at least two groups"):
        kruskal_wallis({"a": np.ones(3), "b": np.array([])})
