"""Every shipped recipe parses; those that need no other data take two steps offline; a grid plans."""

from __future__ import annotations

import math
import runpy
import sys
from importlib import resources
from pathlib import Path

import pytest

from understudy import build
from understudy.arms import main_arm
from understudy.cli import main
from understudy.data.formats import FORMATS
from understudy.files import read_json
from understudy.grid import grid_table
from understudy.recipe import DataConfig, Grid, Recipe, is_grid, load_grid, load_recipe, load_yaml
from understudy.recipe.shipped import find_recipe, shipped

ROOT = Path(__file__).resolve().parents[1]
TINY = [
    "distil.steps=2",
    "teacher.sft.steps=2",
    "distil.eval_rows=2",
    "teacher.sft.eval_rows=2",
    "evaluate.rows=4",
    "evaluate.resamples=100",
    "data.limit=24",
    "data.max_answer_tokens=6",
    "seqkd.keep_unfinished=true",
    "workers=1",
    "device=cpu",
]
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
            "generate.max_tokens={explain: 16, critique: 16, revise: 16, counterfactual: 16}",
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
}
GRIDS = [name for name, path in shipped().items() if is_grid(load_yaml(path))]
PLAIN = [name for name in shipped() if name not in GRIDS]


def recipes_of(name: str) -> list[Recipe]:
    """The recipe of this name, or all cells of the grid."""
    path = shipped()[name]
    return [cell.recipe for cell in load_grid(path).cells] if name in GRIDS else [load_recipe(path)]


@pytest.mark.parametrize("name", shipped())
def test_it_parses_and_names_what_exists(name: str) -> None:
    for recipe in recipes_of(name):
        assert recipe.data.format in ("auto", *FORMATS)
        build.check_divergence(recipe.distil)
        assert recipe.name.replace("-", "_") in (name, f"{name}_qa")
    first = shipped()[name].read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")


def test_they_are_found_by_name_and_by_path() -> None:
    for name, path in shipped().items():
        assert find_recipe(name) == find_recipe(str(path)) == path


def offline(recipe: Recipe) -> str:
    """Why a recipe cannot run here; empty if it can."""
    if not recipe.data.source.startswith("embedded:"):
        return f"needs the data file {recipe.data.source}"
    for model in (side.model for side in (recipe.teacher, recipe.student) if side):
        folder = resources.files("understudy.models") / "embedded" / model.removeprefix("embedded:")
        if not model.startswith("embedded:") or not Path(str(folder / "model.safetensors")).is_file():
            return f"needs the model {model}"
    return ""


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """`understudy run …` without a hub; it has to end well."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sys, "argv", ["understudy", "run", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0


@pytest.mark.parametrize("name", PLAIN)
def test_it_takes_two_steps_offline(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [recipe] = recipes_of(name)
    if reason := offline(recipe):
        pytest.skip(reason)
    run(monkeypatch, name, *TINY, f"output={tmp_path}")
    [folder] = tmp_path.iterdir()
    for arm in recipe.evaluate.arms:
        assert read_json(folder / "stages" / f"train-{arm}" / "done.json")["plan"]["steps"] == 2
    assert "distilled" in read_json(folder / "scores.json")["overall"]["table"]
    assert (folder / "report.html").stat().st_size > 10_000


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


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_is_planned_without_a_hub_and_runs_nothing(name, tmp_path, monkeypatch, capsys) -> None:
    run(monkeypatch, name, "--plan", f"output={tmp_path / 'runs'}")
    num = math.prod(len(levels) for levels in study(name).axes.values()) - study(name).excluded
    said = capsys.readouterr().out
    assert said.startswith(f"{num} cells, ")
    assert f"{num} runs under" in said
    assert not (tmp_path / "runs").exists()


def study(name: str) -> Grid:
    return load_grid(shipped()[name])


def test_the_bundle_study_has_every_format_and_use_and_all_formats_by_quantity() -> None:
    grid = study("bundle_study")
    assert len(grid.cells) == 54
    chosen = {(cell.levels["formats"], cell.levels["use"], cell.levels["ratio"]) for cell in grid.cells}
    assert len(chosen) == 15 + 3 * 2
    assert {cell.levels["ratio"] for cell in grid.cells if cell.levels["formats"] != "all"} == {"1.0"}


@pytest.mark.parametrize("name", ["telecom_study", "telecom_study_7b"])
def test_the_telecom_study_is_sixteen_cells_of_three_seeds(name: str) -> None:
    grid = study(name)
    assert list(grid.axes) == ["teacher.sft", "student.sft", "vocabulary", "algorithm", "seed"]
    assert [len(levels) for levels in grid.axes.values()] == [2, 2, 2, 2, 3]
    methods = {("same", "kd"): "kd", ("same", "dskd"): "dskd"}
    methods |= {("different", "kd"): "min_edit", ("different", "dskd"): "dskd_cma"}
    for cell in grid.cells:
        assert cell.recipe.distil.method == methods[cell.levels["vocabulary"], cell.levels["algorithm"]]
        assert (cell.recipe.teacher.sft is not None) == (cell.levels["teacher.sft"] == "true")
        assert (cell.recipe.student.sft is not None) == (cell.levels["student.sft"] == "true")
        assert cell.recipe.seed == int(cell.levels["seed"])
        assert not cell.recipe.evaluate.speed


def test_the_large_study_has_the_published_settings() -> None:
    for cell in study("telecom_study_7b").cells:
        distil = cell.recipe.distil
        assert (distil.batch_size, distil.weight_decay, distil.schedule, distil.max_grad_norm) == (
            32,
            0.01,
            "cosine",
            1,
        )
        assert (distil.learning_rate, distil.objective_learning_rate, distil.temperature) == (1e-3, 1e-3, 2.0)
        assert distil.lora is not None
        assert (distil.lora.r, distil.lora.lora_alpha) == (256, 8)
        assert (cell.recipe.data.format, cell.recipe.data.max_length) == ("squad", 512)
        assert cell.recipe.student.dtype == cell.recipe.teacher.dtype == "bfloat16"


def test_the_study_of_explanations_has_the_published_settings() -> None:
    grid = study("commonsense_t5")
    assert list(grid.axes) == ["training", "rationales", "size", "seed"]
    assert [len(levels) for levels in grid.axes.values()] == [3, 2, 2, 5]
    kinds = {"MT": "multitask", "CF": "counterfactual", "MT+CF": "multitask_counterfactual"}
    for cell in grid.cells:
        recipe, levels = cell.recipe, cell.levels
        assert recipe.tasks is not None
        assert recipe.tasks.kind == kinds[levels["training"]]
        assert recipe.tasks.rationales == {"unrevised": "explain", "revised": "revise"}[levels["rationales"]]
        assert recipe.student.model == f"google/t5-v1_1-{levels['size']}"
        assert recipe.seed == int(levels["seed"])
        weights = (recipe.tasks.predict_weight, recipe.tasks.factual_weight, recipe.tasks.multitask_weight)
        assert weights == (0.5, 0.5, 0.5)
        assert (recipe.distil.steps, recipe.distil.batch_size, recipe.distil.learning_rate) == (5000, 64, 5e-5)
        assert recipe.data.max_length - recipe.data.max_answer_tokens == 300


def test_the_texts_of_that_study_are_written_once_for_all_cells() -> None:
    [generate, *others] = [cell.recipe.model_dump()["generate"] for cell in study("commonsense_t5").cells]
    assert all(other == generate for other in others)
    assert generate["steps"] == ("explain", "critique", "revise", "counterfactual")
    assert (generate["shots"], generate["teacher"]["temperature"]) == (7, 0.0)
    assert generate["max_tokens"] == {"explain": 160, "critique": 300, "revise": 300, "counterfactual": 512}


def test_recorded_rationales_are_learned_with_the_filter_without_it_and_not_at_all() -> None:
    found = {}
    for cell in study("commonsense_palm").cells:
        recipe = cell.recipe
        assert recipe.tasks is not None
        assert recipe.generate is not None
        assert (recipe.teacher, recipe.student.init) == (None, "fresh")
        found[cell.levels["rationales"]] = (recipe.tasks.kind, recipe.generate.filter.leads_to_answer)
    assert found == {"none": ("answer", False), "all": ("multitask", False), "filtered": ("multitask", True)}


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
