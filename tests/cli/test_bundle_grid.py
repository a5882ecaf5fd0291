"""A grid of sessions from its recipe to its report: patterns are mined, shown, learned, answers held to their items."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import yaml

from understudy.cli import main
from understudy.data.sessions import is_session
from understudy.files import read_json, read_jsonl
from understudy.grid import grid_table
from understudy.models.constrained import Grammars  # noqa: F401  (without llguidance nothing here can run)
from understudy.run import Run

RECIPE = {
    "name": "sessions",
    "data": {"source": "embedded:bundles", "limit": 150, "max_length": 512, "max_answer_tokens": 24},
    "teacher": None,
    "student": {"model": "embedded:telecom-student"},
    "generate": {"steps": ["patterns"], "sessions": {"support": 0.02}},
    "knowledge": {"formats": ["patterns"], "tokens": 120},
    "distil": {"steps": 2, "batch_size": 4, "eval_rows": 2},
    "evaluate": {
        "arms": ["informed"],
        "metrics": ["bundle_f1", "bundle_recall"],
        "rows": 6,
        "resamples": 100,
        "constrained": "both",
        "speed": False,
    },
    "device": "cpu",
    "axes": {"knowledge.use": ["icl", "sft_icl"]},
}


def call(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    monkeypatch.setattr(sys, "argv", ["understudy", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0


@pytest.fixture(scope="module")
def grid(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sessions")
    recipe = folder / "recipe.yaml"
    recipe.write_text(yaml.safe_dump({**RECIPE, "output": str(folder / "runs")}), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        call(patch, "run", str(recipe))
        call(patch, "grid", "report", str(folder / "runs" / "sessions"), "--resamples", "200", "--cost", "tokens")
    return folder / "runs" / "sessions"


def runs_of(grid: Path) -> dict[str, Run]:
    return {row.levels["knowledge.use"]: Run(row.run) for row in grid_table(grid, ["informed"])}


def test_icl_trains_nothing_and_sft_icl_keeps_weights_by_f1_of_bundles(grid: Path) -> None:
    runs = runs_of(grid)
    assert not runs["icl"].stage("train-informed").exists()
    done = read_json(runs["sft_icl"].stage("train-informed") / "done.json")
    assert done["best_rougeL"] is None
    assert 0 <= done["best_bundle_f1"] <= 1
    curve = read_jsonl(runs["sft_icl"].stage("train-informed") / "training" / "metrics.jsonl")
    assert any("eval_bundle_f1" in line for line in curve)


def test_what_was_shown_is_written_down_from_training_alone_and_within_the_budget(grid: Path) -> None:
    for run in runs_of(grid).values():
        train = {row["id"] for row in read_jsonl(run.folder / "data" / "train.jsonl")}
        shown = read_jsonl(run.stage("predict-informed") / "shown.jsonl")
        assert len(shown) == 6
        assert any(row["lines"] or row["neighbours"] for row in shown)
        assert all(row["tokens"] <= 120 and train.issuperset(row["neighbours"]) for row in shown)


def test_every_arm_answers_the_same_rows(grid: Path) -> None:
    for run in runs_of(grid).values():
        arms = [run.predictions(arm) for arm in ("base_student", "informed", "informed_constrained")]
        for rows in zip(*arms, strict=True):
            assert len({(row.id, row.question, row.context, row.group) for row in rows}) == 1


def test_held_answers_are_json_of_items_of_the_session_as_far_as_they_go(grid: Path) -> None:
    for run in runs_of(grid).values():
        for row in run.predictions("informed_constrained"):
            assert row.prediction is not None
            assert '{"bundles": [{"items": ['.startswith(row.prediction[:24])
            if row.finished:
                assert json.loads(row.prediction)["bundles"]


def test_table_and_report_tell_cost_and_answer_the_question(grid: Path) -> None:
    table = (grid / "table.csv").read_text(encoding="utf-8").splitlines()
    assert "training_tokens,input_tokens,output_tokens,flops" in table[0]
    report = read_json(grid / "report.json")
    assert report["axes"] == {"knowledge.use": ["icl", "sft_icl"], "answers": ["free", "constrained"]}
    assert {question["axis"] for question in report["questions"]} == {"knowledge.use", "answers"}
    costs = {(c["arm"], *c["levels"].values()): c for c in report["costs"]}
    assert costs["informed", "icl", "free"]["training_tokens"] == 0
    assert costs["informed", "sft_icl", "free"]["flops"] > costs["informed", "icl", "free"]["flops"]
    assert ("base_student",) in costs
    page = (grid / "report.html").read_text(encoding="utf-8")
    assert "Quality and cost" in page
    assert "How is knowledge best used" in page


def test_the_rows_are_sessions(grid: Path) -> None:
    from understudy.pipeline.stages.context import rows_of

    assert all(map(is_session, rows_of(runs_of(grid)["icl"], "test")))
