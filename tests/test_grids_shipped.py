"""Cells of the shipped grids take two steps offline."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from support.shipped_recipes import GRIDS, TINY, offline, recipes_of, run, study
from understudy.arms import main_arm
from understudy.files import read_json
from understudy.grid import grid_table
from understudy.recipe import DataConfig

ROOT = Path(__file__).resolve().parents[1]
# Of a grid: the cells that need most, one seed of them; and how many they are.
FEW = {
    "telecom_study": (
        # Of one vocabulary `telecom_qa` runs, and the grids of `cli`.
        [
            "axes.teacher.sft=[true]",
            "axes.student.sft=[true]",
            "axes.vocabulary={different: {student.model: embedded:telecom-student-other}}",
            "axes.seed=[0]",
            "student.sft.steps=2",
        ],
        2,
    ),
    "commonsense_explain": (
        [
            "axes.size={small: {student.model: embedded:telecom-student}}",
            "axes.training={MT+CF revised: {tasks.kind: multitask_counterfactual, tasks.rationales: revise}}",
            "axes.seed=[0]",
            "data.max_answer_tokens=64",
            "generate.max_tokens={explain: 40, critique: 40, revise: 40, counterfactual: 40}",
        ],
        1,
    ),
    "bundle_study": (
        [
            "axes.formats={patterns: {knowledge.formats: [patterns]}}",
            "axes.use={sft_icl: {knowledge.use: sft_icl}}",
            "axes.sampler={diversity: {generate.sessions.sampler: diversity}}",
            'axes.ratio={"0.3": {generate.sessions.ratio: 0.3}}',
            "axes.seed=[0]",
            "exclude=[]",
            "generate.steps=[patterns]",
            "evaluate.constrained=false",
        ],
        1,
    ),
    "constellation_study": (
        ["axes.shown={teacher: {student.images: false}}", "axes.seed=[0]", "teacher.sft.steps=40"],
        1,
    ),
    "digits": (["axes.seed=[0]", "data.max_answer_tokens=1"], 1),
    "speech_commands": (["axes.seed=[0]", "teacher.config={encoder_layers: 1, decoder_layers: 1, d_model: 32}"], 1),
}


@pytest.mark.parametrize("name", GRIDS)
def test_cells_of_a_grid_take_two_steps_offline(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := next((reason for recipe in recipes_of(name) if (reason := offline(recipe))), ""):
        pytest.skip(reason)
    few, num = FEW[name]
    run(monkeypatch, name, *TINY, *few, f"output={tmp_path}")
    arm = main_arm(study(name).cells[0].recipe.evaluate.arms)
    rows = grid_table(tmp_path / study(name).name, [arm])
    assert len(rows) == num
    for row in rows:
        assert read_json(row.run / "stages" / f"train-{arm}" / "done.json")["plan"]["steps"] == 2
        assert row.metrics[next(iter(row.metrics))] is not None
    assert len({row.run for row in rows}) == num


def test_recorded_rationales_go_all_the_way_into_an_encoder_decoder(shared, tmp_path, monkeypatch) -> None:
    study_of = shared / "commonsense" / "distilling_step_by_step"
    source, folder = str(study_of / "cqa_train.json"), str(tmp_path / "t5")
    script = runpy.run_path(str(ROOT / "scripts" / "make_t5.py"))
    tokenizer = script["make_tokenizer"](script["corpus"](DataConfig(source=source, limit=150), study_of / "palm"), 500)
    tokenizer.save_pretrained(folder)
    script["make_config"](len(tokenizer), 32, 1, 0.0).save_pretrained(folder)
    words = [f"data.source={source}", f"generate.recorded={study_of / 'palm'}", f"student.model={folder}"]
    few = ["axes.rationales={filtered: {generate.filter.leads_to_answer: true}}", "axes.seed=[0]"]
    limits = [word for word in TINY if not word.startswith("teacher")] + ["data.limit=150", "data.max_length=400"]
    run(monkeypatch, "commonsense_palm", *words, *limits, *few, f"output={tmp_path / 'runs'}")
    [row] = grid_table(tmp_path / "runs" / "commonsense-palm", ["explained"])
    train, texts = (read_json(row.run / "stages" / name / "done.json") for name in ("train-explained", "generate"))
    assert (train["plan"]["steps"], train["rows"], texts["teacher"]) == (2, texts["examples"], "palm")
    step = texts["steps"]["explain_blind"]
    assert step["kept"] + step["rejected"]["answer"] == step["written"]
    assert 0.6 < step["kept"] / step["written"] < 0.9
