"""Seeds as a random effect: against a direct fit, in a case solved by hand, and where it cannot work."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from understudy.errors import DataError
from understudy.metrics.significance import seeds_model


def runs(seeds: int, items: int, *, shift: float = 0.0, seed: int = 0, spread: float = 0.05) -> dict:
    generator = np.random.default_rng(seed)
    item = generator.normal(0, 0.2, items)
    values = {}
    for number, name in enumerate(("sft", "kd")):
        own = generator.normal(0, 0.1, items)
        values[name] = [
            0.5 + number * shift + item + own + generator.normal(0, spread) + generator.normal(0, 0.1, items)
            for _ in range(seeds)
        ]
    return values


def test_balanced_fit_is_the_one_of_mean_squares() -> None:
    """With as many items as blocks and no variance at 0, the likelihood's answer is the classical one."""
    values = runs(4, 30, shift=0.1, seed=3)
    table = np.stack([np.stack(values[name]) for name in ("sft", "kd")])  # system, seed, item
    whole, by_system = table.mean(), table.mean(axis=(1, 2), keepdims=True)
    by_seed, by_both = table.mean(axis=2, keepdims=True), table.mean(axis=1, keepdims=True)
    by_item = table.mean(axis=(0, 1), keepdims=True)
    of_seed = 30 * ((by_seed - by_system) ** 2).sum() / 6
    of_both = 4 * ((by_both - by_system - by_item + whole) ** 2).sum() / 29
    of_noise = ((table - by_seed - by_both + by_system) ** 2).sum() / (6 * 29)
    assert min(of_seed, of_both) > of_noise
    error = np.sqrt(2 * (of_seed + of_both - of_noise) / (4 * 30))
    result = seeds_model(values)
    effect = result.effects[0]
    assert (result.method, result.converged, result.blocks) == ("mixed", True, 30)
    assert effect.difference == pytest.approx(float(table[1].mean() - table[0].mean()))
    assert effect.standard_error == pytest.approx(error, rel=1e-3)
    assert result.variances["noise"] == pytest.approx(of_noise, rel=1e-2)
    assert result.variances["seed"] == pytest.approx((of_seed - of_noise) / 30, rel=1e-2)
    freedom = (of_seed + of_both - of_noise) ** 2 / (of_seed**2 / 6 + of_both**2 / 29 + of_noise**2 / (6 * 29))
    assert effect.degrees_of_freedom == pytest.approx(freedom, rel=1e-2)
    assert effect.p_value == pytest.approx(2 * stats.t.sf(effect.difference / error, freedom), rel=1e-2)


def test_baseline_turns_the_sign_and_scale_changes_nothing() -> None:
    values = runs(3, 60, shift=0.1)
    one, two = seeds_model(values), seeds_model(values, baseline="kd")
    assert one.effects[0].difference == pytest.approx(-two.effects[0].difference)
    assert one.effects[0].p_value == pytest.approx(two.effects[0].p_value, rel=1e-3)
    hundredfold = {name: [100 * run for run in seeds] for name, seeds in values.items()}
    scaled = seeds_model(hundredfold)
    assert scaled.effects[0].standard_error == pytest.approx(100 * one.effects[0].standard_error, rel=1e-3)
    assert scaled.effects[0].p_value == pytest.approx(one.effects[0].p_value, rel=1e-3)


def test_seeds_that_vary_widen_what_one_run_would_say() -> None:
    values = runs(3, 120, spread=0.2, seed=1)
    effect = seeds_model(values).effects[0]
    one_run = stats.ttest_rel(values["kd"][0], values["sft"][0])
    assert effect.p_value > 0.05
    assert one_run.pvalue < 0.01


def test_few_seeds_fall_back_and_say_so() -> None:
    values = runs(2, 50)
    values["sft"][0][:5] = np.nan
    result = seeds_model(values)
    means = {name: np.mean(seeds, axis=0)[5:] for name, seeds in values.items()}
    theirs = stats.ttest_rel(means["kd"], means["sft"])
    assert (result.method, result.variances, result.items, result.missing) == ("item_means", {}, 45, 5)
    assert result.effects[0].p_value == pytest.approx(theirs.pvalue)
    assert "fewer than 3 seeds of kd, sft" in result.notes[0]
    assert "not of another seed" in result.notes[0]


def test_groups_are_never_split() -> None:
    values = runs(2, 20)
    doubled = {name: [np.repeat(run, 2) for run in seeds] for name, seeds in values.items()}
    names = np.repeat(np.arange(20), 2).tolist()
    assert seeds_model(doubled, clusters=names).effects[0].p_value == pytest.approx(
        seeds_model(values).effects[0].p_value
    )


def test_runs_that_are_all_alike_end_without_a_traceback() -> None:
    result = seeds_model({name: [np.linspace(0, 1, 40)] * 3 for name in "ab"})
    assert (result.effects[0].difference, result.effects[0].p_value) == (0, 1)
    assert "alike to the last digit" in result.notes[0]
    assert result.to_dict()["effects"][0]["system"] == "b"


def test_faults_are_named() -> None:
    values = runs(1, 10)
    with pytest.raises(DataError, match="at least two systems"):
        seeds_model({"kd": values["kd"]})
    with pytest.raises(DataError, match="no system 'gold'"):
        seeds_model(values, baseline="gold")
    with pytest.raises(DataError, match="same number of items"):
        seeds_model({"a": values["kd"], "b": [values["sft"][0][:5]]})
    with pytest.raises(DataError, match="fewer than two items"):
        seeds_model(values, clusters=["one"] * 10)
