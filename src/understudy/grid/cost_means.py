"""Costs of a grid's cells beside what they reached: means over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean

from understudy.arms import ARMS, constrained, free_of
from understudy.grid.means import SEED, cell_of
from understudy.grid.table import TableRow
from understudy.report.grid_inputs import CostFigures


def figures_of(row: TableRow) -> CostFigures | None:
    """What one run's arm reached and took; None where that is not known."""
    if row.cost is None:
        return None
    cost = row.cost.answers
    return CostFigures(
        arm=free_of(row.arm)[0],
        levels={axis: label for axis, label in row.levels.items() if axis != SEED},
        seeds=1,
        quality={name: value for name, value in row.metrics.items() if value is not None},
        training_tokens=row.cost.training_tokens,
        input_tokens=cost.input_tokens / cost.rows,
        output_tokens=cost.output_tokens / cost.rows,
        flops=row.cost.flops,
        seconds=cost.seconds / cost.rows,
        memory_mb=cost.peak_memory_mb,
        money=cost.money,
    )


def cell_costs(rows: Sequence[TableRow], arm: str) -> list[CostFigures]:
    """The costs of cells, means over seeds; then those of the arms that no axis trains, each once."""
    groups: dict[tuple[str, ...], list[CostFigures]] = {}
    for row in rows:
        own, reference = row.arm == arm or row.arm == constrained(arm), _is_reference(row)
        cost = figures_of(row) if own or reference else None
        if cost is not None:
            stage = str(row.predictions.parent.resolve()) if row.predictions else ""
            key = (arm, *cell_of(row)) if own else (row.arm, stage)
            groups.setdefault(key, []).append(cost)
    means = {key: mean_cost(costs) for key, costs in groups.items()}
    references: dict[str, list[CostFigures]] = {}
    for key, cost in means.items():
        if key[0] != arm:
            references.setdefault(key[0], []).append(cost)
    return [c for key, c in means.items() if key[0] == arm] + [
        mean_cost(costs, levels={}) for costs in references.values()
    ]


def _is_reference(row: TableRow) -> bool:
    return row.arm in ARMS and not ARMS[row.arm].trained


def mean_cost(costs: Sequence[CostFigures], levels: Mapping[str, str] | None = None) -> CostFigures:
    """The mean of each figure over runs that all have it."""

    def over(name: str) -> float | None:
        values = [getattr(cost, name) for cost in costs]
        return None if None in values else mean(values)

    names = [name for name in costs[0].quality if all(name in cost.quality for cost in costs)]
    return CostFigures(
        arm=costs[0].arm,
        levels=costs[0].levels if levels is None else levels,
        seeds=len(costs),
        quality={name: mean(cost.quality[name] for cost in costs) for name in names},
        training_tokens=over("training_tokens") or 0.0,
        input_tokens=over("input_tokens") or 0.0,
        output_tokens=over("output_tokens") or 0.0,
        flops=over("flops"),
        seconds=over("seconds") or 0.0,
        memory_mb=over("memory_mb"),
        money=over("money"),
    )
