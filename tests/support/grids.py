"""A grid of four runs on the tiny models of `conftest`, and what its tests look at."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.house import House
from understudy.grid import CellStatus, grid_status

# Two names for one cell: eight cells are four runs.
TWICE = {"one": {"distil.gold_weight": 0.5}, "same": {"distil.gold_weight": 0.5}}
AXES = {"teacher.sft": [False, True], "distil.method": ["kd", "dskd"], "twice": TWICE}


def make_grid(house: House) -> House:
    """Turn a house's recipe into a grid."""
    house.recipe |= {"name": "grid", "axes": AXES, "workers": 2}
    house.recipe["evaluate"] |= {"arms": ["sft", "distilled"], "speed": False}
    house.write_recipe("grid.yaml")
    return house


def folder_of(house: House, output: str = "runs") -> Path:
    """Where the grid stands."""
    return house.folder / output / "grid"


def done(folder: Path) -> list[str]:
    """Stages that are finished, by their ids."""
    found = [*folder.glob("stages/*/done.json"), *folder.glob("cells/*/stages/report/done.json")]
    return sorted(str(path.parent.relative_to(folder)) for path in found)


def tables(folder: Path) -> tuple[bytes, bytes]:
    """The two tables as they stand on the disk."""
    return (folder / "table.csv").read_bytes(), (folder / "table.json").read_bytes()


def at_work(folder: Path) -> list[CellStatus]:
    """Cells of which some stage is being run right now."""
    return [cell for cell in grid_status(folder) if cell.state == "running"] if (folder / "plan.json").is_file() else []


def copy_of(finished: House, into: Path) -> House:
    """The same grid, finished, under another folder, with the same data and models, free to be damaged."""
    house = House(into, finished.models)
    house.recipe = {**finished.recipe, "output": str(into / "runs")}
    shutil.copytree(finished.folder / "runs", into / "runs", symlinks=True)
    house.write_recipe("grid.yaml")
    return house
