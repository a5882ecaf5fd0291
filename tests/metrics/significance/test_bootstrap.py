"""Intervals and paired tests against scipy, and against hand-worked values."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sacrebleu
from scipy import stats

from understudy.errors import DataError
from understudy.metrics import Score, bootstrap_interval, paired_bootstrap, score
from understudy.metrics.significance import Resampling, resampled_totals


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(3).gamma(2.0, 1.0, size=80)


def test_interval_agrees_with_scipy_at_the_wider_level(values) -> None:
    """Hesterberg's expansion, by hand: z of the percentiles is t of 79 degrees of freedom times sqrt(80/79)."""
    level = 1 - 2 * stats.norm.sf(stats.t.ppf(0.975, 79) * np.sqrt(80 / 79))
    assert level == pytest.approx(0.95482, abs=1e-5)
    ours = bootstrap_interval(values, resampling=Resampling(40_000))
    theirs = stats.bootstrap(
        (values,),
        np.mean,
        n_resamples=40_000,
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    assert ours.value == pytest.approx(values.mean())
    spread = values.std() / np.sqrt(len(values))
    assert ours.low == pytest.approx(theirs.low, abs=0.05 * spread)
    assert ours.high == pytest.approx(theirs.high, abs=0.05 * spread)


def test_paired_interval_and_p_agree_with_the_t_test(values) -> None:
    other = values + np.random.default_rng(4).normal(-0.1, 0.5, size=len(values))
    ours = paired_bootstrap(values, other, resampling=Resampling(40_000))
    theirs = stats.ttest_rel(values, other)
    interval = theirs.confidence_interval(0.95)
    assert ours.difference == pytest.approx((values - other).mean())
    assert ours.p_value == pytest.approx(theirs.pvalue, abs=0.02)
    assert (ours.low, ours.high) == pytest.approx((interval.low, interval.high), abs=0.015)


def test_pairing_takes_out_what_items_share(values) -> None:
    other = values + 0.01 + np.random.default_rng(5).normal(0, 0.01, size=len(values))
    assert paired_bootstrap(other, values).low > 0
    assert bootstrap_interval(other).low < bootstrap_interval(values).high


def test_sides_exchanged_only_change_the_sign(values) -> None:
    other = np.roll(values, 1)
    one, two = paired_bootstrap(values, other), paired_bootstrap(other, values)
    assert (one.difference, one.low, one.high) == pytest.approx((-two.difference, -two.high, -two.low))
    assert one.p_value == two.p_value


def test_equal_systems_are_not_different(values) -> None:
    same = paired_bootstrap(values, values)
    assert (same.difference, same.low, same.high, same.p_value) == (0, 0, 0, 1)


def test_seed_fixes_the_draws(values) -> None:
    assert bootstrap_interval(values, resampling=Resampling(seed=1)) == bootstrap_interval(
        values, resampling=Resampling(seed=1)
    )
    assert bootstrap_interval(values, resampling=Resampling(seed=1)) != bootstrap_interval(
        values, resampling=Resampling(seed=2)
    )


def test_bleu_is_resampled_from_counts() -> None:
    predictions = [f"the {name} selects the SMF for session {name}" for name in "abcdefghij"]
    references = [[f"the {name} chooses the SMF for session {name}"] for name in "abcdefghij"]
    predictions[3] = "no idea at all about this"
    result = score(predictions, references, metrics=["bleu"])["bleu"]
    draw = np.random.default_rng(0).integers(10, size=10)
    resampled = result.from_totals(result.statistics[draw].sum(axis=0))
    whole = sacrebleu.corpus_bleu([predictions[k] for k in draw], [[references[k][0] for k in draw]])
    assert resampled == pytest.approx(whole.score)
    better = score([item[0] for item in references], references, metrics=["bleu"])["bleu"]
    difference = paired_bootstrap(better, result, resampling=Resampling(500))
    assert difference.difference == pytest.approx(100 - result.value)
    assert difference.low > 0


def test_draws_are_whole_groups() -> None:
    statistics = np.array([[1.0, 1.0], [2.0, 1.0], [10.0, 1.0]])
    totals = resampled_totals(statistics, resampling=Resampling(200, seed=0), clusters=["fact", "fact", "other"])
    assert {tuple(row) for row in totals} == {(6, 4), (13, 3), (20, 2)}


def test_copies_of_an_item_are_no_new_evidence(values) -> None:
    copied, names = np.repeat(values, 5), np.repeat(np.arange(len(values)), 5)
    alone, honest = bootstrap_interval(values), bootstrap_interval(copied, clusters=names.tolist())
    naive = bootstrap_interval(copied)
    assert (honest.low, honest.high) == pytest.approx((alone.low, alone.high))
    assert naive.high - naive.low < 0.6 * (alone.high - alone.low)


def test_same_draws_whatever_the_columns(values) -> None:
    wide = np.stack([values, values**2, np.ones_like(values)], axis=1)
    one = resampled_totals(wide[:, :1], resampling=Resampling(50, seed=7))
    assert np.allclose(resampled_totals(wide, resampling=Resampling(50, seed=7))[:, :1], one, rtol=1e-12)


def test_few_items_never_look_sure() -> None:
    one = paired_bootstrap([1.0], [0.0])
    assert one.p_value == 1
    assert np.isnan(one.low)
    assert one.to_dict()["low"] is None
    assert paired_bootstrap([1.0] * 4, [0.0] * 4).p_value == pytest.approx(0.125)
    assert paired_bootstrap([1.0] * 40, [0.0] * 40, clusters=["one"] * 20 + ["two"] * 20).p_value == 0.5
    assert not bootstrap_interval([1.0]).excludes(0)


def test_faults_are_named() -> None:
    with pytest.raises(DataError, match="cannot pair 2 items with 1"):
        paired_bootstrap([1.0, 2.0], [1.0])
    with pytest.raises(DataError, match="at least one value"):
        bootstrap_interval([])
    with pytest.raises(DataError, match="1 group names for 2 items"):
        bootstrap_interval([1.0, 2.0], clusters=["a"])


def test_score_and_its_values_agree() -> None:
    result = score(["a b", "c"], [["a"], ["c"]], metrics=["token_f1"])["token_f1"]
    assert isinstance(result, Score)
    assert bootstrap_interval(result) == bootstrap_interval(result.per_example)


def test_missing_items_are_out_of_both_sides() -> None:
    nan = float("nan")
    a, b = [1.0, nan, 0.5, 0.25, nan, 1.0], [0.5, 1.0, nan, 0.75, nan, 0.5]
    result = paired_bootstrap(a, b, resampling=Resampling(200), clusters=["x", "x", "x", "y", "z", "z"])
    left = paired_bootstrap([1.0, 0.25, 1.0], [0.5, 0.75, 0.5], resampling=Resampling(200), clusters=["x", "y", "z"])
    assert (result.n, result.missing, result.groups) == (3, 3, 3)
    assert replace(result, missing=0) == left
    assert result.mean_a == 0.75
    alone = bootstrap_interval(a)
    assert (alone.n, alone.missing, alone.value) == (4, 2, 0.6875)
    assert bootstrap_interval([nan, nan]).to_dict() == {"value": None, "low": None, "high": None, "n": 0, "missing": 2}


def test_missing_items_of_a_corpus_metric_leave_its_counts() -> None:
    whole = score(["a b c d e", "x y z", "a b"], [["a b c d f"], ["x y w"], ["a c"]], metrics=["bleu"])["bleu"]
    holed = replace(
        whole,
        per_example=(float("nan"), *whole.per_example[1:]),
        statistics=np.vstack([np.zeros_like(whole.statistics[:1]), whole.statistics[1:]]),
    )
    result = paired_bootstrap(whole, holed, resampling=Resampling(50))
    assert (result.difference, result.n, result.missing) == (0, 2, 1)
    with pytest.raises(DataError, match="no item that both sides have"):
        paired_bootstrap([1.0, float("nan")], [float("nan"), 1.0])


def test_spread_is_that_of_students_t() -> None:
    """On data as normal as data can be, the interval is the t interval and not the narrower bootstrap one."""
    normal = stats.norm.ppf((np.arange(10) + 0.5) / 10)
    ours = bootstrap_interval(normal, resampling=Resampling(100_000))
    reach = stats.t.ppf(0.975, 9) * normal.std(ddof=1) / np.sqrt(10)
    assert ours.high - ours.low == pytest.approx(2 * reach, rel=0.06)
    plain = 2 * 1.96 * normal.std() / np.sqrt(10)
    assert ours.high - ours.low > 1.1 * plain
