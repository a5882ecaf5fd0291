"""The plots of a calibration: reliability diagram, quality and cost of a cascade by the share that is asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from understudy.report.formatting import arm_label, metric_label
from understudy.report.labels import label_of
from understudy.report.svg import GRID, INK, NARROW, panels, style, svg

Json = Mapping[str, Any]


def reliability_plot(report: Json) -> str:
    """Share of right answers against mean probability, equal-mass bins beside equal-width ones; a mark's area is n."""
    plots = []
    for kind, title in (("mass", "Bins of equal mass"), ("width", "Bins of equal width")):
        with style(f"reliability {kind}"):
            figure = Figure(figsize=(NARROW, NARROW * 0.92), layout="constrained")
            axis = figure.subplots()
            axis.plot([0, 1], [0, 1], color=GRID, linewidth=1.5, zorder=1)
            bins = [entry for entry in report["reliability"]["bins"][kind] if entry["n"]]
            total = sum(entry["n"] for entry in bins)
            x, y = ([entry[name] for entry in bins] for name in ("probability", "right"))
            colour = label_of(report["arm"]).colour
            axis.plot(x, y, color=colour, linewidth=1.4, zorder=2)
            axis.scatter(x, y, s=[20 + 300 * entry["n"] / total for entry in bins], color=colour, alpha=0.75, zorder=3)
            axis.set_xlim(-0.03, 1.03)
            axis.set_ylim(-0.03, 1.03)
            axis.set_xlabel("probability said")
            axis.set_ylabel("share right")
            axis.set_title(title)
            plots.append(svg(figure, f"Reliability diagram, {title.lower()}"))
    return panels(plots)


def cascade_plots(report: Json) -> str:
    """Quality, seconds and cost against the share of rows that the teacher is asked."""
    with_money = [("cost", "cost of 1,000 answers")] if report["priced"] else []
    expenses = [*with_money, ("seconds", "seconds an answer"), ("teacher_tokens", "teacher's tokens an answer")]
    return panels([_quality_plot(report), *(_expense_plot(report, name, label) for name, label in expenses)])


def _quality_plot(report: Json) -> str:
    points, metric = report["points"], report["metric"]
    factor = 100 / report["maxima"][metric]
    with style("cascade quality"):
        figure = Figure(figsize=(NARROW, NARROW * 0.8), layout="constrained")
        axis = figure.subplots()
        x = [100 * point["asked"] for point in points]
        colour = label_of(report["arm"]).colour
        _band(axis, x, points, metric, factor, colour)
        axis.plot(x, [factor * p["quality"][metric]["value"] for p in points], color=colour, linewidth=1.8)
        teacher = factor * points[-1]["quality"][metric]["value"]
        axis.axhline(teacher, color=label_of("teacher").colour, linewidth=1.4, linestyle="--")
        axis.annotate(arm_label("teacher"), (0, teacher), xytext=(2, 4), textcoords="offset points", fontsize=9)
        chosen = report["chosen"]
        axis.plot([100 * chosen["asked"]], [factor * chosen["quality"][metric]["value"]], "o", color=INK, markersize=8)
        axis.set_xlabel("teacher asked, % of rows")
        axis.set_ylabel(metric_label(metric))
        axis.set_title("Quality")
        return svg(figure, f"{metric_label(metric)} of the cascade by the share of rows that the teacher is asked")


def _band(axis: Any, x: Sequence[float], points: Sequence[Json], metric: str, factor: float, colour: str) -> None:
    ends = [(p["quality"][metric]["low"], p["quality"][metric]["high"]) for p in points]
    if all(low is not None for low, _ in ends):
        axis.fill_between(
            x, [factor * low for low, _ in ends], [factor * high for _, high in ends], color=colour, alpha=0.15
        )


def _expense_plot(report: Json, name: str, label: str) -> str:
    points, chosen = report["points"], report["chosen"]
    with style(f"cascade {name}"):
        figure = Figure(figsize=(NARROW, NARROW * 0.8), layout="constrained")
        axis = figure.subplots()
        axis.plot([100 * p["asked"] for p in points], [p[name] for p in points], color="#dd8423", linewidth=1.8)
        axis.plot([100 * chosen["asked"]], [chosen[name]], "o", color=INK, markersize=8)
        axis.set_ylim(bottom=0)
        axis.set_xlabel("teacher asked, % of rows")
        axis.set_title(label[0].upper() + label[1:])
        return svg(figure, f"{label} by the share of rows that the teacher is asked")
