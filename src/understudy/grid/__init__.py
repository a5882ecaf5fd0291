"""Grids: every cell of a recipe with axes, stages that several cells share run once.

```text
recipe/grid.py   axes -> cells (whole recipes)
identity.py      stage + the fields it reads + what it is made from -> a key
folder.py        the grid's folder: cells/ are run folders, stages/ what they share
drive.py         which stages are missing, in which order; failures
job.py           one stage, wherever it runs
engines.py       who runs jobs: local.py (processes of this machine), cluster.py (Ray)
status.py  table.py   what there is so far, from files alone
analysis.py           means over seeds, effects of the axes, cell against cell
findings.py           the telecom study's findings, each with its test
```

Nothing here loads torch before a stage runs.
"""

from understudy.grid.folder import GridFolder
from understudy.grid.run_grid import Events, run_grid
from understudy.grid.status import CellStatus, grid_status
from understudy.grid.table import TableRow, grid_table, write_table
from understudy.grid.units import CellRun, cell_runs, plan_of

__all__ = [
    "CellRun",
    "CellStatus",
    "Events",
    "GridFolder",
    "TableRow",
    "cell_runs",
    "grid_status",
    "grid_table",
    "plan_of",
    "run_grid",
    "write_table",
]
