"""Families of tests and rankings against statsmodels, scipy and published values."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from understudy.errors import DataError
from understudy.metrics.significance import adjusted, friedman_test
from understudy.metrics.significance.multiple_testing import cliques


def test_holm_and_bh_by_hand() -> None:
    p_values = {"w": 0.01, "x": 0.04, "y": 0.03, "z": float("nan")}
    holm = adjusted(p_values, "holm")
    assert [holm[name] for name in "wxy"] == pytest.approx([0.03, 0.06, 0.06])
    assert np.isnan(holm["z"])
    bh = adjusted(p_values, "bh")
    assert [bh[name] for name in "wxy"] == pytest.approx([0.03, 0.04, 0.04])


def test_families_agree_with_statsmodels() -> None:
    p_values = np.random.default_rng(0).uniform(size=50) ** 3
    for ours, theirs in (("holm", "holm"), ("bh", "fdr_bh")):
        assert list(adjusted(dict(enumerate(p_values)), ours).values()) == pytest.approx(
            multipletests(p_values, method=theirs)[1]
        )
    assert adjusted({}) == {}


def test_friedman_agrees_with_scipy_and_ranks_the_best_first() -> None:
    generator = np.random.default_rng(1)
    values = {name: generator.normal(shift, 1, size=50) for name, shift in (("low", 0), ("high", 1), ("mid", 0.4))}
    result, theirs = friedman_test(values), stats.friedmanchisquare(*values.values())
    assert (result.statistic, result.p_value) == pytest.approx((theirs.statistic, theirs.pvalue))
    assert result.systems == ("high", "mid", "low")
    assert sum(result.average_ranks) == pytest.approx(6)
    assert friedman_test(values, higher_is_better=False).systems == ("low", "mid", "high")


@pytest.mark.parametrize(("k", "q"), [(2, 1.960), (3, 2.343), (4, 2.569), (5, 2.728), (10, 3.164)])
def test_critical_difference_is_the_published_one(k: int, q: float) -> None:
    """The quantiles q of Demšar (2006), table 5."""
    values = {str(number): np.random.default_rng(number).normal(size=30) for number in range(k)}
    assert friedman_test(values).critical_difference == pytest.approx(q * np.sqrt(k * (k + 1) / (6 * 30)), rel=5e-4)


def test_nemenyi_and_the_critical_difference_agree() -> None:
    generator = np.random.default_rng(4)
    values = {str(number): generator.normal(number / 4, 1, size=40) for number in range(5)}
    result = friedman_test(values)
    ranks = np.array(result.average_ranks)
    gaps = np.abs(ranks[:, None] - ranks[None, :])
    assert ((np.array(result.nemenyi) < 0.05) == (gaps > result.critical_difference)).all()
    assert (np.diag(result.nemenyi) == 1).all()
    together = {frozenset(clique) for clique in result.cliques}
    for first in range(5):
        for second in range(first + 1, 5):
            pair = {result.systems[first], result.systems[second]}
            assert any(pair <= clique for clique in together) == (gaps[first, second] <= result.critical_difference)


def test_cliques_by_hand() -> None:
    ranks = np.array([1.0, 1.4, 2.0, 3.5, 3.6, 9.0])
    assert cliques(ranks, 1.0) == [(0, 3), (3, 5)]
    assert cliques(ranks, 0.6) == [(0, 2), (1, 3), (3, 5)]
    assert cliques(ranks, 0.01) == []


def test_friedman_of_groups_missing_items_and_equal_systems() -> None:
    a, b, c = [1.0, 0.0, float("nan"), 1.0], [0.0, 0.0, 1.0, 0.0], [0.0, 1.0, 1.0, 0.0]
    result = friedman_test({"a": a, "b": b, "c": c}, clusters=["x", "x", "x", "y"])
    assert result.n == 2
    assert dict(zip(result.systems, result.average_ranks, strict=True)) == {"a": 1.25, "c": 2.0, "b": 2.75}
    same = friedman_test({name: [1.0, 0.5] for name in "abc"})
    assert (same.statistic, same.p_value, same.average_ranks) == (0, 1, (2, 2, 2))
    with pytest.raises(DataError, match="at least two systems"):
        friedman_test({"a": a})
    with pytest.raises(DataError, match="same number"):
        friedman_test({"a": a, "b": b[:2]})
    with pytest.raises(DataError, match="no item that all"):
        friedman_test({"a": [float("nan")], "b": [1.0]})
