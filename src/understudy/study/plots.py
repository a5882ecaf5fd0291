"""The plots of a study's report, each an `<svg>` element as text; None where there is nothing to show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from understudy.metrics.significance.bootstrap import Interval
from understudy.metrics.significance.crossed import FixedEffect
from understudy.report.comparison_plots import colours, shapes, short
from understudy.report.labels import Label, label_of
from understudy.report.svg import GRID, INK, NARROW, legend, panels, style, svg
from understudy.study.config import HIGHEST, LOWEST
from understudy.study.findings import Findings, MethodAccuracy, PairFinding, PreferenceFindings

MOST_PAIRS = 10
"""As many pairs as the forest plot shows."""


def look(methods: Sequence[str]) -> dict[str, Label]:
    """Method -> its name in print, colour and mark."""
    ink, mark = colours(methods), shapes(methods)
    return {name: replace(label_of(name), label=short(name), colour=ink[name], marker=mark[name]) for name in methods}


def _key(methods: Sequence[str], plot: str) -> str:
    return legend({label.label: label for label in look(methods).values()}, plot)


def means_plot(found: Findings, outcomes: Mapping[str, str], methods: Sequence[str]) -> str:
    """Each method's mean of each outcome with its interval over raters.

    Args:
        found: what was found.
        outcomes: name -> name in print.
        methods: in their order.
    """
    labels = look(methods)
    with style("means of " + ", ".join(outcomes)):
        height = 0.17 * len(methods) + 0.22
        figure = Figure(figsize=(NARROW, height * len(outcomes) + 0.6), layout="constrained")
        axis = figure.subplots()
        axis.grid(axis="y", visible=False)
        for place, outcome in enumerate(outcomes):
            if place:
                axis.axhline(place - 0.5, color=GRID, linewidth=0.8)
            for number, method in enumerate(methods):
                offset = ((number + 0.5) / len(methods) - 0.5) * 0.8
                _whisker(axis, found.mean(method, outcome).mean, place + offset, labels[method])
        axis.set_yticks(range(len(outcomes)), list(outcomes.values()))
        axis.set_ylim(len(outcomes) - 0.5, -0.5)
        axis.set_xlabel("mean rating")
        return _key(methods, "means of " + ", ".join(outcomes)) + svg(
            figure, "Mean rating of each method, by construct"
        )


def _whisker(axis: Axes, figure: Interval, height: float, label: Label) -> None:
    if figure.low == figure.low:
        ends = (figure.low, figure.high)
        axis.plot(ends, (height, height), color=label.colour, linewidth=2, solid_capstyle="round")
    axis.plot([figure.value], [height], label.marker, color=label.colour, markersize=6)


def shares_plot(found: Findings, outcomes: Mapping[str, str], methods: Sequence[str]) -> str | None:
    """How often each rating was given: a bar a method, a panel a construct; None where ratings are not 1 to 5."""
    scale = [str(value) for value in range(LOWEST, HIGHEST + 1)]
    given = {value for row in found.means for value in row.counts}
    constructs = [name for name in outcomes if any(found.mean(method, name).counts for method in methods)]
    if not constructs or not given <= set(scale):
        return None
    drawn = [_shares(found, name, outcomes[name], methods, scale) for name in constructs]
    key = {f"{value}": Label(value, _SHADES[number], "s") for number, value in enumerate(scale)}
    return legend(key, "shares") + panels(drawn)


_SHADES = ("#b5553f", "#dd9c6a", "#9aa2ad", "#6fa3d8", "#2468b0")
"""From strong disagreement to strong agreement; readable on white and on black."""


def _shares(found: Findings, outcome: str, title: str, methods: Sequence[str], scale: Sequence[str]) -> str:
    with style(f"shares {outcome}"):
        figure = Figure(figsize=(3.9, 0.3 * len(methods) + 0.75), layout="constrained")
        axis = figure.subplots()
        axis.set_title(title)
        axis.grid(axis="y", visible=False)
        for height, method in enumerate(methods):
            counts = found.mean(method, outcome).counts
            total, left = max(1, sum(counts.values())), 0.0
            for number, value in enumerate(scale):
                width = 100 * counts.get(value, 0) / total
                axis.barh(height, width, left=left, height=0.72, color=_SHADES[number])
                left += width
        axis.set_yticks(range(len(methods)), [short(method, 16) for method in methods])
        axis.set_ylim(len(methods) - 0.5, -0.5)
        axis.set_xlim(0, 100)
        axis.set_xlabel("% of ratings")
        return svg(figure, f"{title}: share of each rating")


def forest_plot(found: Findings, outcomes: Mapping[str, str], methods: Sequence[str]) -> str | None:
    """Each pair's difference on every outcome by the mixed model, and at equal length; None without a model."""
    if not any(pair.model for pair in found.pairs):
        return None
    pairs = list(dict.fromkeys((pair.a, pair.b) for pair in found.pairs))[:MOST_PAIRS]
    ends = [end for pair in found.pairs for fit in (pair.model, pair.length_free) if fit for end in (fit.low, fit.high)]
    margin = 0.05 * (max(ends) - min(ends)) or 0.1
    reach = min(0.0, *ends) - margin, max(0.0, *ends) + margin
    labels, drawn = look(methods), []
    for a, b in pairs:
        with style(f"forest {a} {b}"):
            figure = Figure(figsize=(NARROW, 0.36 * len(outcomes) + 0.9), layout="constrained")
            axis = figure.subplots()
            axis.set_title(f"{short(a, 18)} \N{MINUS SIGN} {short(b, 18)}", x=1, ha="right")
            axis.axvline(0, color=INK, linewidth=1)
            axis.grid(axis="y", visible=False)
            rows = {pair.outcome: pair for pair in found.pairs if (pair.a, pair.b) == (a, b)}
            for height, outcome in enumerate(outcomes):
                _forest_row(axis, rows[outcome], height, labels)
            axis.set_yticks(range(len(outcomes)), list(outcomes.values()))
            axis.set_ylim(len(outcomes) - 0.4, -0.6)
            axis.set_xlim(*reach)
            axis.set_xlabel("points of the scale")
            drawn.append(svg(figure, f"{a} minus {b} on every construct, with intervals"))
    return panels(drawn)


def _forest_row(axis: Axes, pair: PairFinding, height: int, labels: Mapping[str, Label]) -> None:
    ink = labels[pair.better].colour if pair.better else INK
    if pair.length_free is not None:
        _difference(axis, pair.length_free, height + 0.22, ink, filled=False, small=True)
    if pair.model is not None:
        _difference(axis, pair.model, height - (0.1 if pair.length_free else 0), ink, filled=pair.better is not None)


def _difference(axis: Axes, fit: FixedEffect, height: float, ink: str, *, filled: bool, small: bool = False) -> None:
    axis.plot((fit.low, fit.high), (height, height), color=ink, linewidth=1 if small else 2, solid_capstyle="round")
    face = ink if filled else "none"
    marker, size = ("D", 3.5) if small else ("o", 6)
    axis.plot([fit.value], [height], marker, color=ink, markerfacecolor=face, markersize=size)


def accuracy_plot(
    found: Findings, outcome: str, label: str, accuracies: Sequence[MethodAccuracy], methods: Sequence[str]
) -> str | None:
    """Each method's accuracy beside what people think of its explanations; None where no accuracy is known."""
    labels, known = look(methods), {row.method: row.accuracy for row in accuracies if row.method in methods}
    if not known:
        return None
    with style("accuracy"):
        figure = Figure(figsize=(NARROW, 3.3), layout="constrained")
        axis = figure.subplots()
        for method, accuracy in known.items():
            rating, ink = found.mean(method, outcome).mean, labels[method]
            x, y = 100 * accuracy.value, rating.value
            if accuracy.low == accuracy.low:
                axis.plot((100 * accuracy.low, 100 * accuracy.high), (y, y), color=ink.colour, linewidth=1.6)
            if rating.low == rating.low:
                axis.plot((x, x), (rating.low, rating.high), color=ink.colour, linewidth=1.6)
            axis.plot([x], [y], ink.marker, color=ink.colour, markersize=7.5)
        axis.set_xlabel("accuracy of the answers, %")
        axis.set_ylabel(f"{label}, mean rating")
        return _key(list(known), "accuracy") + svg(figure, "Accuracy of answers beside rated quality of explanations")


def strengths_plot(found: PreferenceFindings, methods: Sequence[str]) -> str:
    """Strengths by Bradley and Terry's model with their intervals."""
    labels, rows = look(methods), {row.system: row for row in found.strengths}
    order = [method for method in methods if method in rows]
    with style("strengths"):
        figure = Figure(figsize=(NARROW, 0.34 * len(order) + 0.7), layout="constrained")
        axis = figure.subplots()
        axis.axvline(0, color=INK, linewidth=1)
        axis.grid(axis="y", visible=False)
        for height, method in enumerate(order):
            row = rows[method]
            _whisker(axis, Interval(row.value, row.low, row.high, row.comparisons), height, labels[method])
        axis.set_yticks(range(len(order)), [short(method) for method in order])
        axis.set_ylim(len(order) - 0.5, -0.5)
        axis.set_xlabel("log-strength (0: the average method)")
        return svg(figure, "Strength of each method by Bradley and Terry's model")
