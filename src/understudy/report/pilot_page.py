"""The page of a pilot: verdict, the curve against rows, what would be worth paying for, and the full run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from understudy.report.formatting import metric_label, number, rounded_up
from understudy.report.labels import label_of
from understudy.report.page import write_page
from understudy.report.svg import NARROW, legend, style, svg

TRAINED = ("distilled", "seqkd", "sft")
SHOWN = ("teacher", *TRAINED, "base_student")
TONES = {"worth it": "better", "not worth it": "worse", "cannot tell": "open"}
Value = tuple[float, float | None, float | None]


@dataclass(frozen=True)
class PilotPoint:
    """One amount of the curve: rows learned from, those with an answer, steps, and arm → value with its bounds."""

    rows: int
    gold: int
    steps: int
    values: Mapping[str, Value]


@dataclass(frozen=True)
class PilotInputs:
    """All that the page of a pilot says, as plain values.

    Attributes:
        title: name of the data.
        data: as it was given.
        models: teacher and student, as they were given.
        method: of distillation.
        why_method: why this one.
        kind: the verdict: worth it, not worth it, cannot tell.
        why: its sentence.
        items_needed: test items that could tell; None where that is not the trouble.
        rows_needed: rows that could tell.
        metric: that all is in.
        points: the curve.
        differences: (first, second, difference with interval, whether it is significant: 1, −1 or 0).
        recovered: share of the way from SFT-only to the teacher in percent.
        advice: (what, answer, why).
        curves: (step, development score) by seed.
        least: the smallest gain of interest.
        test_rows: judged on.
        test_there: test rows that there are.
        seeds: how many.
        epochs: passes over the rows.
        pilot_time: that the pilot took, in words.
        full: (what, figure) of the full run.
        tuned: whether the teacher was fine-tuned at each amount.
        confidence: level of the intervals; 1 − confidence is that of the tests.
        overrides: fields that were set on the command line.
    """

    title: str
    data: str
    models: tuple[str, str]
    method: str
    why_method: str
    kind: str
    why: str
    items_needed: int | None
    rows_needed: int | None
    metric: str
    points: Sequence[PilotPoint]
    differences: Sequence[tuple[str, str, str, int]]
    recovered: Value | None
    advice: Sequence[tuple[str, str, str]]
    curves: Sequence[Sequence[tuple[int, float]]]
    least: float
    test_rows: int
    test_there: int
    seeds: int
    epochs: int
    pilot_time: str
    full: Sequence[tuple[str, str]]
    tuned: bool = False
    confidence: float = 0.95
    overrides: Sequence[str] = ()


def render_pilot(inputs: PilotInputs, path: str | os.PathLike[str]) -> None:
    """Write the page, whole or not at all; the same input gives the same bytes.

    Raises:
        RunError: the file cannot be written.
    """
    write_page("pilot.html.jinja", view(inputs), path)


def headline_of(kind: str) -> str:
    """The verdict as a heading."""
    return {
        "worth it": "Worth it: distilling this teacher beats fine-tuning on the gold answers alone.",
        "not worth it": "Not worth it: fine-tuning on the gold answers alone does as well, or better.",
    }.get(kind, "Cannot tell from this pilot.")


def needed_text(items: int | None, rows: int | None) -> str:
    """What could tell; empty where nothing is known of it."""
    parts = [f"{rounded_up(items):,} test items"] if items else []
    parts += [f"all {rows:,} rows to learn from"] if rows else []
    return f"What could tell: {' and '.join(parts)}." if parts else ""


def recovered_text(recovered: Value | None) -> str:
    """How much of the way to the teacher distilling goes."""
    if recovered is None:
        return (
            "Share of the gap recovered: not given, for the teacher is not clearly ahead of the SFT-only student here."
        )
    value, low, high = recovered
    bounds = "" if low is None or high is None else f" ({low:.0f}% to {high:.0f}%)".replace("-", "−")
    return f"Share of the way from the SFT-only student to the teacher that distilling goes: {value:.0f}%{bounds}."


def view(inputs: PilotInputs) -> dict[str, Any]:
    """All that the template prints, in the order in which it stands on the page."""
    arms = [arm for arm in SHOWN if any(arm in point.values for point in inputs.points)]
    return {
        "title": inputs.title,
        "tone": TONES[inputs.kind],
        "verdict": headline_of(inputs.kind),
        "why": _capital(inputs.why),
        "level": f"{inputs.confidence:.0%}",
        "alpha": f"{1 - inputs.confidence:.0%}",
        "least": f"{inputs.least:g} point" + ("" if inputs.least == 1 else "s"),
        "needed": needed_text(inputs.items_needed, inputs.rows_needed),
        "recovered": recovered_text(inputs.recovered),
        "metric": metric_label(inputs.metric),
        "legend": Markup(legend({label_of(arm).label: label_of(arm) for arm in arms}, "pilot")),
        "curve": Markup(rows_plot(inputs.points, arms, metric_label(inputs.metric))),
        "steps": _markup(steps_plot(inputs.curves)),
        "arms": [(label_of(arm).label, [_cell(point.values.get(arm)) for point in inputs.points]) for arm in arms],
        "points": inputs.points,
        "differences": [
            (label_of(a).label, label_of(b).label, text, {1: "above 0", -1: "below 0"}.get(sign, "open"))
            for a, b, text, sign in inputs.differences
        ],
        "advice": [(_capital(what), answer, _capital(why)) for what, answer, why in inputs.advice],
        "full": inputs.full,
        "inputs": inputs,
    }


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _cell(value: Value | None) -> str:
    if value is None:
        return "–"
    figure, low, high = value
    return number(figure) if low is None or high is None else f"{number(figure)} ({number(low)} to {number(high)})"


def _markup(plot: str | None) -> Markup | None:
    return None if plot is None else Markup(plot)


# -- plots -----------------------------------------------------------------------------------------------------------


def rows_plot(points: Sequence[PilotPoint], arms: Sequence[str], metric: str) -> str:
    """Score against rows with intervals; what trains no student is drawn as a dashed line."""
    with style("pilot-rows"):
        figure = Figure(figsize=(NARROW, 3.0), layout="constrained")
        axes = figure.subplots()
        for place, arm in enumerate(arms):
            there = [point for point in points if arm in point.values]
            label = label_of(arm)
            values = [point.values[arm] for point in there]
            # Side by side by a few hundredths, so that intervals do not hide each other.
            rows = [point.rows * 1.03 ** (place - len(arms) / 2) for point in there]
            axes.plot(
                rows,
                [value for value, *_ in values],
                color=label.colour,
                marker=label.marker,
                markersize=5,
                linewidth=1.7 if arm in TRAINED else 1.0,
                linestyle="-" if arm in TRAINED else "--",
            )
            for at, (_, low, high) in zip(rows, values, strict=True):
                if low is not None and high is not None:
                    axes.plot([at, at], [low, high], color=label.colour, linewidth=1, alpha=0.8)
        axes.set_xscale("log")
        axes.minorticks_off()
        axes.set_xticks([point.rows for point in points], [f"{point.rows:,}" for point in points])
        axes.set_xlabel("rows to learn from")
        axes.set_ylabel(f"{metric}, 0 to 100")
        return svg(figure, f"{metric} against rows to learn from, with intervals")


def steps_plot(curves: Sequence[Sequence[tuple[int, float]]]) -> str | None:
    """Development score of the distilled student against steps, a line a seed; None with fewer than two points."""
    curves = [curve for curve in curves if len(curve) > 1]
    if not curves:
        return None
    label = label_of("distilled")
    with style("pilot-steps"):
        figure = Figure(figsize=(NARROW, 2.2), layout="constrained")
        axes = figure.subplots()
        for curve in curves:
            axes.plot(*zip(*curve, strict=True), color=label.colour, marker=label.marker, markersize=4, alpha=0.8)
        axes.set_xlabel("steps, all of the pilot's rows")
        axes.set_ylabel("development score")
        return svg(figure, "Development score of the distilled student against steps")
