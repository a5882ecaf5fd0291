"""The files of a grid's folder as classes: `plan.json`, `failed.json`, and how far a stage has come."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from understudy.records.base import Record, list_of, parsed_by


@dataclass(frozen=True)
class PlannedCell(Record):
    """A cell as `plan.json` has it.

    Attributes:
        levels: axis → label.
        seed: of its recipe.
        run: name of its run folder; cells that come to the same recipe share one.
        stages: stage → id of the unit that it is.
    """

    levels: Mapping[str, str]
    seed: int
    run: str
    stages: Mapping[str, str]


@dataclass(frozen=True)
class GridPlan(Record):
    """`plan.json`: the cells of a grid and where their stages lie.

    Attributes:
        name: of the grid.
        axes: in their order.
        cells: in the order of the grid.
    """

    name: str
    axes: tuple[str, ...] = field(metadata=parsed_by(tuple))
    cells: tuple[PlannedCell, ...] = field(metadata=parsed_by(list_of(PlannedCell)))


@dataclass(frozen=True)
class CellFailure(Record):
    """`failed.json`: why a cell has no result.

    Attributes:
        stage: that failed.
        error: what went wrong; of a bug the whole traceback.
        hint: what to do about it, or empty.
    """

    stage: str
    error: str
    hint: str = ""


@dataclass(frozen=True)
class StageProgress(Record):
    """How far a stage is that is at work.

    Attributes:
        done: so much of it.
        total: of so much; 0 where that is not known.
        note: what is counted.
        seconds: since it began.
        machine: where it runs; empty where that is not known yet.
        process: its process id; 0 where that is not known yet.
    """

    done: int = 0
    total: int = 0
    note: str = ""
    seconds: float = 0.0
    machine: str = ""
    process: int = 0
