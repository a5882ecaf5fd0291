"""The folder of a grid.

```text
runs/NAME/
  grid.yaml                  as it was run last
  plan.json                  cells: levels, run folder, stages; what `grid status` and `grid table` go by
  sources.json               fingerprints of the files and folders that the recipe names
  cells/NAME-1a2b3c4d/       one run folder a cell; stages that may be shared are links, scores and report its own
  stages/STAGE-KEY/          the stages, each named by what it is made from
  rows/KEY/                  the splits that the stage `data` wrote
  working/                   locks, and how far the stages at work have come
  table.csv  table.json
```

A stage belongs to the grid, not to a cell: removing a cell's folder removes links. `cp -RL` copies a run folder whole.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import yaml

from understudy.errors import ConfigError, RunError, UnderstudyError, listed
from understudy.files import PART, atomic, is_locked, locked, read_json, write_json
from understudy.grid import stage_keys
from understudy.grid.records import CellFailure, GridPlan, PlannedCell, StageProgress
from understudy.grid.units import CellRun, Unit, unshared_id
from understudy.pipeline.kinds import is_shared
from understudy.recipe import Grid
from understudy.records import StageRecord
from understudy.run import DONE

FAILED, PLAN = "failed.json", "plan.json"


class GridFolder:
    """A grid on disk.

    Args:
        path: where it stands.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cells, self.stages, self.rows = path / "cells", path / "stages", path / "rows"
        self.working = path / "working"

    @classmethod
    def open(cls, path: Path) -> GridFolder:
        """An existing one.

        Raises:
            ConfigError: there is none at `path`.
        """
        if not (path / PLAN).is_file():
            raise ConfigError(f"{path} is no grid's folder", hint="`understudy run GRID` makes one")
        return cls(path)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep a second driver out; the lock dies with the process that holds it.

        Raises:
            RunError: somebody else works here, or the folder cannot be written.
        """
        busy = RunError(
            f"another process is working on {self.path}",
            hint="`understudy grid status` shows how far it is; or give this grid another name",
        )
        # Whoever asks whether a grid is driven holds its lock for a moment; a driver holds it for long.
        with locked(self.working / "grid.lock", busy, patience=3):
            yield

    def is_driven(self) -> bool:
        """Whether some process drives this grid now."""
        return is_locked(self.working / "grid.lock")

    # -- before anything runs ------------------------------------------------------------------------------------

    def prepare(self, grid: Grid, cells: Iterable[CellRun]) -> None:
        """Write down what is run; sweep away what killed processes left half-written, and the failures of last time."""
        left_over = [part for folder in (self.stages, self.rows, self.working) for part in folder.rglob(f"*{PART}")]
        for part in (*left_over, *self.path.glob(f"*{PART}")):
            shutil.rmtree(part, ignore_errors=True) if part.is_dir() else part.unlink(missing_ok=True)
        text = yaml.safe_dump(dict(grid.source), sort_keys=False, allow_unicode=True, width=110)
        target = self.path / "grid.yaml"
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            with atomic(target) as handle:
                handle.write(text)
        for cell in cells:
            cell.run.prepare(cell.recipe)
            (cell.run.folder / FAILED).unlink(missing_ok=True)

    def contents(self, cells: Iterable[CellRun], *, write: bool = True) -> dict[str, str]:
        """Fingerprints of everything the cells name; what is gone keeps the fingerprint it had.

        Raises:
            RunError: something is no longer what stages of this grid were made from.
        """
        path = self.path / "sources.json"
        recorded: dict[str, str] = read_json(path) if path.is_file() else {}
        names = sorted({name for cell in cells for name in stage_keys.files_of(cell.recipe)})
        current = {name: content for name in names if (content := stage_keys.contents_of(name)) is not None}
        changed = [name for name in names if name in current and recorded.get(name, current[name]) != current[name]]
        if changed:
            raise RunError(
                f"{listed(changed, longest=1000)} changed since this grid was begun",
                hint=f"give the grid another name, or remove {self.path}",
            )
        if write and current.items() - recorded.items():
            write_json(path, {**recorded, **current})
        return {**recorded, **current}

    def link(self, cell: CellRun, units: Mapping[str, Unit]) -> None:
        """Let a run folder point to the stages that it shares."""
        for unit in units.values():
            if cell.name in unit.users and is_shared(unit.stage):
                _link(self.stages / unit.id, cell.run.stage(unit.name))
                if unit.stage.kind == "data":
                    _link(self.rows / unit.id, cell.run.folder / "data")

    def write_plan(self, grid: Grid, cells: Iterable[CellRun], units: Mapping[str, Unit]) -> None:
        """Write `plan.json`: whoever looks from outside needs nothing else."""
        stages: dict[str, dict[str, str]] = {}
        for unit in units.values():
            for user in unit.users:
                stages.setdefault(user, {})[unit.name] = unit.id
        by_levels = {_key(levels): cell for cell in cells for levels in cell.levels}
        planned_cells = []
        for planned in grid.cells:
            cell = by_levels[_key(planned.levels)]
            planned_cells.append(PlannedCell(planned.levels, cell.recipe.seed, cell.name, stages[cell.name]))
        plan = GridPlan(grid.name, tuple(grid.axes), tuple(planned_cells)).to_json()
        path = self.path / PLAN
        if not path.is_file() or read_json(path) != plan:
            write_json(path, plan)

    @property
    def plan(self) -> GridPlan:
        """The cells, as they were written down when the grid was run last."""
        return GridPlan.from_json(read_json(self.path / PLAN))

    # -- what is there -------------------------------------------------------------------------------------------

    def stage_folder(self, stage: str, id: str, run: str) -> Path:
        """The folder of a stage: among the shared ones, or in its own run."""
        return self.cells / run / "stages" / stage if id == unshared_id(stage, run) else self.stages / id

    def record(self, stage: str, id: str, run: str) -> StageRecord | None:
        """What a finished stage says of itself; None if it is not finished."""
        path = self.stage_folder(stage, id, run) / DONE
        try:
            return StageRecord.from_json(read_json(path)) if path.is_file() else None
        except FileNotFoundError:
            return None

    def is_current(self, unit: Unit, units: Mapping[str, Unit]) -> bool:
        """Whether a stage is done, and what it was made from has not been made anew since."""
        record = self.record(unit.name, unit.id, unit.host.name)
        if record is None:
            return False
        needs = (units[id] for id in unit.needs)
        records = {need.name: self.record(need.name, need.id, unit.host.name) for need in needs}
        versions = {name: need.version if need else None for name, need in records.items()}
        return None not in versions.values() and record.input_versions == versions

    # -- failures ------------------------------------------------------------------------------------------------

    def fail(self, run: str, stage: str, error: Exception) -> None:
        """Write down why a cell has no result this time."""
        failure = CellFailure(stage, getattr(error, "message", str(error)), getattr(error, "hint", ""))
        write_json(self.cells / run / FAILED, failure.to_json())

    def failure(self, run: str) -> CellFailure | None:
        """Why a cell has no result; None where nothing failed."""
        path = self.cells / run / FAILED
        return CellFailure.from_json(read_json(path)) if path.is_file() else None

    # -- who is at work ------------------------------------------------------------------------------------------

    @contextmanager
    def working_on(self, id: str) -> Iterator[ProgressFile]:
        """Hold a stage: nobody else writes its folder meanwhile, not even a process that is about to be ended."""
        with locked(self.working / f"{id}.lock"):
            progress = ProgressFile(self.working / f"{id}.json")
            try:
                progress(0, 0, "")
                yield progress
            finally:
                progress.path.unlink(missing_ok=True)

    def at_work(self, id: str) -> StageProgress | None:
        """How far a stage has come, if somebody works on it now."""
        if not is_locked(self.working / f"{id}.lock"):
            return None
        try:
            return StageProgress.from_json(read_json(self.working / f"{id}.json"))
        except UnderstudyError:  # it ended, or begins, just now
            return StageProgress()


class ProgressFile:
    """Writes how far a stage has come into a file, at most once a second.

    Args:
        path: the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.begin = time.time()
        self.last = 0.0

    def __call__(self, done: int, total: int, note: str) -> None:
        """`done` of `total`."""
        now = time.time()
        if now - self.last >= 1.0:
            self.last = now
            seconds = round(now - self.begin, 1)
            progress = StageProgress(done, total, note, seconds, os.uname().nodename, os.getpid())
            write_json(self.path, progress.to_json())


def _key(levels: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(levels.items())


def _link(target: Path, name: Path) -> None:
    """Make `name` a link to `target`, relative, so that the grid's folder can be moved."""
    target.mkdir(parents=True, exist_ok=True)
    name.parent.mkdir(parents=True, exist_ok=True)
    relative = os.path.relpath(target, name.parent)
    if name.is_symlink():
        if os.readlink(name) == relative:
            return
        name.unlink()
    elif name.exists():
        raise RunError(f"{name} is not a link to a shared stage", hint="remove it, then run the same command again")
    name.symlink_to(relative)
