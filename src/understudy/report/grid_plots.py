"""The plot of a grid: every cell's mean on one metric with its interval and its seeds, as an `<svg>` element."""

from __future__ import annotations

from matplotlib.figure import Figure

from understudy.report.comparison_plots import short
from understudy.report.formatting import metric_label
from understudy.report.grid_inputs import GridAnalysis
from understudy.report.labels import label_of
from understudy.report.svg import INK, NARROW, style, svg

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
