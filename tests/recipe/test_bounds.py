"""Numbers of a recipe that nobody can mean are refused when it is read, in one line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from understudy.cli.comparison_options import CompareOptions
from understudy.errors import ConfigError
from understudy.recipe import METHODS, GridConfig, Recipe, load_recipe, parse_grid, parse_recipe
from understudy.recipe.fields import section_of

BEYOND = 10**23
# What a divergence takes, it says itself, before anything is loaded; an architecture's fields are of any name.
ELSEWHERE = ("divergence_parameters", "config", "arms")


def numbers(section: type[BaseModel]) -> Iterator[tuple[str, FieldInfo]]:
    """Every field of a section, and of those in it, that takes a number, alone or in a mapping."""
    for name, field in section.model_fields.items():
        inner = section_of(field.annotation)
        if inner:
            yield from numbers(inner)
        elif name not in ELSEWHERE and takes_number(field.annotation):
            yield f"{section.__name__}.{name}", field


def takes_number(annotation: Any) -> bool:
    origin, inside = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return False
    if origin is dict:
        return takes_number(inside[1])
    if origin is Annotated or origin in (Union, UnionType):
        return any(map(takes_number, inside[:1] if origin is Annotated else inside))
    return annotation in (int, float)


FIELDS = dict(pair for section in (Recipe, GridConfig, *METHODS.values()) for pair in numbers(section))


def test_there_are_all_the_numbers_that_one_thinks_of() -> None:
    known = "Recipe.seed TrainConfig.batch_size LoraConfig.r JudgeConfig.repeats GenerateConfig.max_tokens"
    assert {*known.split(), "GridConfig.processes", "TaskConfig.counterfactuals", "KdConfig.gold_weight"} < {*FIELDS}


@pytest.mark.parametrize("name", FIELDS)
def test_every_number_of_a_recipe_has_a_bound(name: str) -> None:
    field = FIELDS[name]
    takes = TypeAdapter(Annotated[field.annotation, field])
    with pytest.raises(ValidationError, match="less than"):
        takes.validate_python({"x": BEYOND} if get_origin(field.annotation) is dict else BEYOND)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("seed=-1", "seed: Input should be greater than or equal to 0"),
        ("seed=100000000000000000000000", "seed: Input should be less than or equal to 4294967295"),
        ("teacher.seed=-1", "teacher.seed: Input should be greater"),
        ("distil.batch_size=1000000000000", "distil.batch_size: Input should be less than or equal to 1048576"),
        ("student.sft={lora: {r: 1000000}}", "student.sft.lora.r: Input should be less than or equal to 16384"),
        ("student={model: m, init: fresh, config: {num_hidden_layers: 100000000000}}", "num_hidden_layers: no archi"),
        (f"seed={'9' * 6000}", "is not valid YAML"),
        (f"data={'[' * 50_000}", "is not valid YAML"),
        ("a." * 3000 + "b=1", "has 3,001 parts"),
    ],
)
def test_what_nobody_can_mean_is_named_in_a_line(override: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_recipe({}, [override])
    assert words in caught.value.message
    assert len(caught.value.message) < 300


def test_a_bound_holds_for_the_levels_of_an_axis() -> None:
    with pytest.raises(ConfigError, match="axis seed, level -1: seed: Input should be greater"):
        parse_grid({"axes": {"seed": [0, -1]}})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: " + "[" * 50_000, r":1: not valid YAML: nested more than 64 levels deep"),
        ("name: x\ndata: " + "[" * 50_000 + "]" * 50_000, r":2: not valid YAML: nested more than 64"),
        ("data: " + "{a: " * 5_000, "nested more than 64"),
        ("seed: " + "9" * 6000, ":1: not valid YAML: Exceeds the limit"),
        ("seed: 2020-13-45", ":1: not valid YAML: month must be in 1..12"),
        ("? [a]\n: b", ":1: not valid YAML: a key is a list or a mapping"),
    ],
)
def test_a_recipe_that_yaml_itself_chokes_on_is_a_bad_recipe(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=words):
        load_recipe(path)


def test_a_field_of_the_judge_is_read_like_a_recipe() -> None:
    for judge in (f"repeats={'[' * 50_000}", f"repeats={'9' * 6000}", "repeats=1000000000000"):
        with pytest.raises(ConfigError):
            CompareOptions(judge=["model=m", judge]).config([])
