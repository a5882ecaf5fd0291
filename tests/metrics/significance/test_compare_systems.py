"""Whole comparisons say what their parts say, whatever else is compared beside."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from understudy.errors import DataError
from understudy.metrics import Score, mean_score, not_measured, score
from understudy.metrics.significance import (
    Resampling,
    adjusted,
    cohen_dz,
    compare_many,
    compare_systems,
    friedman_test,
    mcnemar_test,
    paired_bootstrap,
    power_analysis,
    randomisation_test,
    rank_biserial,
    wilcoxon_test,
)

WORDS = [
    "the",
    "core",
    "network",
    "function",
    "selects",
    "a",
    "session",
    "policy",
    "for",
    "each",
    "slice",
    "of",
    "the",
    "user",
    "plane",
]
ITEMS = 60


@pytest.fixture(scope="module")
def systems() -> dict[str, dict[str, Score]]:
    generator = np.random.default_rng(8)
    references = [[" ".join(generator.choice(WORDS, 8))] for _ in range(ITEMS)]
    all_scores = {}
    for name, share in (("good", 0.95), ("fair", 0.8), ("same", 0.8)):
        answers = [
            " ".join(word if generator.random() < share else "other" for word in reference[0].split())
            for reference in references
        ]
        all_scores[name] = score(answers, references, metrics=["exact_match", "token_f1", "bleu"])
        judged = np.where(generator.random(ITEMS) < 0.1, np.nan, generator.random(ITEMS))
        all_scores[name]["faithfulness"] = mean_score("faithfulness", judged, "judge")
    return all_scores


@pytest.fixture(scope="module")
def groups() -> list[int]:
    return [number // 2 for number in range(ITEMS)]


@pytest.mark.parametrize("metric", ["exact_match", "token_f1", "bleu"])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_comparison_is_its_parts(systems, groups, metric: str, grouped: bool) -> None:
    chosen = groups if grouped else None
    a, b = systems["good"][metric], systems["fair"][metric]
    comparison = compare_systems(systems["good"], systems["fair"], clusters=chosen, resampling=Resampling(500)).metrics[
        metric
    ]
    draws = {"resampling": Resampling(500), "clusters": chosen}
    bootstrap = paired_bootstrap(a, b, **draws)
    assert (comparison.value_a, comparison.value_b, comparison.difference) == pytest.approx(
        (bootstrap.mean_a, bootstrap.mean_b, bootstrap.difference)
    )
    assert (comparison.low, comparison.high, comparison.p_bootstrap) == pytest.approx(
        (bootstrap.low, bootstrap.high, bootstrap.p_value)
    )
    assert comparison.p_randomisation == randomisation_test(a, b, **draws).p_value
    assert comparison.p_wilcoxon == wilcoxon_test(a, b, clusters=chosen).p_value
    assert comparison.cohen_dz.to_dict() == pytest.approx(cohen_dz(a, b, **draws).to_dict())
    assert comparison.rank_biserial == rank_biserial(a, b, clusters=chosen)
    power = power_analysis(a, b, clusters=chosen)
    assert comparison.minimal_detectable == pytest.approx(power.minimal_detectable)
    assert comparison.items_needed == power.items_needed
    assert comparison.mcnemar == (mcnemar_test(a, b, clusters=chosen) if metric == "exact_match" else None)
    assert (comparison.n, comparison.missing, comparison.groups) == (ITEMS, 0, 30 if grouped else ITEMS)


def test_missing_items_are_out_on_both_sides(systems) -> None:
    a, b = systems["good"]["faithfulness"], systems["fair"]["faithfulness"]
    comparison = compare_systems(systems["good"], systems["fair"], resampling=Resampling(4000)).metrics["faithfulness"]
    both = a.measured & b.measured
    assert (comparison.n, comparison.missing) == (int(both.sum()), int((~both).sum()))
    assert comparison.value_a == pytest.approx(np.asarray(a.per_example)[both].mean())
    alone = paired_bootstrap(a, b, resampling=Resampling(4000))
    assert (comparison.low, comparison.high) == pytest.approx((alone.low, alone.high), abs=0.02)
    assert comparison.p_wilcoxon == wilcoxon_test(a, b).p_value


def test_what_was_not_measured_is_passed_over_and_listed(systems) -> None:
    first = {**systems["good"], "meteor": not_measured("meteor", ITEMS, "no judge"), "chrf": systems["good"]["bleu"]}
    second = {**systems["fair"], "meteor": not_measured("meteor", ITEMS, "no judge")}
    comparison = compare_systems(first, second, resampling=Resampling(50))
    assert list(comparison.metrics) == list(systems["good"])
    assert {(item.system, item.metric, item.reason) for item in comparison.not_measured} == {
        ("a", "meteor", "no judge"),
        ("b", "meteor", "no judge"),
        ("b", "chrf", "not scored"),
    }
    halves = np.arange(ITEMS) < 30
    apart = [{"x": mean_score("x", np.where(half, 1.0, np.nan), "")} for half in (halves, ~halves)]
    assert compare_systems(*apart, resampling=Resampling(50)).not_measured[0].reason == "no item that both have"


def assert_alike(one: Any, other: Any) -> None:
    """Equal but for the last digits, which the number of threads in a matrix product may move."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_alike(one[key], other[key])
    else:
        assert other == (pytest.approx(one, rel=1e-12) if isinstance(one, float) else one)


def test_many_are_all_pairs_corrected_as_one_family(systems, groups) -> None:
    comparisons = compare_many(systems, clusters=groups, resampling=Resampling(400))
    assert [(test.a, test.b) for test in comparisons.tests[::4]] == [
        ("good", "fair"),
        ("good", "same"),
        ("fair", "same"),
    ]
    assert comparisons.family_size == 12
    p_values = {(test.a, test.b, test.metric): test.p_value for test in comparisons.tests}
    for method in ("holm", "bh"):
        expected = adjusted(p_values, method)
        ours = {(test.a, test.b, test.metric): getattr(test, f"p_{method}") for test in comparisons.tests}
        assert ours == expected
    pair = compare_systems(systems["good"], systems["same"], clusters=groups, resampling=Resampling(400))
    for test in comparisons.tests[4:8]:
        assert_alike(test.comparison.to_dict(), pair.metrics[test.metric].to_dict())
        assert test.p_value == test.comparison.p_randomisation
    expected = friedman_test({name: scores["bleu"] for name, scores in systems.items()}, clusters=groups)
    assert comparisons.friedman["bleu"] == expected
    assert compare_many({name: systems[name] for name in ("good", "fair")}, resampling=Resampling(20)).friedman == {}


def test_pairs_asked_for_are_the_family_and_their_figures_the_same(systems, groups) -> None:
    everything = {
        (t.a, t.b, t.metric): t for t in compare_many(systems, clusters=groups, resampling=Resampling(400)).tests
    }
    comparisons = compare_many(
        systems, contrasts=[("fair", "same"), ("good", "fair")], clusters=groups, resampling=Resampling(400)
    )
    assert [(test.a, test.b) for test in comparisons.tests[::4]] == [("fair", "same"), ("good", "fair")]
    assert comparisons.family_size == 8
    for test in comparisons.tests:
        assert_alike(test.comparison.to_dict(), everything[test.a, test.b, test.metric].comparison.to_dict())
    holm = adjusted({number: test.p_value for number, test in enumerate(comparisons.tests)}, "holm")
    assert [test.p_holm for test in comparisons.tests] == list(holm.values())
    turned = (
        compare_many(systems, contrasts=[("same", "fair")], clusters=groups, resampling=Resampling(400))
        .tests[0]
        .comparison
    )
    assert turned.difference == -everything["fair", "same", turned.metric].comparison.difference


def test_each_pair_has_its_own_missing_items() -> None:
    """Two partners that lack different items of one group: the third system's figures are others beside each."""
    values = np.random.default_rng(0).uniform(size=(3, 40))
    values[1, 0] = values[2, 1] = np.nan
    systems = {name: {"x": mean_score("x", row, "")} for name, row in zip("abc", values, strict=True)}
    names = [number // 2 for number in range(40)]
    many = compare_many(systems, clusters=names, resampling=Resampling(100))
    for test in many.tests:
        alone = compare_systems(systems[test.a], systems[test.b], clusters=names, resampling=Resampling(100))
        assert_alike(test.comparison.to_dict(), alone.metrics["x"].to_dict())


def test_better_names_the_better_system(systems) -> None:
    tests = {(test.b, test.metric): test for test in compare_many(systems, resampling=Resampling(2000)).tests[:8]}
    assert tests["fair", "token_f1"].better == "good"
    turned = {
        name: {"error": replace(scores["token_f1"], name="error", higher_is_better=False)}
        for name, scores in systems.items()
    }
    worse = compare_many(turned, resampling=Resampling(2000))
    assert worse.tests[0].better == "fair"
    assert worse.friedman["error"].systems[-1] == "good"
    by_bootstrap = compare_many(systems, resampling=Resampling(100), family_test="bootstrap").tests[0]
    assert by_bootstrap.p_value == by_bootstrap.comparison.p_bootstrap


def test_records_are_json_without_nan(systems) -> None:
    one = {"a": {"x": mean_score("x", [1.0], "")}, "b": {"x": mean_score("x", [0.0], "")}}
    for comparison in (compare_many(systems, resampling=Resampling(50)), compare_many(one, resampling=Resampling(50))):
        record = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
        assert record["tests"][0]["comparison"]["metric"] == comparison.metrics[0]
    assert record["tests"][0]["comparison"]["low"] is None


def test_order_of_items_changes_no_figure(systems) -> None:
    order = np.random.default_rng(0).permutation(ITEMS)

    def shuffled(one: Score) -> Score:
        values = tuple(np.asarray(one.per_example)[order].tolist())
        return replace(one, per_example=values, statistics=one.statistics[order])

    turned = {name: {key: shuffled(one) for key, one in scores.items()} for name, scores in systems.items()}
    for before, after in zip(
        compare_many(systems, resampling=Resampling(50)).tests,
        compare_many(turned, resampling=Resampling(50)).tests,
        strict=True,
    ):
        first, second = before.comparison, after.comparison
        assert first.difference == pytest.approx(second.difference)
        assert first.p_wilcoxon == pytest.approx(second.p_wilcoxon)
        assert first.mcnemar == second.mcnemar
        assert first.rank_biserial.value == pytest.approx(second.rank_biserial.value)


def test_faults_are_named(systems) -> None:
    with pytest.raises(DataError, match="at least two systems"):
        compare_many({"good": systems["good"]})
    with pytest.raises(DataError, match="good and nobody are no two of the systems"):
        compare_many(systems, contrasts=[("good", "nobody")])
    with pytest.raises(DataError, match="good and good are no two"):
        compare_many(systems, contrasts=[("good", "good")])
    with pytest.raises(DataError, match="the pair fair and good is asked for twice"):
        compare_many(systems, contrasts=[("good", "fair"), ("fair", "good")])
    with pytest.raises(DataError, match="1 and 60 items"):
        compare_systems(systems["good"], {"exact_match": mean_score("exact_match", [1.0], "")})
    with pytest.raises(DataError, match="share no metric"):
        compare_systems({"bleu": systems["good"]["bleu"]}, {"token_f1": systems["fair"]["token_f1"]})
    with pytest.raises(DataError, match="3 group names for 60 items"):
        compare_systems(systems["good"], systems["fair"], clusters=["x"] * 3)
    with pytest.raises(DataError, match="cannot resample with 0 draws"):
        compare_systems(systems["good"], systems["fair"], resampling=Resampling(0))
    with pytest.raises(DataError, match="no items"):
        compare_systems({}, {})
