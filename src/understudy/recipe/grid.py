"""A recipe with axes: a factorial experiment as one file.

```yaml
axes:
  teacher.sft: [false, true]                       # any field by its path; a section is switched off and on
  teacher:                                         # levels with names, each setting several fields
    same_vocab: {teacher.model: models/teacher-a}
    other_vocab: {teacher.model: models/teacher-b}
  distil.method: [kd, dskd]
  pretrain: [none, teacher, student, both]         # teacher.pretrain and student.pretrain, off and on
  seed: [0, 1, 2]
exclude:                                           # cells that make no sense
  - {pretrain: both, seed: [1, 2]}
where:                                             # what certain cells need besides
  - {if: {teacher: other_vocab, distil.method: kd}, set: {distil.method: min_edit}}
```

A cell is one level of each axis. What it gives is a whole recipe, so it runs, resumes and is named like any other.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from understudy import bounds
from understudy.errors import ConfigError, listed, shortened
from understudy.recipe import fields
from understudy.recipe.endpoint import Section
from understudy.recipe.reading import describe, load_yaml, override, parse_recipe
from understudy.recipe.recipe import Recipe

PRETRAIN = "pretrain"
_SIDES = {"none": (False, False), "teacher": (True, False), "student": (False, True), "both": (True, True)}
SHARED_FIELDS = ("name", "output", "workers", "report_to", "device")
"""Fields that change no result: all cells of a grid share them."""
GRID_SECTIONS = ("axes", "exclude", "where", "grid")


class GridConfig(Section):
    """How the cells of a grid are computed; nothing here but `processes` can change a result."""

    engine: Literal["local", "ray"] = "local"
    """local: processes on this machine, `workers` at once; ray: a Ray cluster (extra `understudy-distil[ray]`)."""
    address: str = "auto"
    """Address of the Ray cluster; auto: the running one, local: one of its own on this machine."""
    cpus: float = Field(default=1.0, ge=0, le=bounds.PROCESSES)
    """Processors that Ray sets aside for a stage; also the threads that torch uses there."""
    gpus: float = Field(default=0.0, ge=0, le=bounds.PROCESSES)
    """GPUs that Ray sets aside for a stage; several with `processes`."""
    resources: dict[str, Annotated[float, Field(ge=0, le=bounds.MONEY)]] = Field(default_factory=dict)
    """Further resources of the Ray cluster that a stage needs, for example `{a100: 1}`."""
    retries: int = Field(default=3, ge=0, le=bounds.RETRIES)
    """How often Ray starts a stage again whose node or process was lost; errors of the stage itself are not retried."""
    processes: int = Field(default=1, gt=0, le=bounds.PROCESSES)
    """Processes of one training stage (data parallel); the effective batch is `batch_size` times this."""
    launcher: str = "torchrun --standalone --nproc-per-node {processes}"
    """What starts them, for example `accelerate launch --config_file fsdp.yaml --num_processes {processes}`."""


@dataclass(frozen=True)
class Level:
    """One setting of an axis: its label, and the fields that it sets."""

    label: str
    fields: Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """One level of each axis (axis → label), and the recipe that this is."""

    levels: Mapping[str, str]
    recipe: Recipe


@dataclass(frozen=True)
class Grid:
    """A recipe with axes.

    Attributes:
        name: of the recipe.
        config: how it is computed.
        axes: axis → its levels.
        cells: in the order of the axes, the last one changing fastest.
        excluded: how many combinations were left out.
        source: the mapping as it was read, for the record.
    """

    name: str
    config: GridConfig
    axes: Mapping[str, tuple[Level, ...]]
    cells: tuple[Cell, ...]
    excluded: int = 0
    source: Mapping[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where everything of the grid goes: the output folder of its recipe, with its name."""
        return Path(self.source.get("output", "runs")).expanduser() / self.name

    @property
    def workers(self) -> int:
        """Stages that run side by side on one machine."""
        return self.cells[0].recipe.workers


def load_grid(path: str | os.PathLike[str], overrides: Sequence[str] = ()) -> Grid:
    """Read a recipe with axes; `axes.NAME=[…]` and `grid.FIELD=…` can be overridden like any field.

    Raises:
        ConfigError: the axis, the level and what is wrong with it, in one line.
    """
    return parse_grid(load_yaml(path), overrides, origin=str(path))


def is_grid(value: Mapping[str, Any]) -> bool:
    """Whether the mapping of a recipe has axes."""
    return "axes" in value


def parse_grid(value: dict[str, Any], overrides: Sequence[str] = (), *, origin: str = "recipe") -> Grid:
    """Validate a mapping with axes, every cell of it, and give the cells.

    Raises:
        ConfigError: see `load_grid`.
    """
    for text in overrides:
        value = override(value, text, whole=("axes",))
    grid_sections = {name: value[name] for name in GRID_SECTIONS if value.get(name) is not None}
    base = {name: inner for name, inner in value.items() if name not in GRID_SECTIONS}
    axes = _axes(grid_sections.get("axes", {}), origin)
    exclude = _conditions(grid_sections.get("exclude", []), axes, f"{origin}: exclude")
    where = _rules(grid_sections.get("where", []), axes, f"{origin}: where")
    config = _config(grid_sections.get("grid", {}), origin)
    _check_levels(base, axes, origin)
    cells, excluded = [], 0
    for levels in _product(axes):
        labels = {name: level.label for name, level in levels.items()}
        if any(_holds(condition, labels) for condition in exclude):
            excluded += 1
            continue
        mapping = _with_changes(base, [level.fields for level in levels.values()])
        mapping = _with_changes(mapping, [changes for condition, changes in where if _holds(condition, labels)])
        cells.append(Cell(labels, parse_recipe(mapping, origin=f"{origin}: the cell {in_words(labels)}")))
    if not cells:
        raise ConfigError(f"{origin}: every cell is excluded", hint="exclude names too much, or axes too little")
    return Grid(cells[0].recipe.name, config, axes, tuple(cells), excluded, {**base, **grid_sections})


def in_words(labels: Mapping[str, str]) -> str:
    """The levels of a cell in one line."""
    return ", ".join(f"{axis} {label}" for axis, label in labels.items())


# -- axes ------------------------------------------------------------------------------------------------------------


def _axes(value: Any, origin: str) -> dict[str, tuple[Level, ...]]:
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"{origin}: axes: no axis is named", hint="for example `axes: {seed: [0, 1, 2]}`")
    axes = {}
    for name, levels in value.items():
        axes[str(name)] = parsed_levels = _levels(str(name), levels, f"{origin}: axis {name}")
        labels = [level.label for level in parsed_levels]
        duplicate = next((label for label in labels if labels.count(label) > 1), None)
        if duplicate is not None:
            raise ConfigError(f"{origin}: axis {name}: the level {duplicate} stands twice")
    for axis, other_axis in itertools.combinations(axes, 2):
        for path, other_path in itertools.product(_paths(axes[axis]), _paths(axes[other_axis])):
            if f"{path}.".startswith(f"{other_path}.") or f"{other_path}.".startswith(f"{path}."):
                raise ConfigError(
                    f"{origin}: the axes {axis} and {other_axis} both set {max(path, other_path, key=len)}"
                )
    return axes


def _paths(levels: Sequence[Level]) -> list[str]:
    return sorted({path for level in levels for path in level.fields})


def _levels(name: str, value: Any, where: str) -> tuple[Level, ...]:
    """The levels of an axis: a list of values of the field it is named after, or a mapping of named levels."""
    if not isinstance(value, list | dict) or not value:
        raise ConfigError(f"{where}: its levels must be a list of values, or a mapping of names to fields")
    if isinstance(value, dict):
        for label, changes in value.items():
            if not isinstance(changes, dict):
                raise ConfigError(f"{where}, level {label}: a named level is a mapping of fields to values")
            _check_paths(changes, f"{where}, level {label}")
        return tuple(Level(str(label), changes) for label, changes in value.items())
    if name == PRETRAIN:
        return tuple(_pretrain(level, where) for level in value)
    _check_paths({name: None}, where)
    return tuple(Level(_label(level), {name: level}) for level in value)


def _pretrain(level: Any, where: str) -> Level:
    sides = _SIDES.get("none" if level is None else level)
    if sides is None:
        raise ConfigError(f"{where}, level {level}: pretrain knows {', '.join(_SIDES)}")
    on = dict(zip(("teacher", "student"), sides, strict=True))
    return Level(str(level or "none"), {f"{side}.pretrain": switched for side, switched in on.items()})


def _label(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _check_paths(changes: Mapping[str, Any], where: str) -> None:
    for path in changes:
        if path in SHARED_FIELDS:
            raise ConfigError(f"{where}: all cells have one and the same {path}: it changes no result")
        if not fields.is_known(str(path)):
            near = fields.nearest(str(path))
            advice = f"did you mean `{near}`?" if near else "`understudy init --full` writes all of them"
            raise ConfigError(f"{where}: unknown field `{path}`: {advice}")


def _check_levels(base: dict[str, Any], axes: Mapping[str, tuple[Level, ...]], origin: str) -> None:
    """Blame a bad value on its own axis and level: each level once, all other axes at their first."""
    first_levels = {name: levels[0] for name, levels in axes.items()}
    for name, levels in axes.items():
        for level in levels:
            mapping = _with_changes(base, [chosen.fields for chosen in {**first_levels, name: level}.values()])
            for path in level.fields:
                _check_value(mapping, path, f"{origin}: axis {name}, level {level.label}")


def _check_value(mapping: dict[str, Any], path: str, where: str) -> None:
    try:
        Recipe.model_validate(mapping)
    except ValidationError as error:
        for fault in error.errors():
            at = ".".join(str(part) for part in fault["loc"])
            # An option that the first method lacks may belong to that of another level: the cells tell.
            foreign = fault["type"] == "extra_forbidden" and fields.is_known(at)
            if (at == path or at.startswith(f"{path}.")) and not foreign:
                need = " (it needs settings of its own in the recipe)" if fault["type"] == "missing" else ""
                raise ConfigError(f"{where}: {describe(fault, mapping)}{need}") from error


def _with_changes(base: dict[str, Any], changes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    for mapping in changes:
        for path, value in mapping.items():
            base = fields.put(base, path, value)
    return base


def _product(axes: Mapping[str, tuple[Level, ...]]) -> Iterator[dict[str, Level]]:
    for levels in itertools.product(*axes.values()):
        yield dict(zip(axes, levels, strict=True))


# -- exclude and where -----------------------------------------------------------------------------------------------

Condition = Mapping[str, tuple[str, ...]]


def _conditions(value: Any, axes: Mapping[str, tuple[Level, ...]], where: str) -> list[Condition]:
    if not isinstance(value, list):
        raise ConfigError(f"{where} must be a list of conditions such as {{{next(iter(axes))}: …}}")
    return [_condition(item, axes, where) for item in value]


def _condition(value: Any, axes: Mapping[str, tuple[Level, ...]], where: str) -> Condition:
    if not isinstance(value, dict) or not value:
        raise ConfigError(f"{where}: a condition is a mapping of axes to levels, not {shortened(repr(value))}")
    condition = {}
    for name, labels in value.items():
        if name not in axes:
            raise ConfigError(f"{where}: there is no axis {name!r}: known here: {listed(axes)}")
        required = tuple(_label(label) for label in (labels if isinstance(labels, list) else [labels]))
        known = [level.label for level in axes[name]]
        unknown_label = next((label for label in required if label not in known), None)
        if unknown_label is not None:
            raise ConfigError(f"{where}: the axis {name} has no level {unknown_label}: known here: {listed(known)}")
        condition[name] = required
    return condition


def _rules(value: Any, axes: Mapping[str, tuple[Level, ...]], where: str) -> list[tuple[Condition, Mapping[str, Any]]]:
    if not isinstance(value, list):
        raise ConfigError(f"{where} must be a list of rules such as {{if: {{…}}, set: {{…}}}}")
    rules = []
    for rule in value:
        if not isinstance(rule, dict) or rule.keys() != {"if", "set"} or not isinstance(rule["set"], dict):
            raise ConfigError(f"{where}: a rule has the two keys `if` and `set`, each a mapping")
        _check_paths(rule["set"], where)
        rules.append((_condition(rule["if"], axes, where), rule["set"]))
    return rules


def _holds(condition: Condition, labels: Mapping[str, str]) -> bool:
    return all(labels[axis] in wanted for axis, wanted in condition.items())


def _config(value: Any, origin: str) -> GridConfig:
    try:
        return GridConfig.model_validate(value)
    except ValidationError as error:
        faults = [f"grid.{'.'.join(map(str, fault['loc']))}: {fault['msg']}" for fault in error.errors()]
        known = ", ".join(GridConfig.model_fields)
        raise ConfigError(
            f"{origin}: {listed(faults, separator='; ', longest=1000)}", hint=f"known under grid: {known}"
        ) from error
