"""Analysis of variance against statsmodels, scipy and a table worked by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from statsmodels.stats.multicomp import pairwise_tukeyhsd

from understudy.errors import DataError
from understudy.metrics.significance import factorial_anova

METHODS = ["kd", "kd", "kd", "kd", "sft", "sft", "sft", "sft"]
SIZES = ["s", "s", "m", "m", "s", "s", "m", "m"]
VALUES = [3.0, 5.0, 8.0, 10.0, 1.0, 3.0, 2.0, 4.0]


def test_two_by_two_by_hand() -> None:
    """Cell means 4, 9, 2, 3; each cell ±1, so the residual is 8 on 4 degrees of freedom."""
    result = factorial_anova(VALUES, {"method": METHODS, "size": SIZES})
    assert [term.name for term in result.terms] == ["method", "size", "method × size"]
    assert [term.sum_of_squares for term in result.terms] == pytest.approx([32, 18, 8])
    assert [term.f for term in result.terms] == pytest.approx([16, 9, 4])
    assert [term.p_value for term in result.terms] == pytest.approx([stats.f.sf(f, 1, 4) for f in (16, 9, 4)])
    assert (result.residual_sum_of_squares, result.residual_degrees_of_freedom) == (pytest.approx(8), 4)
    assert result.terms[0].partial_eta_squared == pytest.approx(32 / 40)
    assert result.terms[0].partial_omega_squared == pytest.approx((32 - 2) / (32 + 7 * 2))
    assert result.notes == ()
    assert result.to_dict()["terms"][2]["name"] == "method × size"


def test_one_way_agrees_with_scipy_and_statsmodels() -> None:
    generator = np.random.default_rng(0)
    levels = np.repeat(["a", "b", "c"], [8, 10, 12])
    values = generator.normal(0, 1, size=30) + np.repeat([0.0, 0.5, 1.5], [8, 10, 12])
    parts = [values[levels == name] for name in "abc"]
    result = factorial_anova(values, {"method": levels.tolist()})
    theirs = stats.f_oneway(*parts)
    assert (result.terms[0].f, result.terms[0].p_value) == pytest.approx((theirs.statistic, theirs.pvalue))
    tukey = pairwise_tukeyhsd(values, levels)
    assert [-pair.difference for pair in result.tukey] == pytest.approx(tukey.meandiffs)
    assert [pair.p_value for pair in result.tukey] == pytest.approx(tukey.pvalues, abs=1e-6)
    bounds = [(-pair.high, -pair.low) for pair in result.tukey]
    assert np.array(bounds) == pytest.approx(tukey.confint, abs=1e-4)
    assert result.levene_p == pytest.approx(stats.levene(*parts, center="median").pvalue)
    residuals = np.concatenate([part - part.mean() for part in parts])
    assert result.shapiro_p == pytest.approx(stats.shapiro(residuals).pvalue)
    assert "unbalanced" in result.notes[0]


def test_one_value_a_cell_leaves_the_interaction_out() -> None:
    result = factorial_anova(VALUES[::2], {"method": METHODS[::2], "size": SIZES[::2]})
    assert [term.name for term in result.terms] == ["method", "size"]
    assert result.residual_degrees_of_freedom == 1
    assert "one value a cell" in result.notes[0]
    assert np.isnan(result.levene_p)


def test_three_factors_and_names_that_are_no_identifiers() -> None:
    generator = np.random.default_rng(1)
    factors = {
        "loss temperature": [1, 2] * 16,
        "student's size": ["1B"] * 16 + ["3B"] * 16,
        "C(x)": (["u"] * 2 + ["v"] * 2) * 8,
    }
    result = factorial_anova(generator.normal(size=32), factors)
    assert len(result.terms) == 7
    assert result.terms[-1].name == "loss temperature × student's size × C(x)"
    assert len(factorial_anova(generator.normal(size=32), factors, interactions=False).terms) == 3


@pytest.mark.parametrize(
    ("values", "factors", "message"),
    [
        ([1.0, 2.0, 3.0], {"m": ["a", "a", "b"], "s": ["x", "y", "x"]}, "no value for b × y"),
        ([1.0, 2.0], {}, "at least one factor"),
        ([1.0, 2.0], {"m": ["a", "a"]}, "only one level"),
        ([1.0, 2.0], {"m": ["a"]}, "1 levels for 2 values"),
        ([1.0, float("nan")], {"m": ["a", "b"]}, "missing"),
        ([1.0, 1.0], {"m": ["a", "b"]}, "all values are equal"),
        ([1.0, 2.0], {"m": ["a", "b"]}, "no value is left over"),
    ],
)
def test_faults_are_one_clear_line(values: list[float], factors: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        factorial_anova(values, factors)
