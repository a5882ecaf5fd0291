"""How far a grid is, from its files alone: it may run on another machine, or have been killed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from understudy.arms import ARMS, main_arm
from understudy.files import read_json
from understudy.grid.folder import GridFolder
from understudy.grid.records import CellFailure, PlannedCell, StageProgress
from understudy.records import RunSummary, StageRecord
from understudy.report.formatting import scale

State = Literal["done", "running", "failed", "waiting"]


@dataclass(frozen=True)
class CellStatus:
    """How far a cell is.

    Attributes:
        levels: axis → label.
        run: its run folder.
        state: done, running (some stage of it is at work now), failed, or waiting.
        done: finished stages.
        total: all of its stages.
        stages: those at work now, stage → how far it is.
        seconds: what its finished stages took; a shared stage counts in each of its cells.
        metric: what `score` is.
        score: of the distilled student (else the last arm that there is), 0 to 100, once the cell is done.
        error: why it failed, with the stage.
    """

    levels: Mapping[str, str]
    run: Path
    state: State
    done: int
    total: int
    stages: Mapping[str, StageProgress]
    seconds: float
    metric: str = ""
    score: float | None = None
    error: str = ""


def grid_status(path: Path) -> list[CellStatus]:
    """The status of every cell, in the order of the cells.

    Raises:
        ConfigError: no grid's folder.
    """
    folder = GridFolder.open(path)
    records: dict[str, StageRecord | None] = {}
    at_work: dict[str, StageProgress | None] = {}
    return [_cell(folder, cell, records, at_work) for cell in folder.plan.cells]


def _cell(
    folder: GridFolder,
    cell: PlannedCell,
    records: dict[str, StageRecord | None],
    at_work: dict[str, StageProgress | None],
) -> CellStatus:
    """One cell; what was read of a shared stage is kept for the next one."""
    run = cell.run
    for stage, id in cell.stages.items():
        if id not in records:
            records[id] = folder.record(stage, id, run)
            at_work[id] = folder.at_work(id)
    ids = cell.stages
    done = [record for id in ids.values() if (record := records[id]) is not None]
    running = {stage: progress for stage, id in ids.items() if (progress := at_work[id]) is not None}
    failure = folder.failure(run)
    finished = records[ids["report"]] is not None and len(done) == len(ids)
    state = "done" if finished else "failed" if failure else "running" if running else "waiting"
    metric, score = _score(folder.cells / run) if finished else ("", None)
    return CellStatus(
        cell.levels,
        folder.cells / run,
        state,
        len(done),
        len(ids),
        running,
        sum(record.seconds for record in done),
        metric,
        score,
        _error(failure) if failure and not finished else "",
    )


def _error(failure: CellFailure) -> str:
    """Stage and error in one line; of a traceback, which `failed.json` has in full, the last one."""
    return f"{failure.stage}: {(failure.error.strip().splitlines() or ['no reason was given'])[-1]}"


def _score(run: Path) -> tuple[str, float | None]:
    summary = RunSummary.from_json(read_json(run / "summary.json"))
    arms, metrics = summary.arms, summary.metrics
    main = main_arm(arms)
    arm = main if main in arms else next(name for name in reversed(tuple(arms)) if name not in ARMS or ARMS[name].model)
    metric = metrics[0] if metrics else ""
    value = arms[arm].get(metric)
    return metric, None if value is None else value * scale(read_json(run / "scores.json"), metric)
