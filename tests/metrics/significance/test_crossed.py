"""The mixed model against statsmodels, against closed forms, and against R's lme4."""

import csv
import shutil
import subprocess

import numpy as np
import pytest
from scipy import stats

from understudy.errors import DataError
from understudy.metrics.significance.crossed import crossed_model


def ratings(seed=0, raters=12, items=8, rows=150, rater_sd=0.7, item_sd=0.4):
    rng = np.random.default_rng(seed)
    rater, item, method = (rng.integers(0, k, rows) for k in (raters, items, 3))
    length = rng.normal(size=rows)
    value = (
        3 + 0.4 * (method == 1) - 0.2 * (method == 2) + 0.15 * length
        + rng.normal(0, rater_sd, raters)[rater] + rng.normal(0, item_sd, items)[item] + rng.normal(0, 0.8, rows)
    )  # fmt: skip
    columns = {"1": np.ones(rows), "mt": (method == 1) * 1.0, "cf": (method == 2) * 1.0, "length": length}
    return value, columns, {"rater": rater, "item": item}


def test_the_fit_is_that_of_statsmodels() -> None:
    import pandas
    from statsmodels.regression.mixed_linear_model import MixedLM

    value, columns, random = ratings()
    frame = pandas.DataFrame({"y": value, **columns, **random})
    expected = MixedLM.from_formula(
        "y ~ mt + cf + length", frame, groups=np.ones(len(frame)), re_formula="0",
        vc_formula={"item": "0 + C(item)", "rater": "0 + C(rater)"},
    ).fit(reml=True)  # fmt: skip
    fit = crossed_model(value, columns, random)
    assert fit.converged
    assert fit.coefficients == pytest.approx(expected.fe_params.to_numpy(), abs=1e-4)
    # statsmodels' own standard errors come from the joint Hessian with the variances; lme4's, and ours, are the
    # generalised least-squares ones, (X'V⁻¹X)⁻¹, here at statsmodels' variances.
    design, total = np.stack(list(columns.values()), axis=1), expected.scale * np.eye(len(value))
    for variance, name in zip(expected.vcomp, ("item", "rater"), strict=True):
        levels = np.eye(int(random[name].max()) + 1)[random[name]]
        total += variance * levels @ levels.T
    errors = np.sqrt(np.diag(np.linalg.inv(design.T @ np.linalg.solve(total, design))))
    assert np.sqrt(np.diag(fit.covariance)) == pytest.approx(errors, abs=1e-5)
    assert fit.variances["noise"] == pytest.approx(expected.scale, rel=1e-3)
    assert [fit.variances["item"], fit.variances["rater"]] == pytest.approx(expected.vcomp.tolist(), rel=5e-3)
    assert fit.deviance == pytest.approx(-2 * expected.llf, abs=1e-3)


def test_of_a_complete_table_the_effect_is_the_difference_of_means_and_its_test_the_paired_one() -> None:
    """Two methods, each rater rates both once: the mixed model is the paired t-test."""
    rng = np.random.default_rng(1)
    habit = rng.normal(0, 1.5, 30)
    a, b = habit + rng.normal(size=30) + 0.5, habit + rng.normal(size=30)
    columns = {"1": np.ones(60), "a": np.repeat([1.0, 0.0], 30)}
    effect = crossed_model(np.concatenate([a, b]), columns, {"rater": np.tile(np.arange(30), 2)}).effect(
        {"a": 1.0}, "a"
    )
    expected = stats.ttest_rel(a, b)
    assert effect.value == pytest.approx((a - b).mean())
    assert effect.p_value == pytest.approx(expected.pvalue, rel=1e-5)
    interval = expected.confidence_interval()
    assert [effect.low, effect.high] == pytest.approx([interval.low, interval.high], rel=1e-5)


def test_a_variance_that_is_not_there_is_zero_and_the_fit_settles() -> None:
    value, columns, random = ratings(seed=2, rows=400, item_sd=0.0)
    fit = crossed_model(value, columns, random | {"item": np.random.default_rng(8).integers(0, 8, 400)})
    assert fit.converged
    assert fit.variances["item"] < 0.02
    assert fit.variances["rater"] > 0.2


def test_differences_of_coefficients_and_units() -> None:
    value, columns, random = ratings(seed=3)
    fit, larger = (crossed_model(factor * value, columns, random) for factor in (1, 1000))
    one, other = (f.effect({"mt": 1.0, "cf": -1.0}, "mt − cf") for f in (fit, larger))
    assert one.value == pytest.approx(fit.coefficients[1] - fit.coefficients[2])
    assert [other.value, other.low, other.p_value] == pytest.approx(
        [1000 * one.value, 1000 * one.low, one.p_value], rel=1e-4
    )


def test_models_that_cannot_be() -> None:
    value, columns, random = ratings()
    with pytest.raises(DataError, match="say the same"):
        crossed_model(value, columns | {"again": columns["mt"]}, random)
    with pytest.raises(DataError, match="too few"):
        crossed_model(value[:4], {"1": np.ones(4), "mt": np.arange(4.0)}, {"rater": [0, 0, 1, 2], "item": [0, 1, 2, 2]})


LME4 = """
suppressMessages(library(lme4))
data <- read.csv(commandArgs(TRUE)[1])
fit <- lmer(y ~ mt + cf + length + (1 | rater) + (1 | item), data, REML = TRUE)
cat(fixef(fit), sqrt(diag(as.matrix(vcov(fit)))), as.data.frame(VarCorr(fit))$vcov, REMLcrit(fit))
"""


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("Rscript") is None, reason="R with lme4 is not installed (r-cran-lme4)")
@pytest.mark.parametrize(("seed", "item_sd"), [(0, 0.4), (1, 0.4), (2, 0.0)])
def test_the_fit_is_that_of_lme4(tmp_path, seed, item_sd) -> None:
    value, columns, random = ratings(seed, raters=40, items=15, rows=500, item_sd=item_sd)
    path = tmp_path / "ratings.csv"
    with path.open("w", newline="") as handle:
        writer = csv.writer(handle)
        writer.writerow(["y", "mt", "cf", "length", "rater", "item"])
        rows = zip(value, *list(columns.values())[1:], *random.values(), strict=True)
        writer.writerows([repr(float(x)) for x in row] for row in rows)
    (tmp_path / "fit.R").write_text(LME4)
    done = subprocess.run(["Rscript", tmp_path / "fit.R", path], capture_output=True, text=True, check=False)
    if "there is no package called" in done.stderr:
        pytest.skip("R has no lme4 (r-cran-lme4)")
    expected = [float(x) for x in done.stdout.split()]
    fit = crossed_model(value, columns, random)
    found = [*fit.coefficients, *np.sqrt(np.diag(fit.covariance))]
    found += [fit.variances[name] for name in ("rater", "item", "noise")]
    assert found == pytest.approx(expected[:-1], rel=2e-3, abs=2e-4)
    assert fit.deviance == pytest.approx(expected[-1], abs=1e-3)
