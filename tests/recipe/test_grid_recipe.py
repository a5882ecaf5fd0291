"""Recipes with axes: which cells they come to, and how a fault is named."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import ConfigError
from understudy.recipe import GridConfig, Recipe, fields, load_grid, load_recipe, parse_grid

BASE: dict[str, Any] = {
    "name": "study",
    "teacher": {"model": "a", "sft": {"steps": 7, "lora": {"r": 4}}},
    "student": {"model": "b"},
}
STUDY = {
    "teacher.sft": [False, True],
    "student.sft": [False, True],
    "teacher": {"same_vocab": {"teacher.model": "a"}, "other_vocab": {"teacher.model": "c"}},
    "distil.method": ["kd", "dskd"],
    "seed": [0, 1, 2],
}


def grid(axes: Any, **more: Any):
    return parse_grid({**BASE, "axes": axes, **more})


def refusal(axes: Any, **more: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        grid(axes, **more)
    assert "\n" not in caught.value.message
    return caught.value.message


# -- cells -----------------------------------------------------------------------------------------------------------


def test_the_study_has_sixteen_cells_by_three_seeds_in_the_order_of_its_axes() -> None:
    found = grid(STUDY)
    assert len(found.cells) == 2**4 * 3
    assert dict(found.cells[0].levels) == {
        "teacher.sft": "false",
        "student.sft": "false",
        "teacher": "same_vocab",
        "distil.method": "kd",
        "seed": "0",
    }
    assert [cell.recipe.seed for cell in found.cells[:4]] == [0, 1, 2, 0]
    assert len({cell.recipe.fingerprint() for cell in found.cells}) == 48
    other = [cell.recipe for cell in found.cells if cell.levels["teacher"] == "other_vocab"]
    assert {recipe.teacher.model for recipe in other} == {"c"}


def test_true_keeps_the_settings_of_a_section_and_false_switches_it_off() -> None:
    off, on = (cell.recipe for cell in grid({"teacher.sft": [False, True]}).cells)
    assert off.teacher.sft is None
    assert on.teacher.sft is not None
    assert on.teacher.sft.steps == 7
    assert on.teacher.sft.lora is not None
    assert on.teacher.sft.lora.r == 4
    # A section that the recipe does not have comes with its defaults; the recipe's own teacher too.
    assert grid({"student.sft": [True]}).cells[0].recipe.student.sft is not None
    assert parse_grid({"axes": {"teacher.sft": [True]}}).cells[0].recipe == Recipe()


def test_a_mapping_sets_what_it_names_and_leaves_the_rest() -> None:
    [few] = grid({"teacher.sft": [{"steps": 2}]}).cells
    assert few.recipe.teacher.sft is not None
    assert (few.recipe.teacher.sft.steps, few.recipe.teacher.sft.lora is None) == (2, False)


def test_an_axis_reaches_into_a_section_that_is_off_by_default() -> None:
    means = {"one": {}, "two": {"teachers.mean": "log_probabilities", "teachers.others": {"other": {"model": "c"}}}}
    one, two = (cell.recipe for cell in grid({"heard": means}).cells)
    assert one.teachers is None
    assert two.teachers is not None
    assert (two.teachers.mean, list(two.teachers.others)) == ("log_probabilities", ["other"])
    [taught] = grid({"generate.seed": [5]}).cells
    assert taught.recipe.generate is not None
    assert taught.recipe.generate.seed == 5


def test_pretraining_of_either_side_both_or_none() -> None:
    raw = {"source": "documents", "steps": 3}
    base = {**BASE, "teacher": {**BASE["teacher"], "pretrain": raw}, "student": {**BASE["student"], "pretrain": raw}}
    found = parse_grid({**base, "axes": {"pretrain": ["none", "teacher", "student", "both"]}})
    sides = [(bool(c.recipe.teacher.pretrain), bool(c.recipe.student.pretrain)) for c in found.cells]
    assert sides == [(False, False), (True, False), (False, True), (True, True)]
    assert found.cells[3].recipe.student.pretrain is not None
    assert found.cells[3].recipe.student.pretrain.steps == 3


def test_excluded_cells_are_left_out_and_rules_change_others() -> None:
    found = grid(
        STUDY,
        exclude=[{"teacher": "other_vocab", "seed": [1, 2]}, {"teacher.sft": False, "student.sft": True}],
        where=[{"if": {"teacher": "other_vocab", "distil.method": "kd"}, "set": {"distil.method": "dskd_cma"}}],
    )
    assert len(found.cells) + found.excluded == 48
    assert len(found.cells) == 3 * 2 * 3 + 3 * 2 * 1
    for cell in found.cells:
        if cell.levels["teacher"] == "other_vocab":
            assert cell.levels["seed"] == "0"
            assert cell.recipe.distil.method == {"kd": "dskd_cma", "dskd": "dskd"}[cell.levels["distil.method"]]
        else:
            assert cell.recipe.distil.method == cell.levels["distil.method"]


def test_overrides_reach_axes_the_engine_and_ordinary_fields(tmp_path: Path) -> None:
    path = tmp_path / "grid.yaml"
    path.write_text(yaml.safe_dump({**BASE, "axes": STUDY}))
    found = load_grid(path, ["axes.seed=[5]", "axes.teacher.sft=[true]", "grid.engine=ray", "workers=3", "output=out"])
    assert len(found.cells) == 8
    assert {cell.recipe.seed for cell in found.cells} == {5}
    assert all(cell.recipe.teacher.sft for cell in found.cells)
    assert (found.config.engine, found.workers, found.folder) == ("ray", 3, Path("out/study"))
    with pytest.raises(ConfigError, match="it is a grid, not one run"):
        load_recipe(path)


@settings(deadline=None, max_examples=25)
@given(st.dictionaries(st.sampled_from(["seed", "distil.steps", "data.seed", "distil.epochs"]), st.integers(1, 4)))
def test_there_is_one_cell_for_each_combination(sizes: dict[str, int]) -> None:
    axes = {name: list(range(1, size + 1)) for name, size in sizes.items()}
    if not axes:
        return
    found = grid(axes)
    assert len(found.cells) == math.prod(sizes.values())
    for cell in found.cells:
        for name, label in cell.levels.items():
            assert float(fields.get(cell.recipe.model_dump(), name)) == float(label)


# -- faults ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "said"),
    [
        ({"teacher.stf": [False]}, "axis teacher.stf: unknown field `teacher.stf`: did you mean `teacher.sft`?"),
        ({"method": ["kd"]}, "axis method: unknown field `method`: did you mean `distil.method`?"),
        ({"t": {"a": {"teacher.modle": "x"}}}, "axis t, level a: unknown field `teacher.modle`: did you mean"),
        ({"distil.method": ["kd", "magic"]}, "axis distil.method, level magic: distil.method: Input should be"),
        ({"seed": [0, "x"]}, "axis seed, level x: seed: Input should be a valid integer"),
        ({"pretrain": ["none", "both"]}, "axis pretrain, level both: teacher.pretrain.source: Field required"),
        ({"pretrain": ["some"]}, "axis pretrain, level some: pretrain knows none, teacher, student, both"),
        ({"seed": [0, 0]}, "axis seed: the level 0 stands twice"),
        ({"seed": 3}, "axis seed: its levels must be a list of values, or a mapping"),
        ({"seed": []}, "axis seed: its levels must be a list of values, or a mapping"),
        ({"t": {"a": 3}}, "axis t, level a: a named level is a mapping of fields to values"),
        ({"seed": [0], "s": {"a": {"seed": 1}}}, "the axes seed and s both set seed"),
        ({"student.sft": [True], "student.sft.steps": [3]}, "both set student.sft.steps"),
        ({"workers": [1, 2]}, "axis workers: all cells have one and the same workers"),
        ({}, "axes: no axis is named"),
        ([1], "axes: no axis is named"),
    ],
)
def test_a_fault_names_axis_level_and_nearest_field(axes: Any, said: str) -> None:
    assert said in refusal(axes)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"exclude": [{"sed": 0}]}, "exclude: there is no axis 'sed': known here: seed"),
        ({"exclude": [{"seed": 7}]}, "exclude: the axis seed has no level 7: known here: 0, 1"),
        ({"exclude": [{"seed": [0, 1]}]}, "every cell is excluded"),
        ({"exclude": {"seed": 0}}, "exclude must be a list of conditions"),
        ({"where": [{"if": {"seed": 0}}]}, "where: a rule has the two keys `if` and `set`"),
        ({"where": [{"if": {"seed": 0}, "set": {"distil.stepz": 1}}]}, "did you mean `distil.steps`?"),
        ({"where": [{"if": {"seed": 1}, "set": {"distil.steps": 0}}]}, "the cell seed 1: distil.steps: Input should"),
        ({"grid": {"engine": "slurm"}}, "grid.engine: Input should be 'local' or 'ray'"),
        ({"grid": {"engin": "ray"}}, "grid.engin: Extra inputs are not permitted"),
        ({"distill": {}}, "unknown key `distill`: did you mean `distil`?"),
    ],
)
def test_other_faults_are_named_too(more: dict[str, Any], said: str) -> None:
    assert said in refusal({"seed": [0, 1]}, **more)


def test_the_page_on_grids_names_every_setting_of_an_engine() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "grid.md").read_text(encoding="utf-8")
    assert not [name for name in GridConfig.model_fields if f"`{name}`" not in page]
