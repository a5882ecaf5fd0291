"""Costs of a cell by hand, the front against brute force, partners of a level, and the page that shows them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.files import write_json
from understudy.grid.bundle_study import partners, questions
from understudy.grid.cost_means import cell_costs, figures_of, mean_cost
from understudy.grid.costs import cost_of, flops
from understudy.grid.table import TableRow
from understudy.metrics.significance import Resampling
from understudy.recipe import dump_recipe, parse_recipe
from understudy.records import AnswerCost, Prediction, PredictionNotes, StageRecord, TrainingNotes, TrainSchedule
from understudy.report.grid_inputs import CostFigures
from understudy.report.pareto import front

PLAN = TrainSchedule(100, 4, 2, 0, 10, 10, 10)
ANSWERS = AnswerCost(10, 3000, 500, 4.0, 1000, 12.0)


def run_of(folder: Path, *, use: str = "sft", seed: int = 0, sft: bool = False, answers: AnswerCost = ANSWERS) -> Path:
    """A run's folder with the records that costs are read from."""
    student = {"model": "embedded:telecom-student", **({"sft": {"steps": 2}} if sft else {})}
    recipe = parse_recipe(
        {
            "data": {"source": "embedded:bundles"},
            "teacher": None,
            "student": student,
            "seed": seed,
            "knowledge": {"use": use, "formats": []},
            "evaluate": {"arms": ["informed"], "constrained": "both"},
        }
    )
    folder.mkdir(parents=True)
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    held = replace(answers, output_tokens=250)
    record(folder, "predict-informed", PredictionNotes(10, {}, cost=answers, constrained_cost=held))
    record(folder, "predict-base_student", PredictionNotes(10, {}, cost=replace(answers, output_tokens=1000)))
    if use != "icl":
        record(folder, "train-informed", training(20_000))
    if sft:
        record(folder, "student_sft", training(5_000))
    return folder


def training(tokens: int) -> TrainingNotes:
    return TrainingNotes(PLAN, 900, None, None, 1.0, 100, {}, trained_tokens=tokens, parameters=1000)


def record(folder: Path, stage: str, notes: PredictionNotes | TrainingNotes) -> None:
    target = folder / "stages" / stage
    target.mkdir(parents=True)
    write_json(target / "begun.json", {})
    write_json(target / "done.json", StageRecord(stage, 1.0, notes.to_json()).to_json())


def test_operations_are_six_and_two_a_parameter_and_token() -> None:
    assert flops(1000, 20_000, 3500) == 6 * 1000 * 20_000 + 2 * 1000 * 3500 == 127_000_000


def test_a_trained_arm_pays_for_its_training_and_for_all_answers(tmp_path: Path) -> None:
    cost = cost_of(run_of(tmp_path / "run"), "informed")
    assert cost is not None
    assert (cost.training_tokens, cost.flops) == (20_000, 127_000_000)


def test_what_was_trained_before_the_arm_counts_too(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run", sft=True)
    cost, bare = cost_of(folder, "informed"), cost_of(folder, "base_student")
    assert cost is not None
    assert bare is not None
    assert (cost.training_tokens, cost.flops) == (25_000, 157_000_000)
    assert (bare.training_tokens, bare.flops) == (0, 8_000_000)


def test_knowledge_in_context_alone_trains_nothing(tmp_path: Path) -> None:
    cost = cost_of(run_of(tmp_path / "run", use="icl"), "informed")
    assert cost is not None
    assert (cost.training_tokens, cost.flops) == (0, 7_000_000)


def test_constrained_answers_have_costs_of_their_own(tmp_path: Path) -> None:
    cost = cost_of(run_of(tmp_path / "run"), "informed_constrained")
    assert cost is not None
    assert (cost.answers.output_tokens, cost.flops) == (250, 126_500_000)


def test_a_server_has_tokens_and_money_and_no_operations(tmp_path: Path) -> None:
    served = AnswerCost(10, 3000, 500, 4.0, money=0.25)
    cost = cost_of(run_of(tmp_path / "run", use="icl", answers=served), "informed")
    assert cost is not None
    assert (cost.flops, cost.answers.money) == (None, 0.25)


def test_baselines_and_arms_without_answers_have_none(tmp_path: Path) -> None:
    folder = run_of(tmp_path / "run")
    assert cost_of(folder, "majority") is None
    assert cost_of(folder, "sft") is None


def row_of(folder: Path, use: str, seed: int, arm: str = "informed", **metrics: float) -> TableRow:
    answers = folder / "stages" / f"predict-{arm}" / "predictions.jsonl"
    levels = {"knowledge.use": use, "seed": str(seed)}
    return TableRow(levels, seed, arm, metrics, folder, answers, {}, cost_of(folder, arm))


def test_figures_are_a_session_and_means_over_seeds(tmp_path: Path) -> None:
    rows = [
        row_of(run_of(tmp_path / f"{use}{seed}", use=use, seed=seed), use, seed, bundle_f1=0.1 * (seed + 1))
        for use in ("icl", "sft")
        for seed in (0, 1)
    ]
    rows += [row_of(row.run, "", row.seed, "base_student", bundle_f1=0.5) for row in rows]
    one = figures_of(rows[0])
    assert one is not None
    assert (one.input_tokens, one.output_tokens, one.seconds) == (300, 50, 0.4)
    icl, sft, base = cell_costs(rows, "informed")
    assert (icl.levels, sft.levels, base.levels) == ({"knowledge.use": "icl"}, {"knowledge.use": "sft"}, {})
    assert (icl.seeds, icl.flops, sft.flops) == (2, 7_000_000, 127_000_000)
    assert icl.quality == {"bundle_f1": pytest.approx(0.15)}


def test_a_mean_is_unknown_where_one_run_does_not_know() -> None:
    known = CostFigures("a", {}, 1, {"x": 1.0}, 1, 2, 3, 4.0, 5, 6.0, None)
    assert mean_cost([known, replace(known, flops=None)]).flops is None
    assert mean_cost([known, replace(known, flops=8.0)]).flops == 6.0


# The front -----------------------------------------------------------------------------------------------------------

POINT = st.tuples(st.integers(0, 6).map(float), st.integers(0, 6).map(float))


@given(st.lists(POINT, max_size=12))
def test_the_front_is_what_no_point_dominates(points) -> None:
    def dominated(place: int) -> bool:
        cost, quality = points[place]
        return any(c <= cost and q >= quality and (c < cost or q > quality) for c, q in points)

    assert sorted(front(points)) == [place for place in range(len(points)) if not dominated(place)]
    assert [points[place][0] for place in front(points)] == sorted(points[place][0] for place in front(points))


# The questions -------------------------------------------------------------------------------------------------------


def answered(folder: Path, name: str, right: int, **levels: str) -> TableRow:
    """A run that answers the first `right` of 24 sessions rightly."""
    path = folder / name / "predictions.jsonl"
    path.parent.mkdir(parents=True)
    question, truth = "Items of a session:\n1. a\n2. b\n3. c", '{"bundles": [{"items": [1, 2], "intent": "x"}]}'
    wrong = '{"bundles": [{"items": [2, 3], "intent": "x"}]}'
    rows = [
        Prediction(
            str(n), group=str(n), question=question, references=(truth,), prediction=truth if n < right else wrong
        )
        for n in range(24)
    ]
    path.write_text("".join(json.dumps(row.to_json()) + "\n" for row in rows), encoding="utf-8")
    metrics = {"bundle_f1": right / 24, "bundle_recall": right / 24}
    return TableRow({**levels, "seed": "0"}, 0, "informed", metrics, folder / name, path)


def test_partners_are_equal_in_all_but_one_axis(tmp_path: Path) -> None:
    rows = [answered(tmp_path, f"{u}{f}", 1, use=u, formats=f) for u in ("icl", "sft") for f in ("a", "b")]
    pairs = partners(rows[:3], "use", "icl", "sft")
    assert [(one.levels["formats"], other.levels["formats"]) for one, other in pairs] == [("a", "a")]


def test_the_questions_are_answered_by_paired_tests_and_the_quantity_by_a_curve(tmp_path: Path) -> None:
    right = {("icl", "0.1"): 4, ("icl", "1.0"): 4, ("sft", "0.1"): 14, ("sft", "1.0"): 23}
    rows = [answered(tmp_path, f"{u}-{r}", n, use=u, ratio=r) for (u, r), n in right.items()]
    quantity, use = questions(rows, Resampling(2000, 0.95))
    assert (quantity.axis, use.axis) == ("ratio", "use")
    f1 = {test.metric: test for test in use.tests}["bundle_f1"]
    assert (f1.what, f1.better, f1.runs) == ("sft − icl", "sft", 2)
    assert f1.difference == pytest.approx((14 + 23 - 4 - 4) / 48)
    assert "sft − icl: +60.4 points" in use.answer
    values = {(point.line, point.x): point.value for point in quantity.curve}
    assert values == {(u, float(r)): pytest.approx(n / 24) for (u, r), n in right.items()}
    assert all(point.low <= point.value <= point.high for point in quantity.curve)


def test_where_nothing_can_be_told_apart_it_is_said_what_would_not_show(tmp_path: Path) -> None:
    rows = [answered(tmp_path, use, 9 + n, use=use) for n, use in enumerate(("icl", "sft"))]
    (question,) = questions(rows, Resampling(500, 0.95))
    assert question.answer.startswith("No two levels can be told apart in F1 of bundles (1 pairs)")


def test_other_rows_are_asked_nothing(tmp_path: Path) -> None:
    rows = [replace(answered(tmp_path, use, 3, use=use), metrics={"rougeL": 0.5}) for use in ("icl", "sft")]
    assert questions(rows, Resampling(500, 0.95)) == []
