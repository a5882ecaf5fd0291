"""From cells to stages: each cell's run, and the stages of all of them, those that agree only once."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from understudy.errors import RunError
from understudy.grid import stage_keys
from understudy.pipeline.kinds import stages
from understudy.pipeline.stage import Stage
from understudy.recipe import Grid, Recipe
from understudy.records import DataNotes
from understudy.run import Run


@dataclass(frozen=True)
class CellRun:
    """A run of the grid; cells of different levels that come to the same recipe are one run.

    Attributes:
        run: its folder.
        recipe: what it runs.
        levels: axis → label, once for each cell that comes to this.
    """

    run: Run
    recipe: Recipe
    levels: tuple[Mapping[str, str], ...]

    @property
    def name(self) -> str:
        """The run folder's name."""
        return self.run.folder.name


@dataclass
class Unit:
    """A stage that is run once, for all runs that share it.

    Attributes:
        id: stage and key.
        stage: the stage as the run folder calls it, with what it is made from.
        needs: ids of the units that it is made from.
        host: the run in whose folder it is computed.
        users: names of the runs that it belongs to.
    """

    id: str
    stage: Stage
    needs: tuple[str, ...]
    host: CellRun
    users: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The stage's own name."""
        return self.stage.name

    @property
    def schedulable(self) -> Stage:
        """The stage under the ids of units, as `scheduler.ready` compares them: two runs have stages of one name."""
        return dataclasses.replace(self.stage, name=self.id, needs=self.needs)


def cell_runs(grid: Grid) -> list[CellRun]:
    """The runs of a grid, in the order of its cells."""
    output = grid.folder / "cells"
    runs: dict[str, CellRun] = {}
    for cell in grid.cells:
        recipe = cell.recipe.model_copy(update={"output": str(output), "name": grid.name})
        run = Run.of(recipe)
        earlier = runs.get(run.folder.name)
        levels = (*(earlier.levels if earlier else ()), cell.levels)
        runs[run.folder.name] = CellRun(run, recipe, levels)
    return list(runs.values())


def cell_stages(cell: CellRun) -> list[Stage]:
    """The stages of a cell; until its data are read, unlabelled questions are taken to be there."""
    try:
        unlabelled = cell.run.notes("data", DataNotes).has_unlabelled if cell.run.is_done("data") else True
    except (KeyError, RunError):
        unlabelled = True
    return stages(cell.recipe, unlabelled=unlabelled)


def unit_id(stage: str, key: str | None, cell: CellRun) -> str:
    """The id of a stage: with its key where it may be shared, else with the run's own name."""
    return f"{stage}-{key}" if key else unshared_id(stage, cell.name)


def unshared_id(stage: str, run: str) -> str:
    """The id of a stage that a run shares with no other."""
    return f"{stage}-of-{run}"


def units(
    cells: Iterable[CellRun],
    contents: Mapping[str, str],
    *,
    processes: int = 1,
    stages_of: Callable[[CellRun], Sequence[Stage]] = cell_stages,
) -> dict[str, Unit]:
    """The stages of all cells by id, each once; in the order of the cells, so that the first cells end first."""
    all_units: dict[str, Unit] = {}
    for cell in cells:
        stages_of_cell = stages_of(cell)
        keys = stage_keys.keys(cell.recipe, stages_of_cell, contents, processes=processes)
        ids = {stage.name: unit_id(stage.name, keys.get(stage.name), cell) for stage in stages_of_cell}
        for stage in stages_of_cell:
            id = ids[stage.name]
            if id not in all_units:
                all_units[id] = Unit(id, stage, tuple(ids[need] for need in stage.needs), cell)
            all_units[id].users.append(cell.name)
    return all_units


def missing(all_units: Mapping[str, Unit], is_current: Callable[[Unit], bool]) -> list[Unit]:
    """The units that are not done, or that need one that is about to be done again."""
    pending: dict[str, Unit] = {}
    for unit in all_units.values():
        if not pending.keys().isdisjoint(unit.needs) or not is_current(unit):
            pending[unit.id] = unit
    return list(pending.values())
