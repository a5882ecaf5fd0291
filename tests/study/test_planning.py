"""Simulated raters have the figures that they were made for, and the planner keeps what it promises."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import ConfigError
from understudy.metrics.significance.agreement import icc_oneway
from understudy.metrics.significance.rank_tests import dunn_test, kruskal_wallis
from understudy.study.assignment import assign
from understudy.study.planning import (
    _dunn_p,
    _kruskal_p,
    drawn_design,
    expected_power,
    power_of_design,
    raters_needed,
)
from understudy.study.rating_model import published, rating_model


@pytest.mark.parametrize("construct", list(published()))
def test_discrete_ratings_have_the_published_means_deviation_and_rater_share(construct) -> None:
    model = published()[construct]
    rng = np.random.default_rng(1)
    rater, method = np.repeat(np.arange(3000), 12), np.tile(np.arange(12) % 4, 3000)
    ratings = model.draw(rater, method, 8, rng)
    assert set(np.unique(ratings)) == {1, 2, 3, 4, 5}
    assert [ratings[method == m].mean() for m in range(4)] == pytest.approx(list(model.means), abs=0.025)
    assert ratings.std() == pytest.approx(model.sd, abs=0.02)
    flat = model.draw(rater, method, 1, rng, null=True)[:, 0]
    assert icc_oneway(flat, rater).value == pytest.approx(model.rater_share, abs=0.02)


@settings(max_examples=20, deadline=None)
@given(st.floats(1.6, 4.4), st.floats(0.7, 1.3), st.floats(0.0, 0.7), st.floats(0.0, 0.4))
def test_cut_points_are_solved_wherever_there_are_any(mean, sd, share, effect) -> None:
    if not 0.3 + effect < sd < np.sqrt((mean - 1) * (5 - mean)) - 0.2:
        return
    model = rating_model([mean - effect / 2, mean + effect / 2], sd, share)
    assert (np.diff(model.cuts) > 0).all()
    latent = np.random.default_rng(0).standard_normal(100_000)
    both = [model.rating_of(latent + shift) for shift in model.shifts]
    assert [side.mean() for side in both] == pytest.approx([mean - effect / 2, mean + effect / 2], abs=0.02)
    assert np.concatenate(both).std() == pytest.approx(sd, abs=0.03)


@pytest.mark.parametrize(
    ("means", "sd", "share", "message"),
    [
        ([4.9, 4.9], 1.5, 0.3, "cannot have a standard deviation of 1.5"),
        ([3.5, 3.5], 0.3, 0.3, "cannot have a standard deviation of 0.3"),
        ([0.5, 3.0], 1.0, 0.3, "means between 1 and 5"),
        ([3.0, 3.5], 1.0, 1.0, "share of variance between raters is 1.0"),
    ],
)
def test_ratings_that_cannot_be(means, sd, share, message) -> None:
    with pytest.raises(ConfigError, match=message):
        rating_model(means, sd, share)


def test_many_studies_at_once_have_the_p_values_of_one_at_a_time() -> None:
    model = published()["completeness"]
    seats = assign([str(n) for n in range(12)], model.methods, 9, 8, seed=0)
    for pair in (None, ("CF", "MT")):
        design = drawn_design(seats, model.methods, draws=9, seed=0, pair=pair)
        values = model.draw(design.rater, design.drawn[0], 3, np.random.default_rng(0))
        for column in range(3):
            groups = {name: values[design.drawn[0] == n, column] for n, name in enumerate(model.methods)}
            if pair is None:
                assert _kruskal_p(values, design)[column] == pytest.approx(kruskal_wallis(groups).p_value)
            else:
                [found] = [row for row in dunn_test(groups) if {row.a, row.b} == set(pair)]
                assert _dunn_p(values, design)[column] == pytest.approx(found.p_value)


def test_under_the_null_the_permutation_test_keeps_its_level_and_kruskal_wallis_lies_below() -> None:
    model = published()["contrastiveness"]
    rejected = []
    for seed in range(5):
        seats = assign([str(n) for n in range(16)], model.methods, 16, 8, seed=seed)
        design = drawn_design(seats, model.methods, draws=199, seed=seed)
        found = power_of_design(model, design, simulations=250, seed=seed, null=True)
        rejected.append((found.permutation, found.classical))
    permutation, classical = np.mean(rejected, axis=0)
    assert permutation == pytest.approx(0.05, abs=0.03)
    assert classical < 0.02


def test_the_planner_s_number_is_the_smallest_that_the_formula_allows_and_the_simulation_agrees() -> None:
    model = rating_model([3.7, 4.1], 1.0, 0.3)
    plan = raters_needed(model, items=20, per_rater=10, simulations=600, draws=199)
    assert expected_power(model, plan.raters, 10, 0.05, "pair") >= 0.8
    assert abs(plan.simulated - 0.8) < 0.07
    assert plan.simulated > plan.classical
    seats = assign([str(n) for n in range(20)], model.methods, plan.raters // 2, 10, seed=1)
    half = power_of_design(model, drawn_design(seats, model.methods, draws=199, seed=1), simulations=400, seed=1)
    assert half.permutation < 0.65


def test_more_tests_or_a_smaller_effect_need_more_raters_and_none_at_all_is_refused() -> None:
    model = rating_model([3.7, 4.1], 1.0, 0.3)
    raters = [
        next(r for r in range(2, 500) if expected_power(m, r, 10, level, "pair") >= 0.8)
        for m, level in ((model, 0.05), (model, 0.05 / 36), (rating_model([3.8, 4.0], 1.0, 0.3), 0.05))
    ]
    assert raters[0] < raters[1] < raters[2]
    with pytest.raises(ConfigError, match="means are equal"):
        raters_needed(rating_model([4, 4], 1.0, 0.3), items=20, per_rater=10)
    with pytest.raises(ConfigError, match="more than 50 raters"):
        raters_needed(rating_model([4, 4.01], 1.0, 0.3), items=20, per_rater=10, most=50)
