"""Systems side by side on what real models answered: identities, hand-worked families, and what is said besides."""

from __future__ import annotations

import random
from dataclasses import replace

import numpy as np
import pytest

from support.arms import compare_arms
from support.embedded_answers import NAMES, embedded_answers
from understudy.errors import ConfigError
from understudy.evaluation.compare import compare
from understudy.evaluation.evaluate import evaluation
from understudy.evaluation.metric_models import metric_models_of, metric_names
from understudy.evaluation.scoring import Scored, mean_over_seeds, score_systems
from understudy.evaluation.systems import System
from understudy.files import cache_folder
from understudy.metrics import (
    BUNDLE,
    BUNDLE_PUBLISHED,
    LABELS,
    METRICS,
    RETRIEVAL,
    SPEECH,
    MetricModels,
    Score,
    bootstrap_interval,
    score,
)
from understudy.metrics.significance import Resampling
from understudy.recipe import EvaluateConfig
from understudy.records import Prediction
from understudy.report.caveats import limits

METRIC_NAMES = ("exact_match", "token_f1", "bleu", "chrf")


def systems(*names: str, seed: int | None = None) -> list[System]:
    return [System(name, embedded_answers()[name], f"{name}.jsonl", seed=seed) for name in names or NAMES]


@pytest.fixture(scope="module")
def scored() -> Scored:
    return score_systems(systems(), METRIC_NAMES)


def test_scores_are_those_of_the_metrics_themselves(scored: Scored) -> None:
    for name in NAMES:
        rows = embedded_answers()[name]
        plain = score([r.prediction for r in rows], [list(r.references) for r in rows], metrics=METRIC_NAMES)
        for metric, result in plain.items():
            assert scored.scores[name][metric].value == pytest.approx(result.value)
            assert scored.scores[name][metric].per_example == pytest.approx(result.per_example)


def test_intervals_together_are_those_one_by_one(scored: Scored) -> None:
    intervals = scored.intervals(resampling=Resampling(300, seed=3))
    part = replace(scored, scores={NAMES[0]: {"chrf": _without_the_first(scored.scores[NAMES[0]]["chrf"])}})
    for name, metric in ((NAMES[0], "bleu"), (NAMES[1], "token_f1")):
        alone = bootstrap_interval(
            scored.scores[name][metric], clusters=scored.clusters, resampling=Resampling(300, seed=3)
        )
        assert intervals[name][metric].to_dict() == pytest.approx(alone.to_dict())
    missing = part.intervals(resampling=Resampling(300, seed=3))[NAMES[0]]["chrf"]
    assert missing.n == len(scored.rows) - 1


def _without_the_first(result: Score) -> Score:
    statistics = result.statistics.copy()
    statistics[0] = 0
    return replace(result, statistics=statistics, per_example=(float("nan"), *result.per_example[1:]))


def test_the_order_of_items_changes_nothing(scored: Scored) -> None:
    shuffled = []
    for number, system in enumerate(systems()):
        rows = list(system.rows)
        random.Random(number).shuffle(rows)
        shuffled.append(replace(system, rows=rows))
    other = score_systems(shuffled, METRIC_NAMES)
    for name in NAMES:
        for metric in METRIC_NAMES:
            assert other.scores[name][metric].value == pytest.approx(scored.scores[name][metric].value)
    here, there = (compare(s, resampling=Resampling(500)).tests.tests for s in (scored, other))
    assert [t.comparison.difference for t in here] == pytest.approx([t.comparison.difference for t in there])


def test_a_perfect_system_has_the_maximum_on_every_text_metric() -> None:
    rows = [replace(row, prediction=row.references[0]) for row in embedded_answers()[NAMES[0]]]
    results = evaluation(
        [System("perfect", rows, "x")], ("exact_match", "token_f1", "rougeL"), resampling=Resampling(100)
    )
    assert [score.value for score in results.systems["perfect"].scores.values()] == [1.0, 1.0, 1.0]


def test_every_pair_is_tested_on_every_metric(scored: Scored) -> None:
    tests = compare(scored, resampling=Resampling(500)).tests
    assert len(tests.tests) == tests.family_size == 3 * len(METRIC_NAMES)
    assert set(tests.friedman) == set(METRIC_NAMES)


def test_a_baseline_makes_a_smaller_family(scored: Scored) -> None:
    everything = compare(scored, resampling=Resampling(500)).tests
    tests = compare(scored, baseline=NAMES[1], resampling=Resampling(500)).tests
    assert {(t.a, t.b) for t in tests.tests} == {(NAMES[0], NAMES[1]), (NAMES[2], NAMES[1])}
    assert tests.family_size == 2 * len(METRIC_NAMES)
    same = {(t.a, t.b, t.metric): t for t in everything.tests}
    for test in tests.tests:
        sign = 1 if (test.a, test.b, test.metric) in same else -1
        other = same[(test.a, test.b, test.metric) if sign == 1 else (test.b, test.a, test.metric)]
        assert test.p_value == other.p_value
        assert test.p_holm <= other.p_holm + 1e-12
        assert test.comparison.difference == pytest.approx(sign * other.comparison.difference)
    assert tests.friedman == everything.friedman


def test_a_pair_the_other_way_round_is_its_mirror_image(scored: Scored) -> None:
    first, second = NAMES[:2]
    here = compare(scored, contrasts=[(first, second)], resampling=Resampling(2000)).tests.tests[0].comparison
    there = compare(scored, contrasts=[(second, first)], resampling=Resampling(2000)).tests.tests[0].comparison
    assert (there.value_a, there.value_b, there.difference) == (here.value_b, here.value_a, -here.difference)
    assert (there.low, there.high) == pytest.approx((-here.high, -here.low))
    assert (there.p_randomisation, there.p_wilcoxon) == (here.p_randomisation, here.p_wilcoxon)
    assert there.rank_biserial.value == pytest.approx(-here.rank_biserial.value)
    assert here.mcnemar is not None
    assert there.mcnemar is not None
    assert (there.mcnemar.only_a, there.mcnemar.only_b) == (here.mcnemar.only_b, here.mcnemar.only_a)
    assert there.mcnemar.odds_ratio.value == pytest.approx(1 / here.mcnemar.odds_ratio.value)


def test_pairs_with_an_absent_system_are_passed_over(scored: Scored) -> None:
    tests = compare(scored, contrasts=[("nobody", NAMES[0]), (NAMES[2], NAMES[0])], resampling=Resampling(500)).tests
    assert {(test.a, test.b) for test in tests.tests} == {(NAMES[2], NAMES[0])}
    assert tests.family_size == len(METRIC_NAMES)


def test_one_system_or_an_unknown_baseline_is_refused(scored: Scored) -> None:
    with pytest.raises(ConfigError, match="one system only"):
        compare(score_systems(systems(NAMES[0]), ("exact_match",)))
    with pytest.raises(ConfigError, match="no system named 'x'"):
        compare(scored, baseline="x")


# -- seeds -----------------------------------------------------------------------------------------------------------


def seeded() -> list[System]:
    """Two systems with three seeds each: the embedded models, some of whose answers are swapped by seed."""
    systems = []
    for name, other in ((NAMES[0], NAMES[1]), (NAMES[1], NAMES[2])):
        for seed in range(3):
            rows = [
                (theirs if number % 7 == seed else ours)
                for number, (ours, theirs) in enumerate(
                    zip(embedded_answers()[name], embedded_answers()[other], strict=True)
                )
            ]
            systems.append(System(name, rows, f"{name}-{seed}", arm="distilled", seed=seed, family=f"{name}/distilled"))
    return systems


def test_seeds_of_one_system_stand_as_one_with_mean_and_deviation() -> None:
    scored = score_systems(seeded(), ("exact_match", "bleu"))
    assert [system.name for system in scored.systems] == list(NAMES[:2])
    outcome = compare(scored, resampling=Resampling(500)).to_dict()
    for name in NAMES[:2]:
        alone = [
            score([r.prediction for r in s.rows], [list(r.references) for r in s.rows], metrics=["exact_match"])
            for s in seeded()
            if s.name == name
        ]
        values = [result["exact_match"].value for result in alone]
        figures = outcome["seeds"][name]["exact_match"]
        assert list(figures["values"].values()) == pytest.approx(values)
        assert (figures["mean"], figures["sd"]) == pytest.approx((np.mean(values), np.std(values, ddof=1)))
        assert outcome["overall"]["table"][name]["exact_match"]["value"] == pytest.approx(np.mean(values))
    model = outcome["seeds_model"]["exact_match"]
    assert model["seeds"] == {NAMES[0]: 3, NAMES[1]: 3}
    first, second = (outcome["overall"]["table"][name]["exact_match"]["value"] for name in NAMES[:2])
    assert model["effects"][0]["difference"] == pytest.approx(second - first, abs=0.02)


def test_the_mean_over_equal_runs_is_the_run(scored: Scored) -> None:
    for metric in METRIC_NAMES:
        one = scored.scores[NAMES[0]][metric]
        both = mean_over_seeds([one, one])
        assert both.value == pytest.approx(one.value)
        assert both.per_example == pytest.approx(one.per_example)
        assert both.signature.endswith("|seeds:2")


# -- what is said besides --------------------------------------------------------------------------------------------


def test_what_is_not_measured_is_said_with_its_reason() -> None:
    results = evaluation(systems(NAMES[0]), ("exact_match", "faithfulness"), resampling=Resampling(100))
    assert list(results.systems[NAMES[0]].scores) == ["exact_match"]
    assert "judge" in results.not_measured["faithfulness"][NAMES[0]]


def test_the_figures_of_a_run_say_it_too() -> None:
    arms = {arm: embedded_answers()[name] for arm, name in zip(("distilled", "sft"), NAMES, strict=False)}
    figures = compare_arms(
        arms, metrics=("exact_match", "faithfulness"), models=MetricModels(), resampling=Resampling(100)
    ).to_dict()
    assert list(figures["metrics"]) == ["exact_match"]
    assert list(figures["not_measured"]) == ["faithfulness"]
    assert "Not measured: Faithfulness (" in " ".join(limits(figures))


def test_examples_and_the_constant_answer_come_from_the_items(scored: Scored) -> None:
    figures = compare(scored, resampling=Resampling(500)).to_dict(examples=2)
    rows = {row.id: row for row in embedded_answers()[NAMES[0]]}
    assert {(c["better"], c["worse"]) for c in figures["examples"]} >= {(NAMES[0], NAMES[1]), (NAMES[1], NAMES[0])}
    for contest in figures["examples"]:
        for example in contest["examples"]:
            answers = example["answers"]
            assert answers[contest["better"]]["quality"] > answers[contest["worse"]]["quality"]
            assert example["question"] == rows[example["id"]].question
    constant = figures["constant_answer"]
    hits = sum(constant["answer"] in [text.strip().lower() for text in row.references] for row in rows.values())
    assert constant["share"] == hits / len(rows)


def test_names_of_metrics() -> None:
    everything = metric_names("all")
    assert set(everything) == set(METRICS) - {"accuracy", *LABELS, *SPEECH, *RETRIEVAL, *BUNDLE, *BUNDLE_PUBLISHED}
    assert set(metric_names("text")) <= set(everything)
    assert not {"bertscore_f1", "faithfulness"} & set(metric_names("text"))
    assert metric_names("rougeL, bleu,rougeL") == ("rougeL", "bleu")
    with pytest.raises(ConfigError) as caught:
        metric_names("rougel")
    assert caught.value.hint.startswith("did you mean `rougeL`? known: all, text, bundles, exact_match,")
    with pytest.raises(ConfigError, match="no metric asked for"):
        metric_names("")


def test_tools_of_a_recipe(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path))
    assert cache_folder("judge") == tmp_path / "judge"
    config = EvaluateConfig.model_validate(
        {"judge": {"model": "scripted", "base_url": "http://localhost:1/v1", "repeats": 3}, "bertscore_model": "x"}
    )
    models = metric_models_of(config)
    assert models.judge is not None
    assert (models.judge.name, models.judge_repeats, models.bertscore_model) == ("scripted", 3, "x")
    assert metric_models_of(EvaluateConfig()).judge is None


def test_predictions_without_groups_are_resampled_by_context_and_that_is_said() -> None:
    texts = ("One text.", "One text.", "Another text.", None)
    rows = [
        Prediction(str(n), references=("a",), prediction="a" if n % 2 else "b", context=text)
        for n, text in enumerate(texts)
    ]
    found = score_systems([System("mine", rows, "x")], ("exact_match",))
    assert list(found.clusters) == [0, 0, 1, 2]
    assert found.notes == ("items of one context are resampled together: 4 items, 3 groups",)
    assert list(found.part([True, True, False, False]).clusters) == [0, 0]
    # A group of the file's own goes before, and one text for all is a preamble.
    grouped = [replace(row, group=name) for row, name in zip(rows, "ABCC", strict=True)]
    assert list(score_systems([System("mine", grouped, "x")], ("exact_match",)).clusters) == [0, 1, 2, 2]
    alike = [replace(row, context="Answer briefly.") for row in rows]
    assert list(score_systems([System("mine", alike, "x")], ("exact_match",)).clusters) == [0, 1, 2, 3]
