"""Means over seeds: of the cells of a grid, and of what stands beside them without being trained by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import mean, stdev

from understudy.arms import ARMS
from understudy.grid.table import TableRow, arm_order
from understudy.report.grid_inputs import CellFigures, ReferenceFigures, SeedMean

SEED = "seed"
_DATA = "data"


def cell_of(row: TableRow) -> tuple[str, ...]:
    """A run's levels without its seed."""
    return tuple(label for axis, label in row.levels.items() if axis != SEED)


def cell_figures(rows: Sequence[TableRow], metrics: Sequence[str], confidence: float) -> list[CellFigures]:
    """Each cell: levels, seeds, and metric → mean over seeds with Student's interval; no interval for one seed.

    mean ± t(n − 1) · s / √n. The seeds are all that this interval knows of: the questions are held fixed.
    """
    members_of: dict[tuple[str, ...], list[TableRow]] = {}
    for row in rows:
        members_of.setdefault(cell_of(row), []).append(row)
    cells = []
    for members in members_of.values():
        levels = {axis: label for axis, label in members[0].levels.items() if axis != SEED}
        figures = seed_means(members, metrics, confidence)
        cells.append(CellFigures(levels, tuple(row.seed for row in members), figures))
    return cells


def seed_means(rows: Sequence[TableRow], metrics: Sequence[str], confidence: float) -> dict[str, SeedMean]:
    """Metric → mean over the rows that have it, with Student's interval; a metric that none has is left out."""
    from scipy.stats import t

    figures = {}
    for metric in metrics:
        values = [value for row in rows if (value := row.metrics.get(metric)) is not None]
        if not values:
            continue
        average, n = mean(values), len(values)
        spread = stdev(values) if n > 1 else None
        reach = None if spread is None else float(t.ppf((1 + confidence) / 2, n - 1)) * spread / math.sqrt(n)
        bounds = (None, None) if reach is None else (average - reach, average + reach)
        figures[metric] = SeedMean(n, average, spread, *bounds, tuple(values))
    return figures


def reference_figures(rows: Sequence[TableRow], metrics: Sequence[str], confidence: float) -> list[ReferenceFigures]:
    """Teacher, student before training and baselines: each once for all cells whose answers are one and the same.

    Args:
        rows: of all arms; those of arms that a run trains are passed over.
        metrics: which to show.
        confidence: of Student's interval over seeds.
    """
    references = []
    for arm in sorted({row.arm for row in rows if row.arm in ARMS and not ARMS[row.arm].trained}, key=arm_order):
        rows_of_arm = [row for row in rows if row.arm == arm]
        axes = _telling_axes(rows_of_arm)
        members_of: dict[tuple[str, ...], dict[Path, TableRow]] = {}
        for row in rows_of_arm:
            members_of.setdefault(tuple(row.levels[axis] for axis in axes), {}).setdefault(_origin(row), row)
        for labels, members in members_of.items():
            seeds, figures = tuple(row.seed for row in members.values()), list(members.values())
            levels = dict(zip(axes, labels, strict=True))
            references.append(ReferenceFigures(arm, levels, seeds, seed_means(figures, metrics, confidence)))
    return references


def _telling_axes(rows: Sequence[TableRow]) -> list[str]:
    """The axes that an arm's answers depend on: without any of them, cells of one seed would differ."""
    axes = [axis for axis in rows[0].levels if axis != SEED]
    for axis in tuple(axes):
        rest = [other for other in axes if other != axis]
        origins: dict[tuple[str | int, ...], set[Path]] = {}
        for row in rows:
            origins.setdefault((row.seed, *(row.levels[other] for other in rest)), set()).add(_origin(row))
        if all(len(found) == 1 for found in origins.values()):
            axes = rest
    return axes


def _origin(row: TableRow) -> Path:
    """The stage that a row's answers come from, which cells of a grid share: of a baseline, that of the data."""
    stage = row.run / "stages" / _DATA if row.predictions is None else row.predictions.parent
    return stage.resolve()
