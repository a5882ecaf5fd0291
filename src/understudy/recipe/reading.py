"""Recipes as text: YAML in, `key=value` on top, YAML out. Every fault is named in one line."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError
from yaml.composer import ComposerError

from understudy.errors import ConfigError, did_you_mean, listed
from understudy.files import read_text
from understudy.recipe import fields, methods
from understudy.recipe.own_arms import for_arm
from understudy.recipe.recipe import Recipe


def load_recipe(
    path: str | os.PathLike[str], overrides: Sequence[str] = (), *, extensions: Path | None = None
) -> Recipe:
    """Read a recipe and apply `key=value` overrides (`distil.steps=100`, values in YAML).

    Args:
        path: the YAML file.
        overrides: applied one after the other.
        extensions: a folder with copies of the recipe's extensions, which are run in their place.

    Raises:
        ConfigError: no such recipe, no YAML, an unknown key (the nearest known one is named) or a bad value.
    """
    return parse_recipe(load_yaml(path), overrides, origin=str(path), extensions=extensions)


def load_recorded(path: str | os.PathLike[str], *, extensions: Path | None = None) -> Recipe:
    """Read the recipe that a run wrote down, an earlier version of this package perhaps.

    There was a time when the options of all methods were written and those of one read: the others are left out.

    Raises:
        ConfigError: see `load_recipe`.
    """
    value = load_yaml(path)
    distil = value.get("distil")
    if isinstance(distil, dict) and distil.get("method", methods.DEFAULT) in methods.METHODS:
        value = {**value, "distil": methods.options_of_method(distil, recorded=True)}
    return parse_recipe(value, origin=str(path), extensions=extensions)


def load_yaml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the mapping in a YAML file.

    Raises:
        ConfigError: the file is absent or holds no mapping.
    """
    if not Path(path).is_file():
        raise ConfigError(
            f"no such recipe: {path}",
            hint="`understudy recipes` lists the shipped ones, `understudy init` writes one",
        )
    try:
        value = parse_yaml(read_text(path))
    except yaml.YAMLError as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = f"{path}:{line + 1}" if line is not None else str(path)
        raise ConfigError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise ConfigError(f"{path} holds a {type(value).__name__}, not a mapping of recipe fields")
    return value


def parse_recipe(
    value: dict[str, Any],
    overrides: Sequence[str] = (),
    *,
    origin: str = "recipe",
    extensions: Path | None = None,
) -> Recipe:
    """Validate a mapping, with overrides on top; arguments as in `load_recipe`.

    Raises:
        ConfigError: an unknown key, a missing one or a bad value; every fault is named in one line.
    """
    if "axes" in value:
        raise ConfigError(f"{origin} has axes: it is a grid, not one run", hint="`understudy run` takes it as it is")
    for text in overrides:
        value = override(value, text)
    try:
        recipe = Recipe.model_validate(value, context={"extensions": extensions})
    except ValidationError as error:
        faults = [describe(fault, value) for fault in error.errors()]
        raise ConfigError(
            f"{origin}: {_named(faults)}",
            hint="`understudy init --full` writes a recipe with every field explained",
        ) from error
    for arm in recipe.arms:
        try:
            for_arm(recipe, arm)
        except ValidationError as error:
            faults = [describe(fault, value) for fault in error.errors()]
            raise ConfigError(f"{origin}: arms.{arm}: {_named(faults)}") from error
    return recipe


def _named(faults: Sequence[str]) -> str:
    return listed(faults, separator="; ", longest=1000)


def override(value: dict[str, Any], text: str, *, whole: Sequence[str] = ()) -> dict[str, Any]:
    """A mapping with one `key=value` on top.

    Args:
        value: the mapping; it stays as it is.
        text: the override.
        whole: first parts behind which the rest of the key is one name, dots and all.

    Raises:
        ConfigError: it has no `=`, or its value is not YAML.
    """
    key, sign, value_text = text.partition("=")
    if not sign or not key:
        raise ConfigError(
            f"cannot read the override {text!r}",
            hint="write it as key=value, for example distil.steps=100",
        )
    if key.count(".") > MAX_DEPTH:
        raise ConfigError(f"the override {key[:40]}… has {key.count('.') + 1:,} parts: there is no such field")
    try:
        new = parse_yaml(value_text)
    except yaml.YAMLError as error:
        raise ConfigError(f"the value of the override {_shortened(text)!r} is not valid YAML") from error
    return fields.set_at(value, key.split(".", 1) if key.partition(".")[0] in whole else key.split("."), new)


def _shortened(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:200]}…"


MAX_DEPTH = 64
"""Levels of lists and mappings within each other; a recipe with arms has five."""


class _Loader(yaml.SafeLoader):
    """YAML in which 5e-4 is a number, as people and YAML 1.2 mean it, and a key that stands twice is refused."""

    def __init__(self, stream: Any) -> None:
        """Read a text."""
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """A node with all that is in it.

        Raises:
            yaml.YAMLError: it is nested deeper than any recipe; Python would run out of stack.
        """
        if self._depth > MAX_DEPTH:
            mark = self.peek_event().start_mark
            raise ComposerError(problem=f"nested more than {MAX_DEPTH} levels deep", problem_mark=mark)
        self._depth += 1
        try:
            return super().compose_node(parent, index)
        finally:
            self._depth -= 1

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        """The value of a node.

        Raises:
            yaml.YAMLError: it only looks like a value: the 13th month, a number of 5,000 digits.
        """
        try:
            return super().construct_object(node, deep)
        except (ValueError, OverflowError) as error:
            raise yaml.constructor.ConstructorError(problem=str(error), problem_mark=node.start_mark) from error

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node.

        Raises:
            yaml.YAMLError: a key stands twice.
        """
        keys = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(
                    problem="a key is a list or a mapping", problem_mark=key.start_mark
                )
            if key.value in keys:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {key.value!r} stands twice", problem_mark=key.start_mark
                )
            keys.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def parse_yaml(text: str) -> Any:
    """The value of a text in YAML, as recipes are read.

    Raises:
        yaml.YAMLError: it is none, or nested deeper than any recipe.
    """
    return yaml.load(text, _Loader)  # a SafeLoader: plain values only


def describe(fault: Any, value: dict[str, Any]) -> str:
    """One fault of a validation in a line: where it is, and what is wrong there.

    Args:
        fault: one of `ValidationError.errors()`.
        value: the mapping that was validated.
    """
    path = ".".join(str(part) for part in fault["loc"]) or "the recipe"
    if fault["type"] != "extra_forbidden":
        message = fault["msg"].removeprefix("Value error, ")
        return f"{path}: {message}" if fault["loc"] else message
    *above, last = (str(part) for part in fault["loc"])
    known = list(fields.fields_of(fields.section_at(".".join(above)) or Recipe))
    if above == ["distil"] and (reason := methods.why_foreign(value["distil"].get("method", methods.DEFAULT), last)):
        return f"{path} {reason}"
    return f"unknown key `{path}`: {did_you_mean(last, known)}"


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML, every field written out."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
