"""The table of a grid: cells × metrics, in a fixed order and without times, so that two grids compare byte by byte."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from understudy.arms import ARMS
from understudy.files import atomic, read_json, read_text
from understudy.grid.costs import RunCost, cost_of
from understudy.grid.folder import GridFolder
from understudy.grid.records import PlannedCell
from understudy.run import Run

COST_COLUMNS = ("training_tokens", "input_tokens", "output_tokens", "flops")
"""Columns of sessions: tokens trained on, read and written in all answers, operations of both."""


@dataclass(frozen=True)
class TableRow:
    """One arm of one finished cell.

    Attributes:
        levels: axis → label.
        seed: of the cell's recipe.
        arm: whose answers were scored.
        metrics: metric → value over all held-out items, on its own scale; None where it could not be measured.
        run: the cell's run folder.
        predictions: its answers, one JSON line an item; None for the majority baseline.
        maxima: metric → its maximum: 1 or 100.
        cost: what the arm took, where the rows are sessions.
    """

    levels: Mapping[str, str]
    seed: int
    arm: str
    metrics: Mapping[str, float | None]
    run: Path
    predictions: Path | None
    maxima: Mapping[str, float] = field(default_factory=dict)
    cost: RunCost | None = None

    def points(self, metric: str) -> float | None:
        """A metric's value on 0 to 100."""
        value = self.metrics.get(metric)
        return None if value is None else 100 * value / self.maxima[metric]


def grid_table(path: Path, arms: Sequence[str] | None = None) -> list[TableRow]:
    """The rows of all finished cells, in the order of the cells and of `ARMS`.

    Args:
        path: the grid's folder.
        arms: which arms; None for all.

    Raises:
        ConfigError: no grid's folder.
    """
    folder, rows = GridFolder.open(path), []
    scores: dict[str, Mapping[str, Any] | None] = {}
    for cell in folder.plan.cells:
        run = folder.cells / cell.run
        if cell.run not in scores:
            scores[cell.run] = _scores(folder, cell)
        figures = scores[cell.run]
        if figures is None:
            continue
        table, maxima = figures["overall"]["table"], {name: m["maximum"] for name, m in figures["metrics"].items()}
        for arm in sorted(table, key=arm_order):
            if arms is not None and arm not in arms:
                continue
            metrics = {name: interval["value"] for name, interval in table[arm].items()}
            answers = Run(run).predictions_path(arm)
            predictions = answers if arm not in ARMS or ARMS[arm].model else None
            cost = cost_of(run, arm) if any(name.startswith("bundle_") for name in metrics) else None
            rows.append(TableRow(cell.levels, cell.seed, arm, metrics, run, predictions, maxima, cost))
    return rows


def arm_order(arm: str) -> tuple[int, bool]:
    """Where an arm stands among others: as declared, one of a recipe's own before what no model answers for."""
    names = list(ARMS)
    model = arm not in ARMS or ARMS[arm].model is not None
    return (names.index(arm) if arm in ARMS and model else len(names), not model)


def unfinished(path: Path) -> list[Mapping[str, str]]:
    """The levels of cells that have no scores yet."""
    folder = GridFolder.open(path)
    return [cell.levels for cell in folder.plan.cells if _scores(folder, cell) is None]


def _scores(folder: GridFolder, cell: PlannedCell) -> Mapping[str, Any] | None:
    """The comparison of a cell's arms; None where the cell is not finished."""
    run = folder.cells / cell.run
    if folder.record("report", cell.stages["report"], cell.run) is None:
        return None
    return read_json(run / "scores.json")


def as_json(path: Path, arms: Sequence[str] | None = None) -> dict[str, Any]:
    """The table as plain values; paths are relative to the grid's folder."""
    plan, rows = GridFolder.open(path).plan, grid_table(path, arms)
    return {
        "name": plan.name,
        "axes": list(plan.axes),
        "metrics": _metrics(rows),
        "rows": [
            {
                "levels": dict(row.levels),
                "seed": row.seed,
                "arm": row.arm,
                "metrics": dict(row.metrics),
                "run": str(row.run.relative_to(path)),
                **({"cost": dict(zip(COST_COLUMNS, _counts(row), strict=True))} if row.cost else {}),
            }
            for row in rows
        ],
        "unfinished": unfinished(path),
    }


def as_csv(path: Path, arms: Sequence[str] | None = None) -> str:
    """The table as CSV: the axes, the seed where it is no axis, the arm, the metrics, the run folder's name."""
    plan, rows = GridFolder.open(path).plan, grid_table(path, arms)
    axes, metrics = plan.axes, _metrics(rows)
    seed = [] if "seed" in axes else ["seed"]
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    costs = COST_COLUMNS if any(row.cost for row in rows) else ()
    writer.writerow([*axes, *seed, "arm", *metrics, *costs, "run"])
    for row in rows:
        values = [row.metrics.get(name) for name in metrics]
        cells = ["" if value is None else repr(float(value)) for value in values]
        cells += [] if not costs else ["" if count is None else repr(count) for count in _counts(row)]
        writer.writerow(
            [*(row.levels[axis] for axis in axes), *([row.seed] if seed else []), row.arm, *cells, row.run.name]
        )
    return out.getvalue()


def write_table(path: Path, out: Path | None = None, arms: Sequence[str] | None = None) -> tuple[Path, Path]:
    """Write `table.csv` and `table.json`, into the grid's folder or elsewhere; what is the same already is left."""
    target = out or path
    texts = {"table.csv": as_csv(path, arms)}
    texts["table.json"] = json.dumps(as_json(path, arms), indent=2, ensure_ascii=False) + "\n"
    for name, text in texts.items():
        if not (target / name).is_file() or read_text(target / name) != text:
            with atomic(target / name) as handle:
                handle.write(text)
    return target / "table.csv", target / "table.json"


def _counts(row: TableRow) -> list[float | None]:
    """The costs that two runs of one grid share to the last digit: counts, no times."""
    if row.cost is None:
        return [None] * len(COST_COLUMNS)
    answers = row.cost.answers
    return [row.cost.training_tokens, answers.input_tokens, answers.output_tokens, row.cost.flops]


def _metrics(rows: Sequence[TableRow]) -> list[str]:
    """Every metric that some row has, in the order of the first that has it."""
    return list(dict.fromkeys(name for row in rows for name in row.metrics))
