from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import ConfigError
from understudy.recipe import METHODS, load_recipe, parse_recipe
from understudy.recipe.shipped import find_recipe
from understudy.tuning.space import Choice, Range, applied, read_axis, space_of, taken


@pytest.fixture
def recipe():
    return load_recipe(find_recipe("telecom_qa"))


@pytest.mark.parametrize(
    ("text", "axis"),
    [
        ("distil.method=kd,dskd", Choice("distil.method", ("kd", "dskd"))),
        ("distil.gold_weight=0..0.9", Range("distil.gold_weight", 0.0, 0.9)),
        ("distil.learning_rate=1e-4..1e-2:log", Range("distil.learning_rate", 1e-4, 1e-2, log=True)),
        ("distil.steps=100..400", Range("distil.steps", 100.0, 400.0, whole=True)),
        ("student.from_teacher.layers=2,4", Choice("student.from_teacher.layers", (2, 4))),
    ],
)
def test_axes_are_read_as_they_are_written(text: str, axis: Choice | Range) -> None:
    assert read_axis(text) == axis


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("distil.metod=kd", "did you mean `distil.method`"),
        ("distil.method", "no values"),
        ("distil.gold_weight=0.9..0.1", "the first below the second"),
        ("distil.gold_weight=0..1:log", "ends above 0"),
        ("distil.gold_weight=a..b", "could not convert"),
        ("distil.gold_weight=0..1:cubic", "the first below the second"),
    ],
)
def test_what_is_no_axis_is_named_with_what_to_write(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as fault:
        read_axis(text)
    assert said in f"{fault.value} {fault.value.hint}"


def test_an_axis_of_its_own_replaces_the_default_and_methods_are_those_of_the_recipes_kind(recipe) -> None:
    space = {axis.path: axis for axis in space_of(recipe, [read_axis("distil.loss_temperature=1")])}
    assert space["distil.method"] == Choice("distil.method", ("kd", "dskd"))
    assert space["distil.loss_temperature"] == Choice("distil.loss_temperature", (1,))
    assert space["distil.learning_rate"] == Range("distil.learning_rate", 2e-4, 5e-3, log=True)
    with pytest.raises(ConfigError, match="none of the methods kd, dskd has this option"):
        space_of(recipe, [read_axis("distil.merge=observed,bayesian")])


def test_an_option_of_some_methods_is_searched_for_these_alone(recipe) -> None:
    axes = [read_axis("distil.method=min_edit,uld,byte_aligned"), read_axis("distil.merge=observed,bayesian")]
    space = {axis.path: axis for axis in space_of(recipe, axes)}
    assert space["distil.merge"].methods == ("byte_aligned",)
    assert space["distil.divergence"].methods == ("min_edit", "byte_aligned")
    divergence = space["distil.divergence"]
    assert isinstance(divergence, Choice)
    assert "reverse_kl" not in taken(divergence, "min_edit")
    assert set(taken(divergence, "byte_aligned")) == {"forward_kl", "reverse_kl", "js"}


@given(data=st.data())
def test_whatever_is_drawn_from_the_default_space_is_a_recipe(data: st.DataObject) -> None:
    recipe = load_recipe(find_recipe("telecom_qa"))
    axes = [read_axis(f"distil.method={','.join(METHODS)}")]
    settings: dict[str, Any] = {"distil.method": data.draw(st.sampled_from(sorted(METHODS)))}
    for axis in space_of(recipe, axes):
        if axis.methods and settings["distil.method"] not in axis.methods:
            continue
        if isinstance(axis, Range):
            settings[axis.path] = data.draw(st.floats(axis.low, axis.high))
        elif axis.path != "distil.method":
            settings[axis.path] = data.draw(st.sampled_from(taken(axis, settings["distil.method"])))
    parsed = parse_recipe(applied(recipe.model_dump(mode="json"), settings))
    for path, value in settings.items():
        assert getattr(parsed.distil, path.removeprefix("distil.")) == value
