"""Every shipped recipe parses; those that need no other data take two steps offline; a grid plans."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from support.shipped_recipes import GRIDS, PLAIN, TINY, offline, recipes_of, run, study
from understudy import build
from understudy.data.formats import FORMATS
from understudy.files import read_json
from understudy.recipe.shipped import find_recipe, shipped


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


@pytest.mark.parametrize("name", PLAIN)
def test_it_takes_two_steps_offline(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    [recipe] = recipes_of(name)
    if reason := offline(recipe):
        pytest.skip(reason)
    # A teacher of random weights has to learn how to end an answer before it can write one.
    longer = ["teacher.sft.steps=40"] if recipe.teacher and recipe.teacher.init == "fresh" else []
    run(monkeypatch, name, *TINY, *longer, f"output={tmp_path}")
    [folder] = tmp_path.iterdir()
    for arm in recipe.evaluate.arms:
        assert read_json(folder / "stages" / f"train-{arm}" / "done.json")["plan"]["steps"] == 2
    assert "distilled" in read_json(folder / "scores.json")["overall"]["table"]
    assert (folder / "report.html").stat().st_size > 10_000


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_is_planned_without_a_hub_and_runs_nothing(name, tmp_path, monkeypatch, capsys) -> None:
    run(monkeypatch, name, "--plan", f"output={tmp_path / 'runs'}")
    num = math.prod(len(levels) for levels in study(name).axes.values()) - study(name).excluded
    said = capsys.readouterr().out
    assert said.startswith(f"{num} cells, ")
    assert f"{num} runs under" in said
    assert not (tmp_path / "runs").exists()


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
