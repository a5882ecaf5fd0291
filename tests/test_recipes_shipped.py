"""Every shipped recipe parses; those that need no other data take two steps offline."""

from __future__ import annotations

import sys
from importlib import resources
from pathlib import Path

import pytest

from understudy.cli import main
from understudy.cli.recipes import find, shipped
from understudy.data.formats import FORMATS
from understudy.files import read_json
from understudy.losses.divergences import divergence
from understudy.recipe import Recipe, load_recipe

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


@pytest.mark.parametrize("name", shipped())
def test_it_parses_and_names_what_exists(name: str) -> None:
    recipe = load_recipe(shipped()[name])
    assert recipe.data.format in ("auto", *FORMATS)
    divergence(recipe.distil.divergence, **recipe.distil.divergence_parameters)
    first = shipped()[name].read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert recipe.name.replace("-", "_") in (name, f"{name}_qa")


def test_they_are_found_by_name_and_by_path() -> None:
    for name, path in shipped().items():
        assert find(name) == find(str(path)) == path


def offline(recipe: Recipe) -> str:
    """Why a recipe cannot run here; empty if it can."""
    if not recipe.data.source.startswith("embedded:"):
        return f"needs the data file {recipe.data.source}"
    for model in (recipe.teacher.model, recipe.student.model):
        folder = resources.files("understudy.models") / "embedded" / model.removeprefix("embedded:")
        if not model.startswith("embedded:") or not Path(str(folder / "model.safetensors")).is_file():
            return f"needs the model {model}"
    return ""


@pytest.mark.parametrize("name", shipped())
def test_it_takes_two_steps_offline(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if reason := offline(load_recipe(shipped()[name])):
        pytest.skip(reason)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sys, "argv", ["understudy", "run", name, *TINY, f"output={tmp_path}"])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0
    [folder] = tmp_path.iterdir()
    for arm in load_recipe(shipped()[name]).evaluate.arms:
        assert read_json(folder / "stages" / f"train-{arm}" / "done.json")["plan"]["steps"] == 2
    assert "distilled" in read_json(folder / "scores.json")["overall"]["table"]
    assert (folder / "report.html").stat().st_size > 10_000
