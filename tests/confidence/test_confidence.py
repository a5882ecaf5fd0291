"""Measures of confidence, the maps that make probabilities of them, and what is found wrong with these."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.confidence import MEASURES, Calibration, Confidence, ProbabilityMap, fitted, read_calibration
from understudy.confidence import reliability as rel
from understudy.confidence.fitting import best_measure, fit_maps, held_out_brier
from understudy.errors import DataError, ModelError, RunError
from understudy.metrics.significance import Resampling
from understudy.metrics.significance.resampling import Columns, resample


def test_measures_of_an_answer_are_those_of_its_tokens():
    confidence = Confidence.of_tokens([-0.1, -0.4, -0.2, -0.1, -2.2], first_margin=1.5)
    assert confidence.sum_logp == pytest.approx(-3.0)
    assert confidence.mean_logp == pytest.approx(-0.6)
    assert confidence.min_logp == -2.2
    assert (confidence.first_logp, confidence.first_margin) == (-0.1, 1.5)
    assert confidence.early_logp == pytest.approx(-0.2)
    assert confidence.value("span_logp") is None


def test_an_answer_without_tokens_has_no_confidence():
    assert all(Confidence.of_tokens([]).value(measure) is None for measure in MEASURES)
    with pytest.raises(ModelError, match="no measure of confidence 'entropy'"):
        Confidence().value("entropy")


def test_the_likeliest_option_has_the_softmax_of_the_options():
    scores = [-1.0, -2.0, -0.5]
    probability = Confidence().with_choices(scores).choice_probability
    assert probability == pytest.approx(math.exp(-0.5) / sum(map(math.exp, scores)))
    assert Confidence(mean_logp=-1.0).with_choices([]) == Confidence(mean_logp=-1.0)


def simulated(n=400, seed=0):
    generator = np.random.default_rng(seed)
    x = generator.normal(size=n)
    return x, generator.random(n) < 1 / (1 + np.exp(-(2 * x - 0.5)))


def test_isotonic_is_that_of_scikit_learn():
    isotonic = pytest.importorskip("sklearn.isotonic")
    x, right = simulated()
    x = np.round(x, 1)  # with ties
    ours = fitted(x.tolist(), right.tolist(), "isotonic")
    theirs = isotonic.IsotonicRegression(out_of_bounds="clip").fit(x, right)
    values = np.linspace(-4, 4, 101)
    assert [ours(v) for v in values] == pytest.approx(theirs.predict(values).tolist(), abs=1e-9)


def test_platt_is_the_logistic_regression_on_his_targets():
    """Each row with both labels, weighted by its target: the same likelihood by another library."""
    linear_model = pytest.importorskip("sklearn.linear_model")
    x, right = simulated()
    positives, negatives = right.sum(), (~right).sum()
    targets = np.where(right, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    theirs = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(
        np.concatenate([x, x])[:, None],
        np.repeat([1, 0], len(x)),
        sample_weight=np.concatenate([targets, 1 - targets]),
    )
    ours = fitted(x.tolist(), right.tolist(), "platt")
    assert ours.x[0] == pytest.approx(theirs.coef_[0, 0], rel=1e-3)
    assert ours.y[0] == pytest.approx(theirs.intercept_[0], rel=1e-3)


@given(st.lists(st.tuples(st.floats(-50, 50), st.booleans()), min_size=2, max_size=40))
def test_a_map_never_turns_the_order_round_and_gives_probabilities(rows):
    values, right = [value for value, _ in rows], [outcome for _, outcome in rows]
    for kind in ("isotonic", "platt"):
        curve = fitted(values, right, kind)
        probabilities = [curve(value) for value in sorted([*values, -100.0, 100.0])]
        assert all(0 <= p <= 1 for p in probabilities)
        assert all(a <= b + 1e-12 for a, b in itertools.pairwise(probabilities))


def test_ece_of_equal_width_is_that_of_torchmetrics():
    functional = pytest.importorskip("torchmetrics.functional.classification")
    import torch

    for seed in range(3):
        generator = np.random.default_rng(seed)
        p = np.round(generator.random(300), 2)  # some lie on an edge
        p = p[np.abs(p * 10 - np.round(p * 10)) > 1e-6]  # where the two may take sides as they like
        right = generator.random(len(p)) < p**2
        ours = rel.expected_calibration_error(p, right, "width")
        theirs = functional.binary_calibration_error(
            torch.tensor(p, dtype=torch.float64), torch.tensor(right.astype(int)), n_bins=10, norm="l1"
        )
        assert ours == pytest.approx(float(theirs), abs=1e-6)


def test_ece_of_equal_mass_is_that_of_the_bins_of_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration")
    generator = np.random.default_rng(5)
    p = generator.random(500)
    right = generator.random(500) < 0.3 + 0.5 * p
    shares, means = calibration.calibration_curve(right, p, n_bins=10, strategy="quantile")
    bins = rel.reliability(p, right, "mass")
    assert [b.right for b in bins] == pytest.approx(shares.tolist(), abs=0.02)
    assert [b.probability for b in bins] == pytest.approx(means.tolist(), abs=0.01)
    by_bins = sum(b.n * abs(b.probability - b.right) for b in bins) / 500
    assert rel.expected_calibration_error(p, right, "mass") == pytest.approx(by_bins)


def test_the_interval_of_an_ece_is_that_of_binning_every_draw_anew():
    generator = np.random.default_rng(2)
    p = generator.random(80)
    right = generator.random(80) < p**2
    (figure,) = resample([Columns(rel.bin_statistics(p, right, "width"), rel.ece_from_totals)], Resampling(draws=200))
    draws = np.random.default_rng(0).integers(80, size=(200, 80))
    expected = [rel.expected_calibration_error(p[draw], right[draw], "width") for draw in draws]
    assert figure.samples == pytest.approx(np.array(expected))


def test_a_perfect_model_has_about_the_ece_of_the_floor():
    generator = np.random.default_rng(3)
    p = generator.random(200)
    eces = [rel.expected_calibration_error(p, generator.random(200) < p, "mass") for _ in range(200)]
    assert rel.floor(p, "mass") == pytest.approx(np.mean(eces), abs=0.005)
    assert rel.floor(p, "mass") > 0.03


def test_auroc_is_that_of_scikit_learn_and_of_its_statistics():
    metrics = pytest.importorskip("sklearn.metrics")
    x, right = simulated(200)
    x = np.round(x, 1)
    expected = metrics.roc_auc_score(right, x)
    assert rel.auroc(x, right) == pytest.approx(expected)
    assert rel.auroc_from_totals(rel.auroc_statistics(x, right).sum(axis=0)) == pytest.approx(expected)
    assert rel.auroc(x, np.ones(200)) is None


def test_the_measure_that_tells_right_from_wrong_is_taken():
    x, right = simulated(300)
    noise = np.random.default_rng(9).normal(size=300)
    confidences = [Confidence(mean_logp=a, min_logp=b, first_logp=b) for a, b in zip(x, noise, strict=True)]
    maps = fit_maps(confidences, right.tolist(), list(range(300)))
    assert set(maps) == {"mean_logp", "min_logp", "first_logp"}
    assert best_measure(maps) == "mean_logp"
    assert best_measure(maps, early=True) == "first_logp"
    assert maps["mean_logp"].brier < maps["min_logp"].brier


def test_rows_of_a_group_are_held_out_together():
    """Ten copies of each row: known to the map, they would make the Brier score of a step function too good."""
    x, right = simulated(40, seed=4)
    copies, clusters = np.repeat(x, 10), np.repeat(np.arange(40), 10)
    outcomes = np.repeat(right, 10)
    together = held_out_brier(copies, outcomes, clusters, "isotonic")
    apart = held_out_brier(copies, outcomes, np.arange(400), "isotonic")
    assert together > apart + 0.03


@pytest.mark.parametrize("outcome", [True, False])
def test_answers_that_are_all_alike_cannot_be_calibrated_on(outcome):
    with pytest.raises(DataError, match=f"are {'right' if outcome else 'wrong'}: nothing can be calibrated"):
        fit_maps([Confidence(mean_logp=float(-i)) for i in range(5)], [outcome] * 5, list(range(5)))


def calibration(**changes):
    curve = ProbabilityMap("isotonic", (-2.0, -1.0), (0.2, 0.8), auroc=0.9, brier=0.1, n=50)
    values = {"run": "1a", "student": "2b", "arm": "distilled", "right": "exact_match", "measure": "mean_logp"}
    values |= {"early_measure": None, "maps": {"mean_logp": curve}, "threshold": 0.5} | changes
    return Calibration(**values)


def test_a_calibration_comes_back_from_its_file(tmp_path):
    calibration().write(tmp_path)
    again = read_calibration(tmp_path, run="1a", student="2b")
    assert again.probability(Confidence(mean_logp=-1.5)) == pytest.approx(0.5)
    assert again.probability(Confidence(mean_logp=-9.0)) == pytest.approx(0.2)
    assert not again.asks_teacher(Confidence(mean_logp=-1.5))
    assert again.asks_teacher(Confidence(mean_logp=-1.6))
    assert again.asks_teacher(Confidence())  # nothing is known of it


@pytest.mark.parametrize(
    ("changes", "bound", "error", "message"),
    [
        ({}, {"run": "other"}, RunError, "another run"),
        ({}, {"student": "other"}, RunError, "another student"),
        ({"version": 7}, {}, DataError, "version 7"),
        ({"measure": "min_logp"}, {}, DataError, "without the map of its own measure"),
    ],
)
def test_a_calibration_of_something_else_is_refused(tmp_path, changes, bound, error, message):
    calibration(**changes).write(tmp_path)
    with pytest.raises(error, match=message):
        read_calibration(tmp_path, **bound)


def test_a_run_that_was_not_calibrated_says_what_to_do(tmp_path):
    with pytest.raises(RunError) as caught:
        read_calibration(tmp_path)
    assert "understudy calibrate" in caught.value.hint
