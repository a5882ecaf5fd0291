"""How many items a difference needs, where it is one test of a family that Holm corrects."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from understudy.metrics import mean_score
from understudy.metrics.significance import Resampling, compare_many, power_analysis
from understudy.metrics.significance.multiple_testing import holm_levels
from understudy.metrics.significance.power import items_needed_at


def test_levels_by_hand() -> None:
    levels = holm_levels({"a": 0.04, "b": 0.001, "c": 0.03, "d": 0.03, "e": math.nan})
    # Four p-values: the least is tested at a quarter, the two equal ones at a third, the largest at the whole.
    assert levels["b"] == pytest.approx(0.05 / 4)
    assert levels["c"] == levels["d"] == pytest.approx(0.05 / 3)
    assert levels["a"] == pytest.approx(0.05)
    assert math.isnan(levels["e"])


def test_each_test_needs_what_its_step_asks_for() -> None:
    generator = np.random.default_rng(4)
    noise = generator.normal(size=(3, 400))
    systems = {
        name: {metric: mean_score(metric, shift + values, "") for metric, values in zip("xyz", noise, strict=True)}
        for name, shift in (("a", 0.0),)
    }
    systems["b"] = {
        m: mean_score(m, np.asarray(s.per_example) + generator.normal(0.05, 1, 400), "")
        for m, s in systems["a"].items()
    }
    comparison = compare_many(systems, resampling=Resampling(300))
    levels = holm_levels({test.metric: test.p_value for test in comparison.tests})
    for test in comparison.tests:
        values = [systems[name][test.metric] for name in "ab"]
        at_step = power_analysis(*values, alpha=levels[test.metric])
        assert test.items_needed == pytest.approx(at_step.items_needed, abs=1)
        assert test.comparison.items_needed == power_analysis(*values).items_needed
        assert test.items_needed >= test.comparison.items_needed
        z = [norm.ppf(1 - level / 2) + norm.ppf(0.8) for level in (levels[test.metric], 0.05)]
        assert test.items_needed / test.comparison.items_needed == pytest.approx((z[0] / z[1]) ** 2, rel=0.02)


def test_nothing_is_known_of_equal_systems() -> None:
    same = {name: {"x": mean_score("x", np.arange(9) / 9, "")} for name in "ab"}
    [test] = compare_many(same, resampling=Resampling(100)).tests
    assert math.isnan(test.items_needed)
    assert math.isnan(items_needed_at(test.comparison, 0.01, power=0.8, alpha=0.05))
