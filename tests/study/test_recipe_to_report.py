"""From a recipe of embedded models to a study's report: their students' own texts, rated by simulated raters."""

from pathlib import Path

import pytest

from understudy.cli import app
from understudy.files import read_json
from understudy.grid.table import grid_table

FEW = [
    *("distil.steps=2", "teacher.sft.steps=2", "distil.eval_rows=2", "teacher.sft.eval_rows=2", "data.limit=60"),
    *("evaluate.rows=24", "evaluate.resamples=100", "data.max_answer_tokens=64", "workers=1", "device=cpu"),
    "axes.size={small: {student.model: embedded:telecom-student}}",
    "axes.training={MT: {tasks.kind: multitask}, both: {tasks.kind: multitask_counterfactual}, "
    "revised: {tasks.kind: multitask_counterfactual, tasks.rationales: revise}}",
    "axes.seed=[0]",
    "generate.max_tokens={explain: 40, critique: 40, revise: 40, counterfactual: 40}",
]


def run(*words: str) -> None:
    app(args=list(words), standalone_mode=False)


@pytest.mark.slow
def test_a_recipe_of_embedded_models_to_a_conclusion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    run("run", "commonsense_explain", *FEW, f"output={tmp_path / 'runs'}")
    rows = grid_table(tmp_path / "runs" / "commonsense-explain", ["explained"])
    sources = [f"{row.levels['training']}={row.run}" for row in rows]
    assert len(sources) == 3
    study = tmp_path / "study"
    sizes = ("--items", "12", "--raters", "30", "--per-rater", "12")
    run("study", "create", *sources, "--out", str(study), *sizes, "--unfinished")
    run("study", "simulate", str(study), "--effect", "revised=0.8", "--effect", "MT:contrastiveness=-0.9")
    run("study", "analyse", str(study), "--simulated", "--draws", "2000")
    saved = read_json(study / "simulated" / "analysis.json")
    assert saved["simulated"]
    assert saved["settings"]["mechanism"] == "design"
    found = {(pair["outcome"], *sorted((pair["a"], pair["b"]))): pair["better"] for pair in saved["main"]["pairs"]}
    planted = {key: value for key, value in found.items() if "revised" in key}
    assert set(planted.values()) == {"revised"}
    assert found["contrastiveness", "MT", "both"] == "both"
    others = {
        key: value
        for key, value in found.items()
        if key not in planted and key[0] not in ("contrastiveness", "quality")
    }
    assert set(others.values()) == {None}
    assert {row["source"] for row in saved["accuracies"]} == {"run"}
    assert "simulated" in (study / "simulated" / "analysis.html").read_text()
