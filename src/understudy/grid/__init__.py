"""Grids: every cell of a recipe with axes, stages that several cells share run once.

```text
recipe/grid.py   axes -> cells (whole recipes)
units.py         cells -> their stages, those that agree only once
stage_keys.py    stage + the fields it reads + what it is made from -> a key
records.py       plan.json, failed.json and how far a stage is, as classes
folder.py        the grid's folder: cells/ are run folders, stages/ what they share
run_grid.py      which stages are missing, in which order; failures
run_job.py       one stage, wherever it runs; worker.py is what a launcher starts
engines.py       who runs jobs: local_engine.py (processes of this machine), ray_engine.py
status.py  table.py   what there is so far, from files alone
means.py              means over seeds, of the cells and of teacher and baselines beside them
analysis.py           effects of the axes, cell against cell, all that the report says
telecom_study.py      the telecom study's findings, each with its test
```

Nothing here loads torch before a stage runs.
"""

from understudy.grid.folder import GridFolder
from understudy.grid.run_grid import Events, run_grid
from understudy.grid.status import CellStatus, grid_status
from understudy.grid.table import TableRow, grid_table, write_table
from understudy.grid.units import CellRun, cell_runs, cell_stages

__all__ = [
    "CellRun",
    "CellStatus",
    "Events",
    "GridFolder",
    "TableRow",
    "cell_runs",
    "cell_stages",
    "grid_status",
    "grid_table",
    "run_grid",
    "write_table",
]
