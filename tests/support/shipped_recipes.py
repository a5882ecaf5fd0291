"""The shipped recipes, and how a test runs one in a few steps and without a hub."""

from __future__ import annotations

import shutil
import sys
from importlib import resources
from pathlib import Path

import pytest

from understudy.cli import main
from understudy.recipe import Grid, Recipe, is_grid, load_grid, load_recipe, load_yaml
from understudy.recipe.shipped import shipped

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
GRIDS = [name for name, path in shipped().items() if is_grid(load_yaml(path))]
PLAIN = [name for name in shipped() if name not in GRIDS]


def recipes_of(name: str) -> list[Recipe]:
    """The recipe of this name, or all cells of the grid."""
    path = shipped()[name]
    return [cell.recipe for cell in load_grid(path).cells] if name in GRIDS else [load_recipe(path)]


def offline(recipe: Recipe) -> str:
    """Why a recipe cannot run here; empty if it can."""
    if not recipe.data.source.startswith("embedded:"):
        return f"needs the data file {recipe.data.source}"
    if recipe.data.source == "embedded:spoken" and shutil.which("espeak-ng") is None:
        return "needs espeak-ng"
    for side in (side for side in (recipe.teacher, recipe.student) if side):
        folder = resources.files("understudy.models") / "embedded" / side.model.removeprefix("embedded:")
        weights = "config.json" if side.init == "fresh" else "model.safetensors"
        if not side.model.startswith("embedded:") or not Path(str(folder / weights)).is_file():
            return f"needs the model {side.model}"
    return ""


def run(monkeypatch: pytest.MonkeyPatch, *words: str) -> None:
    """`understudy run …` without a hub; it has to end well."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(sys, "argv", ["understudy", "run", *words])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 0


def study(name: str) -> Grid:
    return load_grid(shipped()[name])
