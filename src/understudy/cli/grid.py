"""`understudy grid status`, `table` and `report`; a grid itself is run by `understudy run`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from understudy import bounds

if TYPE_CHECKING:
    from rich.table import Table

    from understudy.grid import CellStatus
    from understudy.grid.records import StageProgress
    from understudy.grid.units import Unit
    from understudy.recipe import Grid

app = typer.Typer(help="Look at a grid: how far it is, and what came out.", no_args_is_help=True)

GridArgument = Annotated[str, typer.Argument(metavar="GRID", help="A grid's folder, or its recipe.")]
Watch = Annotated[bool, typer.Option("--watch", "-w", help="Show it anew until nothing runs any more; Ctrl-C ends.")]
TableArm = Annotated[str, typer.Option("--arm", help="Which arm to show and write, or `all`.")]
TableFolder = Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Where table.csv and table.json go.")]
ReportPage = Annotated[Path | None, typer.Option("--out", metavar="FILE.html", help="Where the page goes.")]
ReportArm = Annotated[str | None, typer.Option("--arm", help="Whose answers. Default: distilled, or explained.")]
Resamples = Annotated[
    int, typer.Option("--resamples", min=100, max=bounds.RESAMPLES, help="Resamples of the paired tests.")
]
CostOption = Annotated[
    Literal["flops", "tokens", "seconds", "memory", "money"],
    typer.Option("--cost", help="Of sessions: what quality is drawn against."),
]
HEADERS = {
    "bundle_f1": "bundle F1",
    "exact_match": "exact",
    "token_f1": "F1",
    "rougeL": "ROUGE-L",
    "choice_accuracy": "choice",
}
COLOURS = {"done": "green", "failed": "red", "running": "cyan", "waiting": "dim"}


@app.command("status")
def status(grid: GridArgument, watch: Watch = False) -> None:
    """Cells, stages at work, seconds, scores and errors, read from the files of the grid."""
    from rich.console import Console
    from rich.live import Live

    from understudy.grid import GridFolder, grid_status

    folder, console = folder_of(grid), Console(highlight=False, markup=False, emoji=False)
    cells = grid_status(folder)
    if watch and console.is_terminal:
        with Live(_status(cells), console=console, auto_refresh=False) as live:
            while GridFolder(folder).is_driven():
                time.sleep(2)
                cells = grid_status(folder)
                live.update(_status(cells), refresh=True)
    else:
        console.print(_status(cells))
    for cell in cells:
        if cell.error:
            console.print(_line(f"{_levels_text(cell.levels)}: {cell.error}"), soft_wrap=True)


@app.command("table")
def table(grid: GridArgument, arm: TableArm = "all", out: TableFolder = None) -> None:
    """Cells × metrics of what is finished, on the screen and as table.csv and table.json."""
    from understudy.grid import write_table

    folder = folder_of(grid)
    arms = None if arm == "all" else [arm]
    _print_table(folder, arms)
    typer.echo("table: " + ", ".join(map(str, write_table(folder, out, arms))))


@app.command("report")
def report(
    grid: GridArgument,
    out: ReportPage = None,
    arm: ReportArm = None,
    resamples: Resamples = 10_000,
    cost: CostOption = "flops",
) -> None:
    """Means over seeds, which axis mattered, cell against cell: a page, and report.json and report.csv beside it."""
    from understudy.files import atomic, write_json
    from understudy.grid.analysis import analyse
    from understudy.metrics.significance import Resampling
    from understudy.report.grid_page import grid_csv, grid_headline, render_grid

    folder = folder_of(grid)
    analysis, page = analyse(folder, arm=arm, resampling=Resampling(resamples)), out or folder / "report.html"
    render_grid(analysis, page, cost=cost)
    write_json(page.with_suffix(".json"), analysis.to_dict())
    with atomic(page.with_suffix(".csv")) as handle:
        handle.write(grid_csv(analysis))
    for sentence in grid_headline(analysis).sentences:
        typer.echo(_line(sentence).plain)
    typer.echo(f"report: {page}, {page.with_suffix('.json').name}, {page.with_suffix('.csv').name}")


def _print_table(folder: Path, arms: list[str] | None) -> None:
    from rich.console import Console
    from rich.table import Table

    from understudy.grid import grid_table
    from understudy.grid.table import unfinished
    from understudy.report.formatting import arm_label, number

    rows, waiting_cells = grid_table(folder, arms), unfinished(folder)
    names = list(dict.fromkeys(name for row in rows for name in row.metrics))
    table = Table(title="held-out items, 0 to 100", title_justify="left", box=None, pad_edge=False)
    for title in [*(rows[0].levels if rows else ()), "arm"]:
        table.add_column(_line(title), overflow="fold")
    for name in names:
        table.add_column(_line(HEADERS.get(name, name)), justify="right", overflow="fold")
    costly = any(row.cost for row in rows)
    if costly:
        table.add_column("FLOPs", justify="right")
    for row in rows:
        cells = [number(row.points(name)) for name in names]
        cells += [f"{row.cost.flops:.2e}" if row.cost and row.cost.flops else "–"] if costly else []
        table.add_row(*map(_line, (*row.levels.values(), arm_label(row.arm), *cells)))
    Console(highlight=False, markup=False, emoji=False).print(table)
    if waiting_cells:
        typer.echo(f"{len(waiting_cells)} cells are not finished: understudy grid status {folder}")


def folder_of(grid: str) -> Path:
    """The folder of a grid that is named by its folder or its recipe."""
    from understudy.recipe import load_grid
    from understudy.recipe.shipped import find_recipe

    return Path(grid) if Path(grid).is_dir() else load_grid(find_recipe(grid)).folder


def _status(cells: list[CellStatus]) -> Table:
    from rich.table import Table
    from rich.text import Text

    from understudy.report.formatting import metric_label, number

    states = [cell.state for cell in cells]
    counts = ", ".join(f"{states.count(state)} {state}" for state in COLOURS if state in states)
    metric = next((f"{metric_label(cell.metric)}, 0 to 100" for cell in cells if cell.metric), "score")
    table = Table(title=f"{len(cells)} cells: {counts}", title_justify="left", box=None, pad_edge=False)
    for title in cells[0].levels:
        table.add_column(_line(title))
    for title in ("state", "stages", "at work", "seconds", metric):
        table.add_column(title, justify="left" if title in ("state", "at work") else "right")
    for cell in cells:
        work = "; ".join(_progress_text(stage, progress) for stage, progress in cell.stages.items())
        score = "" if cell.score is None else number(cell.score)
        figures = (f"{cell.done}/{cell.total}", work, f"{cell.seconds:.0f}", score)
        table.add_row(*map(_line, cell.levels.values()), Text(cell.state, COLOURS[cell.state]), *map(_line, figures))
    return table


def _progress_text(stage: str, progress: StageProgress) -> str:
    count = f" {progress.done}/{progress.total}" if progress.total else ""
    return f"{stage}{count}{' ' + progress.note if progress.note else ''}"


def _line(text: str) -> Any:
    from rich.text import Text

    from understudy.cli import one_line

    return Text(one_line(text))


def _levels_text(levels: Any) -> str:
    return ", ".join(f"{axis} {label}" for axis, label in levels.items())


# -- `understudy run` with a grid --------------------------------------------------------------------------------------


class GridConsole:
    """Shows what a grid does: a line for each stage that begins, ends or fails."""

    def __init__(self) -> None:
        from rich.console import Console

        self.console = Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        self.done = self.missing = 0

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(_line(text))

    def planned(self, units: int, missing: int) -> None:
        """See `Events`."""
        self.done, self.missing = 0, missing

    def started(self, unit: Unit) -> None:
        """See `Events`."""
        if self.console.is_terminal:
            self.say(f"  {_unit(unit)} …")

    def progress(self, id: str, done: int, total: int, note: str) -> None:
        """Progress is for `understudy grid status`."""

    def finished(self, unit: Unit, seconds: float) -> None:
        """See `Events`."""
        self.done += 1
        self.say(f"✓ {self.done}/{self.missing} {_unit(unit)} ({seconds:.0f} s)")

    def failed(self, unit: Unit, error: Exception) -> None:
        """See `Events`."""
        reason = getattr(error, "message", str(error).strip().splitlines()[-1] if str(error).strip() else repr(error))
        self.say(f"✗ {_unit(unit)}: {reason}")


def _unit(unit: Unit) -> str:
    from understudy.pipeline.kinds import title

    users = len(unit.users)
    cells_text = f"for {users} cells" if users > 1 else _levels_text(unit.host.levels[0])
    return f"{title(unit.stage)} · {cells_text}"


def run(grid: Grid, *, retry: bool = False) -> None:
    """Run a grid and show its table."""
    from understudy.arms import main_arm
    from understudy.grid import run_grid

    console = GridConsole()
    console.say(f"grid folder: {grid.folder} ({len(grid.cells)} cells; understudy grid status {grid.folder})")
    folder = run_grid(grid, console, retry=retry)
    _print_table(folder.path, list({main_arm(cell.recipe.evaluate.arms) for cell in grid.cells}))
    console.say(f"table of all arms: {folder.path / 'table.csv'}")


def show_plan(grid: Grid) -> None:
    """The cells of a grid, the stages that several of them share, and what is there already; runs nothing."""
    from understudy.grid import GridFolder, cell_runs
    from understudy.grid.units import missing, units

    cells, folder = cell_runs(grid), GridFolder(grid.folder)
    all_units = units(cells, folder.contents(cells, write=False), processes=grid.config.processes)
    pending = {unit.id for unit in missing(all_units, lambda unit: folder.is_current(unit, all_units))}
    left_out = f", {grid.excluded} excluded" if grid.excluded else ""
    typer.echo(f"{len(grid.cells)} cells{left_out}, {len(cells)} runs under {folder.cells}")
    for cell in cells:
        cell_units = [unit for unit in all_units.values() if cell.name in unit.users]
        num_present = sum(unit.id not in pending for unit in cell_units)
        for levels in cell.levels:
            typer.echo(f"  {_levels_text(levels)}: {cell.name}, {num_present} of {len(cell_units)} stages are there")
    typer.echo("stages that several runs share:")
    for unit in all_units.values():
        if len(unit.users) > 1:
            typer.echo(f"  {unit.id}: {len(unit.users)} runs, {'to be run' if unit.id in pending else 'there'}")
    num_separate = sum(len(unit.users) for unit in all_units.values())
    typer.echo(f"{len(all_units)} stages instead of {num_separate}; {len(pending)} have to be run")
