"""The plot of a grid: every cell's mean on one metric with its interval and its seeds, as an `<svg>` element."""

from __future__ import annotations

from matplotlib.figure import Figure

from understudy.report.comparison_plots import short
from understudy.report.formatting import metric_label
from understudy.report.grid_inputs import GridAnalysis, StudyQuestion
from understudy.report.labels import Label, label_of
from understudy.report.svg import INK, NARROW, legend, style, svg

_LINES = ("#2b7fdb", "#dd8423", "#1f9d78", "#9a63d8", "#c4536f", "#7c8594")
_MARKERS = ("o", "s", "^", "D", "v", "P")
MOST_CELLS = 64
"""As many cells as a plot can hold."""


def cells_plot(analysis: GridAnalysis, metric: str) -> str | None:
    """Cells from the best to the worst on 0 to 100; None with no cell or too many.

    Args:
        analysis: what `grid.analysis.analyse` gives.
        metric: which metric.
    """
    cells = [entry for entry in analysis.cells if metric in entry.metrics]
    if not 0 < len(cells) <= MOST_CELLS:
        return None
    description = analysis.metrics[metric]
    factor = 100.0 / description.maximum
    cells.sort(key=lambda entry: entry.metrics[metric].mean, reverse=not description.higher_is_better)
    title = f"{metric_label(metric)} of each cell"
    colour = label_of("distilled").colour
    with style("grid-cells"):
        figure = Figure(figsize=(NARROW, 0.9 + 0.25 * len(cells)), layout="constrained")
        axes = figure.subplots()
        for height, entry in enumerate(cells):
            summary = entry.metrics[metric]
            values = [factor * value for value in summary.values]
            axes.plot(values, [height] * len(values), "|", color=INK, markersize=8, alpha=0.55)
            if summary.low is not None and summary.high is not None:
                axes.plot([factor * summary.low, factor * summary.high], [height] * 2, color=colour)
            axes.plot([factor * summary.mean], [height], "o", color=colour)
        # The axes are named once, above: with their names in each line, the lines would leave no room for the figures.
        labels = [short(" · ".join(entry.levels.values()), 34) for entry in cells]
        axes.set_yticks(range(len(cells)), labels, fontsize=9)
        axes.set_xlabel(f"{metric_label(metric)} (0 to 100)")
        axes.set_ylim(-0.6, len(cells) - 0.4)
        axes.grid(axis="y", visible=False)
        return svg(figure, title)


def curve_plot(question: StudyQuestion) -> str:
    """A figure by a level that is a number, each line with intervals, on 0 to 100; a legend above it.

    Args:
        question: with a curve, of a metric from 0 to 1.
    """
    lines = list(dict.fromkeys(point.line for point in question.curve))
    inks = {line: Label(line, _LINES[n % len(_LINES)], _MARKERS[n % len(_MARKERS)]) for n, line in enumerate(lines)}
    levels = sorted({point.x for point in question.curve})
    with style("quantity"):
        figure = Figure(figsize=(NARROW - 0.5, 2.8), layout="constrained")
        axes = figure.subplots()
        for number, line in enumerate(lines):
            points = sorted((point for point in question.curve if point.line == line), key=lambda point: point.x)
            # Beside each other, or intervals of several lines would cover each other.
            shift = 1 + 0.035 * (number - (len(lines) - 1) / 2)
            xs, ys = [shift * point.x for point in points], [100 * point.value for point in points]
            axes.plot(xs, ys, inks[line].marker, linestyle="-", color=inks[line].colour, markersize=6, linewidth=1.5)
            for x, point in zip(xs, points, strict=True):
                axes.plot([x, x], [100 * point.low, 100 * point.high], color=inks[line].colour, linewidth=1.2)
        if levels[0] > 0:
            axes.set_xscale("log")
        axes.set_xticks(levels, [f"{level:g}" for level in levels])
        axes.minorticks_off()
        axes.set_xlabel(question.axis)
        axes.set_ylabel(f"{metric_label(question.metric)} (0 to 100)")
        return legend(inks, "quantity") + svg(figure, f"{metric_label(question.metric)} by {question.axis}")
