"""Quality against cost: the cells that no other one beats in both, and the plot that shows them."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from matplotlib.figure import Figure

from understudy.report.formatting import arm_label, metric_label
from understudy.report.grid_inputs import CostFigures, GridAnalysis
from understudy.report.labels import Label
from understudy.report.svg import INK, legend, log_scale, style, svg

COSTS = {
    "flops": "total computation, FLOPs",
    "tokens": "tokens, trained on, read and written",
    "seconds": "seconds a session",
    "memory": "peak memory, MiB",
    "money": "money, all answers",
}
"""What a cost may be counted in."""
FORMULA = (
    "FLOPs = 6 × parameters × tokens trained on, over all steps and the student's own fine-tuning, "
    "+ 2 × parameters × tokens read and written in answering all test sessions; attention is left out, of adapters it "
    "is an upper bound, and what a teacher spent on writing the knowledge is not in it"
)
_COLOURS = ("#2b7fdb", "#dd8423", "#1f9d78", "#9a63d8", "#c4536f", "#7c8594")
_MARKERS = ("o", "s", "^", "D", "v", "P")


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points (cost, quality) that none dominates, the cheapest first.

    One dominates another that costs as much or less and is as good or better, in one of the two strictly. Of equal
    points all stay.
    """
    order = sorted(range(len(points)), key=lambda place: (points[place][0], -points[place][1]))
    kept: list[int] = []
    for place in order:
        cost, quality = points[place]
        if not kept or quality > points[kept[-1]][1] or (cost, quality) == points[kept[-1]]:
            kept.append(place)
    return kept


def cost_value(figures: CostFigures, cost: str, rows: int = 1) -> float | None:
    """A cell's cost by the name of `COSTS`; None where it was not measured.

    Args:
        figures: of the cell.
        cost: which.
        rows: sessions that were answered, for tokens.
    """
    if cost == "tokens":
        return figures.training_tokens + rows * (figures.input_tokens + figures.output_tokens)
    name = {"memory": "memory_mb"}.get(cost, cost)
    value = getattr(figures, name)
    return value if value is None or isfinite(value) else None


def measured(analysis: GridAnalysis, metric: str, cost: str) -> list[tuple[CostFigures, float, float]]:
    """The cells whose cost and quality are known, each with both; quality so that more is better, on 0 to 100."""
    facts = analysis.metrics[metric]
    sign = 100.0 / facts.maximum * (1 if facts.higher_is_better else -1)
    rows = [(one, cost_value(one, cost, analysis.rows), one.quality.get(metric)) for one in analysis.costs]
    return [(one, value, sign * quality) for one, value, quality in rows if value is not None and quality is not None]


def pareto_plot(analysis: GridAnalysis, metric: str, cost: str) -> str:
    """Cells as marks and the front as a line, with a legend; empty where fewer than two have both figures."""
    points = measured(analysis, metric, cost)
    if len(points) < 2:
        return ""
    groups = _groups(analysis, [one for one, _, _ in points])
    inks = {
        name: Label(name, _COLOURS[n % len(_COLOURS)], _MARKERS[n % len(_MARKERS)])
        for n, name in enumerate(dict.fromkeys(groups))
    }
    best = front([(value, quality) for _, value, quality in points])
    with style("pareto"):
        figure = Figure(figsize=(4.1, 3.1), layout="constrained")
        axes = figure.subplots()
        steps = [points[place][1:] for place in best]
        axes.plot([x for x, _ in steps], [y for _, y in steps], color=INK, linewidth=1.1, drawstyle="steps-post")
        for (_, x, y), group in zip(points, groups, strict=True):
            axes.plot([x], [y], inks[group].marker, color=inks[group].colour, markersize=6.5, alpha=0.85)
        if min(x for _, x, _ in points) > 0 and max(x for _, x, _ in points) > 20 * min(x for _, x, _ in points):
            log_scale(axes)
        axes.set_xlabel(COSTS[cost])
        axes.set_ylabel(f"{metric_label(metric)} (0 to 100)")
        drawn = svg(figure, f"{metric_label(metric)} against {COSTS[cost]}: {len(points)} cells, {len(best)} in front")
    return legend(inks, "pareto") + drawn


def _groups(analysis: GridAnalysis, costs: Sequence[CostFigures]) -> list[str]:
    """What marks are told apart by: the use of knowledge where it is an axis, else the first axis; arms by name."""
    preferred = [axis for axis in analysis.axes if axis in USE_AXES] or list(analysis.axes)
    return [
        arm_label(one.arm) if one.arm != analysis.arm else (one.levels.get(preferred[0], "") if preferred else one.arm)
        for one in costs
    ]


USE_AXES = ("knowledge.use", "use", "utilisation")
"""What an axis of how knowledge is used may be called."""
