"""Drives a grid: finds the stages that are missing, hands them to an engine, and goes on around what fails."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from understudy.errors import RunError
from understudy.grid.engines import engine_for
from understudy.grid.folder import GridFolder
from understudy.grid.jobs import Engine, Job
from understudy.grid.table import write_table
from understudy.grid.units import CellRun, Unit, cell_runs, cell_stages, missing, units
from understudy.pipeline.kinds import first_stages
from understudy.pipeline.preflight import check_lengths, check_trackers
from understudy.pipeline.scheduler import ready
from understudy.pipeline.set_aside import ask_again
from understudy.pipeline.stage import Stage
from understudy.recipe import Grid


class Events(Protocol):
    """What is told of the progress of a grid: the console of the command line, or nothing."""

    def planned(self, units: int, missing: int) -> None:
        """So many stages there are, and so many have to be run."""

    def started(self, unit: Unit) -> None:
        """A stage begins, or waits for its place on the cluster."""

    def progress(self, id: str, done: int, total: int, note: str) -> None:
        """A stage has come so far."""

    def finished(self, unit: Unit, seconds: float) -> None:
        """A stage is done."""

    def failed(self, unit: Unit, error: Exception) -> None:
        """A stage failed, and with it the cells that need it."""


@dataclass
class _GridRun:
    """A grid at work."""

    grid: Grid
    folder: GridFolder
    cells: Sequence[CellRun]
    contents: Mapping[str, str]
    events: Events
    engine: Engine | None = None
    failed: dict[str, Exception] = field(default_factory=dict)

    def units(self, stages_of: Callable[[CellRun], Sequence[Stage]]) -> dict[str, Unit]:
        """The stages of the cells that have not failed, the run folders linked to them."""
        cells = [cell for cell in self.cells if cell.name not in self.failed]
        all_units = units(cells, self.contents, processes=self.grid.config.processes, stages_of=stages_of)
        for cell in cells:
            self.folder.link(cell, all_units)
        return all_units

    def run(self, all_units: Mapping[str, Unit]) -> None:
        """Run what is missing of some stages."""
        waiting = missing(all_units, lambda unit: self.folder.is_current(unit, all_units))
        self.events.planned(len(all_units), len(waiting))
        if waiting and self.engine is None:
            self.engine = engine_for(self.grid.config, self.grid.workers, self.events.progress)
        running: dict[str, Unit] = {}
        while waiting or running:
            assert self.engine is not None
            running_stages = [unit.schedulable for unit in running.values()]
            startable = ready([unit.schedulable for unit in waiting], running_stages, self.engine.capacity)
            for unit in [unit for unit in waiting if unit.schedulable in startable]:
                waiting.remove(unit)
                running[unit.id] = unit
                self.events.started(unit)
                self.engine.submit(self._job(unit))
            for outcome in self.engine.wait():
                unit = running.pop(outcome.id)
                if outcome.error is None:
                    self.events.finished(unit, self.seconds(unit))
                else:
                    self._fail(unit, outcome.error)
                    waiting = [unit for unit in waiting if not self.failed.keys() >= set(unit.users)]

    def seconds(self, unit: Unit) -> float:
        """What a finished stage took."""
        record = self.folder.record(unit.name, unit.id, unit.host.name)
        return record.seconds if record else 0.0

    def _job(self, unit: Unit) -> Job:
        config = self.grid.config
        processes = config.processes if unit.stage.distributed else 1
        return Job(
            id=unit.id,
            stage=unit.stage,
            recipe=unit.host.recipe,
            folder=unit.host.run.folder.absolute(),
            grid=self.folder.path.absolute(),
            cwd=Path.cwd(),
            exclusive=unit.stage.exclusive,
            processes=processes,
            launcher=config.launcher,
        )

    def _fail(self, unit: Unit, error: Exception) -> None:
        """All cells that share the stage have no result; stages that only they need are not run."""
        self.events.failed(unit, error)
        for user in unit.users:
            if user not in self.failed:
                self.failed[user] = error
                self.folder.fail(user, unit.name, error)


def run_grid(grid: Grid, events: Events, *, retry: bool = False, without: Collection[str] = ()) -> GridFolder:
    """Run whatever is missing of a grid; a cell that fails is written down, and the rest goes on.

    Args:
        grid: what to run.
        events: told of each stage that begins, ends or fails.
        retry: ask teachers that write texts again about the examples that were set aside.
        without: kinds of stages that are left out, and that no other needs: a cell without `report` is in no table.

    Returns:
        The grid's folder, with `table.csv` and `table.json` of the cells that are finished.

    Raises:
        RunError: cells failed, or what the grid was made from has changed.
    """
    cells = cell_runs(grid)
    for cell in cells[:1]:
        check_trackers(cell.recipe)
    for cell in cells:
        check_lengths(cell.recipe)
    folder = GridFolder(grid.folder)
    with folder.lock():
        contents = folder.contents(cells)
        folder.prepare(grid, cells)
        for cell in cells if retry else ():
            ask_again(cell.run)
        work = _GridRun(grid, folder, cells, contents, events)
        folder.write_plan(grid, cells, units(cells, contents, processes=grid.config.processes))
        try:
            work.run(work.units(lambda cell: first_stages(cell.recipe)))
            # Only now is it known which cells have questions without answers, and so which stages there are.
            folder.write_plan(grid, cells, units(cells, contents, processes=grid.config.processes))
            work.run(work.units(lambda cell: [stage for stage in cell_stages(cell) if stage.kind not in without]))
        finally:
            if work.engine is not None:
                work.engine.close()
        write_table(folder.path)
    if work.failed:
        raise RunError(
            f"{len(work.failed)} of {len(cells)} cells failed",
            hint=f"`understudy grid status {folder.path}` says why; the same command tries them again",
        )
    return folder
