"""The plots of a comparison: forest, heat map, critical differences, radar – each an `<svg>` element as text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from understudy.report.formatting import arm_label, metric_label, number, scale
from understudy.report.labels import LABELS, label_of, labels
from understudy.report.svg import GRID, INK, NARROW, legend, panels, style, svg
from understudy.report.verdicts import ComparisonJson, contrasts_of, names_of, pair_test

_PALETTE = (
    *("#2b7fdb", "#dd8423", "#1f9d78", "#9a63d8", "#c4536f", "#0e9aa7"),
    *("#7c8594", "#a9906f", "#6b8e23", "#b0468e"),
)
_SHAPES = ("o", "v", "^", "s", "X", "D", "P", "<", ">", "h")
_LONGEST = 26
MOST_CONTRASTS = 6
"""As many pairs as the forest plot shows."""


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each system: the arms keep theirs, others get one each."""
    if any(name in LABELS for name in names):
        return {name: label.colour for name, label in labels(names).items()}
    return {name: _PALETTE[number % len(_PALETTE)] for number, name in enumerate(names)}


def shapes(names: Sequence[str]) -> dict[str, str]:
    """A mark for each system, likewise."""
    if any(name in LABELS for name in names):
        return {name: label.marker for name, label in labels(names).items()}
    return {name: _SHAPES[number % len(_SHAPES)] for number, name in enumerate(names)}


def short(name: str, longest: int = _LONGEST) -> str:
    """A system's name where there is little room: the middle gives way."""
    label = " ".join(arm_label(name).split())
    if len(label) <= longest:
        return label
    head = (longest - 1) // 2
    return f"{label[:head]}…{label[len(label) - (longest - 1 - head) :]}"


# Differences ----------------------------------------------------------------------------------------------------------


def forest_plot(comparison: ComparisonJson) -> str | None:
    """Forest plot: each pair's difference on every metric with its interval, on 0 to 100; None without a test."""
    contrasts, metrics = contrasts_of(comparison)[:MOST_CONTRASTS], list(comparison["comparison"]["metrics"])
    if not contrasts or not metrics:
        return None
    reach = _reach(comparison, contrasts, metrics)
    plots = []
    for a, b in contrasts:
        with style(f"forest {a} {b}"):
            figure = Figure(figsize=(NARROW, 0.32 * len(metrics) + 0.9), layout="constrained")
            axis = figure.subplots()
            _forest(axis, comparison, a, b, metrics)
            axis.set_yticks(range(len(metrics)), [metric_label(name) for name in metrics])
            axis.set_ylim(len(metrics) - 0.4, -0.6)
            axis.set_xlim(*reach)
            axis.set_xlabel("points (0 to 100)")
            plots.append(svg(figure, f"{arm_label(a)} minus {arm_label(b)} on every metric, with intervals"))
    return panels(plots)


def _reach(
    comparison: ComparisonJson, contrasts: Sequence[tuple[str, str]], metrics: Sequence[str]
) -> tuple[float, float]:
    """One axis for all pairs, so that the eye can compare them: from the least bound to the largest, with 0."""
    ends = [0.0]
    for a, b in contrasts:
        for metric in metrics:
            test = pair_test(comparison, a, b, metric)
            figures = test["comparison"] if test else {}
            values = (figures.get(name) for name in ("difference", "low", "high"))
            ends += [value * scale(comparison, metric) for value in values if value is not None]
    margin = 0.05 * (max(ends) - min(ends)) or 1.0
    return min(ends) - margin, max(ends) + margin


def _forest(axis: Axes, comparison: ComparisonJson, a: str, b: str, metrics: Sequence[str]) -> None:
    ink_of = colours(names_of(comparison))
    label_a, label_b = (short(name, 18) for name in (a, b))
    axis.set_title(f"{label_a} \N{MINUS SIGN} {label_b}", x=1, ha="right")
    axis.axvline(0, color=INK, linewidth=1)
    axis.grid(axis="y", visible=False)
    for height, metric in enumerate(metrics):
        test = pair_test(comparison, a, b, metric)
        if test is None or test["comparison"]["difference"] is None:
            continue
        figures, factor = test["comparison"], scale(comparison, metric)
        ink = ink_of[test["better"]] if test["better"] else INK
        if figures["low"] is not None:
            bounds = (figures["low"] * factor, figures["high"] * factor)
            axis.plot(bounds, (height, height), color=ink, linewidth=2, solid_capstyle="round")
        face = ink if test["better"] else "none"
        axis.plot([figures["difference"] * factor], [height], "o", color=ink, markerfacecolor=face, markersize=6)


# Scores ---------------------------------------------------------------------------------------------------------------


def heat_map(comparison: ComparisonJson) -> str | None:
    """System × metric: the value in each cell, its colour by the share of the metric's best value that it is.

    A star marks the best system of a metric, a ring those that are not significantly worse than it.
    """
    names, metrics = names_of(comparison), list(comparison["metrics"])
    if len(names) < 2 or not metrics:
        return None
    with style("heat map"):
        figure = Figure(figsize=(1.9 + 0.74 * len(metrics), 1.1 + 0.42 * len(names)), layout="constrained")
        axis = figure.subplots()
        axis.grid(visible=False)
        for spine in axis.spines.values():
            spine.set_visible(False)
        for column, metric in enumerate(metrics):
            _column(axis, comparison, names, metric, column)
        axis.set_xlim(-0.5, len(metrics) - 0.5)
        axis.set_ylim(len(names) - 0.5, -0.5)
        axis.set_yticks(range(len(names)), [short(name) for name in names])
        labels = [metric_label(name) for name in metrics]
        axis.set_xticks(range(len(metrics)), labels, rotation=40, ha="left", rotation_mode="anchor")
        axis.xaxis.tick_top()
        return svg(figure, "Every system on every metric, coloured by its share of the best")


def _column(axis: Axes, comparison: ComparisonJson, names: Sequence[str], metric: str, column: int) -> None:
    values = {name: (comparison["overall"]["table"].get(name, {}).get(metric) or {}).get("value") for name in names}
    measured = {name: value for name, value in values.items() if value is not None}
    if not measured:
        return
    higher, factor = comparison["metrics"][metric]["higher_is_better"], scale(comparison, metric)
    best = (max if higher else min)(measured, key=lambda name: measured[name])
    for row, name in enumerate(names):
        if name not in measured:
            axis.text(column, row, "–", ha="center", va="center", color=INK)
            continue
        share = _share_of_best(measured[name], measured[best], higher=higher)
        box = Rectangle((column - 0.47, row - 0.46), 0.94, 0.92, facecolor="#2b7fdb", alpha=0.04 + 0.46 * share**2)
        axis.add_patch(box)
        mark = " ★" if measured[name] == measured[best] else " ○" if _not_worse(comparison, best, name, metric) else ""
        axis.text(column, row, f"{number(measured[name] * factor)}{mark}", ha="center", va="center", fontsize=9)


def _share_of_best(value: float, best: float, *, higher: bool) -> float:
    """How much of the best value a system reaches, between 0 and 1."""
    if value == best:
        return 1.0
    small, large = (value, best) if higher else (best, value)
    return min(1.0, max(0.0, small / large)) if large > 0 else 0.0


def _not_worse(comparison: ComparisonJson, best: str, name: str, metric: str) -> bool:
    """Whether a test was made and did not show the best system ahead of this one."""
    test = pair_test(comparison, best, name, metric) or pair_test(comparison, name, best, metric)
    return test is not None and not test["better"]


def radar_plot(comparison: ComparisonJson) -> str | None:
    """All metrics as spokes from 0 to the best system's value; None with fewer than three.

    Drawn by hand on a plain axis, so that labels of spokes stay within the figure.
    """
    names = names_of(comparison)
    shares = {metric: _shares(comparison, metric, names) for metric in comparison["metrics"]}
    metrics = [metric for metric, values in shares.items() if all(name in values for name in names)]
    if len(metrics) < 3 or len(names) > len(_PALETTE):
        return None
    angles = [math.pi / 2 - 2 * math.pi * number / len(metrics) for number in range(len(metrics))]
    ink, mark = colours(names), shapes(names)
    with style("radar"):
        figure = Figure(figsize=(NARROW, 3.1), layout="constrained")
        axis = figure.subplots()
        axis.set_aspect("equal")
        axis.axis("off")
        for ring in (0.25, 0.5, 0.75, 1.0):
            _ring(axis, angles, [ring] * len(metrics), color=GRID, linewidth=0.8)
            if ring < 1:
                axis.text(0.02, ring, f"{ring:.0%}", fontsize=7.5, va="bottom", alpha=0.7)
        for angle, metric in zip(angles, metrics, strict=True):
            axis.plot([0, math.cos(angle)], [0, math.sin(angle)], color=GRID, linewidth=0.8)
            _spoke_label(axis, angle, metric_label(metric))
        for name in names:
            _ring(
                axis,
                angles,
                [shares[metric][name] for metric in metrics],
                color=ink[name],
                linewidth=1.7,
                marker=mark[name],
                markersize=4.5,
            )
        axis.set_xlim(-1.75, 1.75)
        axis.set_ylim(-1.2, 1.25)
        key = {short(name): replace(label_of(name), colour=ink[name], marker=mark[name]) for name in names}
        return legend(key, "radar") + svg(figure, "Every metric as a share of its best system")


def _shares(comparison: ComparisonJson, metric: str, names: Sequence[str]) -> dict[str, float]:
    """Each system's value as a share of the best one; nothing where lower is better, or the best is 0."""
    figures = {name: (comparison["overall"]["table"].get(name, {}).get(metric) or {}).get("value") for name in names}
    measured = {name: value for name, value in figures.items() if value is not None}
    best = max(measured.values(), default=0.0)
    if best <= 0 or not comparison["metrics"][metric]["higher_is_better"]:
        return {}
    return {name: value / best for name, value in measured.items()}


def _ring(axis: Axes, angles: Sequence[float], radii: Sequence[float], **line: Any) -> None:
    points = [(r * math.cos(angle), r * math.sin(angle)) for angle, r in zip(angles, radii, strict=True)]
    xs, ys = zip(*points, points[0], strict=True)
    axis.plot(xs, ys, **line)


def _spoke_label(axis: Axes, angle: float, label: str) -> None:
    x, y = math.cos(angle), math.sin(angle)
    ha = "center" if abs(x) < 0.2 else "left" if x > 0 else "right"
    va = "center" if abs(y) < 0.8 else "bottom" if y > 0 else "top"
    axis.text(1.07 * x, 1.07 * y, label, ha=ha, va=va, fontsize=9)


# Ranks ----------------------------------------------------------------------------------------------------------------


def critical_difference_plot(comparison: ComparisonJson, metric: str | None) -> str | None:
    """Average ranks of the systems on one metric; a bar joins those that Nemenyi's test cannot tell apart."""
    ranking: Mapping[str, Any] | None = comparison["comparison"]["friedman"].get(metric)
    if ranking is None or any(rank is None for rank in ranking["average_ranks"]):
        return None
    names, ranks = ranking["systems"], ranking["average_ranks"]
    half = math.ceil(len(names) / 2)
    cliques = ranking["cliques"]
    ink_of = colours(names_of(comparison))
    with style("ranks"):
        height = 1.35 + 0.3 * half + 0.14 * len(cliques)
        figure = Figure(figsize=(7.2, height))
        axis = figure.add_axes((0, 0, 1, 1))
        axis.axis("off")
        low, high = 1, len(names)
        axis.plot((low, high), (0, 0), color=INK, linewidth=1.2)
        for rank in range(low, high + 1):
            axis.plot((rank, rank), (0, 0.12), color=INK, linewidth=1.2)
            axis.text(rank, 0.2, str(rank), ha="center", va="bottom", fontsize=9)
        _critical_bar(axis, ranking["critical_difference"], high - low)
        rank_of = dict(zip(names, ranks, strict=True))
        for level, clique in enumerate(cliques):
            ends = sorted(rank_of[name] for name in clique)
            depth = -0.16 - 0.16 * level
            axis.plot((ends[0] - 0.02, ends[-1] + 0.02), (depth, depth), color=INK, linewidth=4, alpha=0.55)
        below = -0.3 - 0.16 * len(cliques)
        reach = 0.06 * (high - low)
        for number_, (name, rank) in enumerate(rank_of.items()):
            on_left = number_ < half
            depth = below - 0.32 * (number_ if on_left else len(names) - 1 - number_)
            edge = low - reach if on_left else high + reach
            axis.plot((rank, rank, edge), (0, depth, depth), color=ink_of[name], linewidth=1.4)
            axis.plot([rank], [0], "o", color=ink_of[name], markersize=5)
            label = f"{short(name)}  {rank:.2f}" if on_left else f"{rank:.2f}  {short(name)}"
            axis.text(
                edge + (-1 if on_left else 1) * 0.1 * reach,
                depth,
                label,
                ha="right" if on_left else "left",
                va="center",
            )
        axis.set_xlim(low - 7 * reach, high + 7 * reach)
        axis.set_ylim(below - 0.32 * half, 1.15)
        return svg(figure, f"Average ranks on {metric_label(metric or '')}")


def _critical_bar(axis: Axes, width: float | None, reach: float) -> None:
    if width is None:
        return
    length = min(width, reach)
    axis.plot((1, 1 + length), (0.72, 0.72), color=INK, linewidth=1.6)
    for end in (1, 1 + length):
        axis.plot((end, end), (0.66, 0.78), color=INK, linewidth=1.6)
    suffix = " (wider than the axis)" if width > reach else ""
    axis.text(1, 0.84, f"critical difference {width:.2f}{suffix}", ha="left", va="bottom", fontsize=9)
