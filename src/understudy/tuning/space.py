"""What is searched: fields of a recipe and the values that each may take.

```text
distil.method=kd,dskd               one of these
distil.gold_weight=0..0.9           a number between
distil.learning_rate=1e-4..3e-3:log a number between, as likely in each decade
student.from_teacher.layers=2..6    a whole number, where both ends are whole and written without a point
```
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from understudy.errors import ConfigError, unknown
from understudy.recipe import METHODS, Recipe, fields
from understudy.recipe.methods import DivergenceConfig, options_of_method, owners
from understudy.recipe.reading import parse_yaml

METHOD, DIVERGENCE = "distil.method", "distil.divergence"
TEMPERATURES = (1.0, 1.5, 2.0, 4.0)
DIVERGENCES = ("forward_kl", "reverse_kl", "js", "skew_forward_kl", "adaptive_kl", "total_variation")
RATE_SPAN = 5.0
"""The learning rate is searched from a fifth of the recipe's to five times it."""


@dataclass(frozen=True)
class Choice:
    """A field that takes one of several values.

    Attributes:
        path: of the field.
        values: what it may be.
        methods: the methods that have it; empty: all.
    """

    path: str
    values: tuple[Any, ...]
    methods: tuple[str, ...] = ()

    def words(self) -> str:
        """What it may be, to be read."""
        return ", ".join(map(str, self.values))


@dataclass(frozen=True)
class Range:
    """A field that takes a number between two.

    Attributes:
        path: of the field.
        low: the least.
        high: the largest.
        log: whether each decade is as likely.
        whole: whether it is a whole number.
        methods: the methods that have it; empty: all.
    """

    path: str
    low: float
    high: float
    log: bool = False
    whole: bool = False
    methods: tuple[str, ...] = ()

    def words(self) -> str:
        """What it may be, to be read."""
        return f"{self.low:g} to {self.high:g}{', by its logarithm' if self.log else ''}"


Axis = Choice | Range


def read_axis(text: str) -> Axis:
    """An axis as it is written on the command line.

    Raises:
        ConfigError: no such field, no values, or ends that mean nothing.
    """
    path, equals, values = text.partition("=")
    if not equals or not values.strip():
        raise ConfigError(
            f"--over {text}: no values", hint="write FIELD=a,b,c or FIELD=0.1..0.9 or FIELD=1e-4..1e-2:log"
        )
    if not fields.is_known(path):
        raise unknown("field of a recipe", path, fields.known_paths(), hint="`understudy docs recipes` lists all")
    return _range(path, values) if ".." in values else Choice(path, tuple(map(parse_yaml, values.split(","))))


def _range(path: str, text: str) -> Range:
    ends, _, scale = text.partition(":")
    low, _, high = ends.partition("..")
    try:
        axis = Range(path, float(low), float(high), scale == "log", not {".", "e"} & set((low + high).lower()))
    except ValueError as error:
        raise ConfigError(f"--over {path}={text}: {error}", hint=f"write {path}=LOW..HIGH in numbers") from error
    if scale not in ("", "log") or not math.isfinite(axis.low + axis.high) or axis.low >= axis.high:
        raise ConfigError(
            f"--over {path}={text}: write LOW..HIGH, the first below the second, with `:log` or nothing behind"
        )
    if axis.log and axis.low <= 0:
        raise ConfigError(f"--over {path}={text}: a logarithm needs ends above 0")
    return axis


def space_of(recipe: Recipe, own: Sequence[Axis] = ()) -> tuple[Axis, ...]:
    """The axes of a search: one's own, and the defaults for what these do not name.

    Methods are by default those of the recipe's kind: of one vocabulary, or of two.

    Args:
        recipe: what is tuned.
        own: axes of one's own; one of a single value keeps a field as it is.

    Raises:
        ConfigError: the recipe distils nothing, or an axis fits none of the methods.
    """
    if recipe.distil is None:
        raise ConfigError(f"{recipe.name} has no section `distil`, so there is nothing to tune")
    methods = _methods(recipe.distil.method, own)
    named = {axis.path for axis in own}
    defaults = (
        Choice(METHOD, methods),
        Choice(DIVERGENCE, DIVERGENCES, _having("divergence", methods)),
        Choice("distil.loss_temperature", TEMPERATURES),
        Range("distil.gold_weight", 0.0, 0.9),
        Range("distil.learning_rate", *_rates(recipe), log=True),
    )
    own = tuple(_with_methods(axis, methods) for axis in own)
    return (*own, *(axis for axis in defaults if axis.path not in named))


def _methods(method: str, own: Sequence[Axis]) -> tuple[str, ...]:
    """The methods that are compared: those named, else those that take as many vocabularies as the recipe's."""
    for axis in own:
        if isinstance(axis, Choice) and axis.path == METHOD:
            names = tuple(map(str, axis.values))
            for name in names:
                if name not in METHODS:
                    raise unknown("method", name, METHODS)
            return names
    return tuple(n for n, kind in METHODS.items() if kind.one_vocabulary == METHODS[method].one_vocabulary)


def _having(option: str, methods: Sequence[str]) -> tuple[str, ...]:
    return tuple(name for name in methods if option in METHODS[name].model_fields)


def _with_methods(axis: Axis, methods: Sequence[str]) -> Axis:
    """An axis of a method's own option belongs to the methods that have it."""
    section, _, option = axis.path.partition(".")
    if section != "distil" or "." in option or axis.path == METHOD:
        return axis
    having = _having(option, methods)
    if not having:
        raise ConfigError(f"--over {axis.path}: none of the methods {', '.join(methods)} has this option")
    return axis if len(having) == len(methods) else dataclasses.replace(axis, methods=having)


def _rates(recipe: Recipe) -> tuple[float, float]:
    assert recipe.distil is not None
    rate = recipe.distil.learning_rate or 5e-4
    return rate / RATE_SPAN, rate * RATE_SPAN


def taken(axis: Choice, method: str) -> tuple[Any, ...]:
    """The values of an axis that a method can use: of the divergences not all can."""
    kind = METHODS[method]
    if axis.path != DIVERGENCE or not issubclass(kind, DivergenceConfig):
        return axis.values
    section = kind.model_construct()
    return tuple(value for value in axis.values if section.takes(value))


def applied(recipe: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping of a recipe with settings put in; options of other methods leave with their method."""
    value = dict(recipe)
    method = settings.get(METHOD)
    if method is not None:
        section = {
            name: old
            for name, old in value["distil"].items()
            if name in METHODS[method].model_fields or not owners(name)
        }
        value = {**value, "distil": options_of_method({**section, "method": method})}
    for path, new in settings.items():
        value = fields.set_at(value, path.split("."), new)
    return value
