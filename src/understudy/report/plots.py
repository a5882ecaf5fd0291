"""The plots of a report, each an `<svg>` element as text; None where there is nothing to show."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import ScaledTranslation

from understudy.report.formatting import arm_label, metric_label, ordered, scale
from understudy.report.inputs import ReportInputs
from understudy.report.labels import label_of
from understudy.report.svg import GRID, NARROW, legend, style, svg
from understudy.report.svg import panels as side_by_side
from understudy.report.verdicts import names_of

_TERMS = {
    "gold": "Gold cross-entropy",
    "rollout_length": "Own answers: length, tokens",
    "rollout_finished": "Own answers: finished, share",
    "rollout_repetition": "Own answers: repeated trigrams, share",
    "rollout_overlap": "Own answers: likeliest 8 tokens in common with the teacher, share",
    "rollout_teacher_logp": "Own answers: log-probability by the teacher, nats a token",
    "rollout_age": "Own answers: age, optimiser steps",
    "rollout_reward": "Own answers: reward, nats a token",
    "taid_t": "Share of the teacher in what is learned (TAID)",
}
_STATISTICS = {
    "step",
    "epoch",
    "learning_rate",
    "grad_norm",
    "agreement",
    "student_entropy",
    "teacher_entropy",
    "stage",
}


# Training -------------------------------------------------------------------------------------------------------------


def curves_plot(curves: Mapping[str, Sequence[Mapping[str, Any]]]) -> str | None:
    """Loss terms, ROUGE-L on the development split, entropies and agreement of every stage; None without rows."""
    terms = sorted({key for rows in curves.values() for row in rows for key in row if _is_term(key)}, key=_term_order)
    panels: list[tuple[str, tuple[tuple[str, str], ...], float]] = [
        (_TERMS.get(term, term.replace("_", " ").capitalize()), ((term, "-"),), 1) for term in terms
    ]
    panels += [
        ("F1 of bundles on the development split", (("eval_bundle_f1", "-"),), 100),
        ("Accuracy on the development split", (("eval_accuracy", "-"),), 100),
        ("Macro F1 on the development split", (("eval_macro_f1", "-"),), 100),
        ("F1 of entities on the development split", (("eval_entity_f1", "-"),), 100),
        ("F1 on the development split", (("eval_token_f1", "-"),), 100),
        ("ROUGE-L on the development split", (("eval_rougeL", "-"),), 100),
        ("Gold loss on the development split, nats", (("eval_loss", "-"),), 1),
        ("Agreement of the top token, %", (("agreement", "-"),), 100),
        ("Entropy, nats (teacher dashed)", (("student_entropy", "-"), ("teacher_entropy", "--")), 1),
    ]
    panels = [
        panel for panel in panels if any(_points(rows, key, 1)[0] for rows in curves.values() for key, _ in panel[1])
    ]
    if not panels:
        return None
    plots = [_panel(curves, *panel) for panel in panels]
    return legend({_stage_label(stage): label_of(_stage_arm(stage)) for stage in curves}, "curves") + side_by_side(
        plots
    )


def _panel(
    curves: Mapping[str, Sequence[Mapping[str, Any]]], title: str, lines: Sequence[tuple[str, str]], factor: float
) -> str:
    """One quantity of all stages."""
    with style(f"curves {title}"):
        figure = Figure(figsize=(3.9, 2.5), layout="constrained")
        axis = figure.subplots()
        axis.set_title(title)
        axis.set_xlabel("step")
        for stage, rows in curves.items():
            for key, dashes in lines:
                _curve(axis, rows, key, stage, dashes, factor)
        return svg(figure, f"Training curves: {title}")


def _curve(axis: Axes, rows: Sequence[Mapping[str, Any]], key: str, stage: str, dashes: str, factor: float) -> None:
    steps, values = _points(rows, key, factor)
    if not steps:
        return
    appearance = label_of(_stage_arm(stage))
    marker = appearance.marker if len(steps) < 12 else None
    axis.plot(steps, values, dashes, color=appearance.colour, linewidth=1.7, marker=marker, markersize=4)
    if key.endswith("entropy"):
        axis.set_ylim(bottom=0)


def _points(rows: Sequence[Mapping[str, Any]], key: str, factor: float) -> tuple[list[float], list[float]]:
    points = [(row["step"], row[key]) for row in rows if _finite(row.get(key)) and _finite(row.get("step"))]
    return [step for step, _ in points], [value * factor for _, value in points]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _is_term(key: str) -> bool:
    return key not in _STATISTICS and not key.startswith(("eval_", "train_", "total_"))


def _term_order(term: str) -> tuple[int, str]:
    leading_terms = ("loss", "gold", "divergence")
    return (leading_terms.index(term) if term in leading_terms else len(leading_terms), term)


def _stage_arm(stage: str) -> str:
    arm = stage.rsplit(":", 1)[-1]
    return {"teacher_sft": "teacher", "student_sft": "base_student"}.get(arm, arm)


def _stage_label(stage: str) -> str:
    arm = stage.rsplit(":", 1)[-1]
    return {"teacher_sft": "Teacher SFT", "student_sft": "Student SFT"}.get(arm, arm_label(arm))


# Results --------------------------------------------------------------------------------------------------------------


def _bounds(figure: Mapping[str, Any], factor: float) -> tuple[float, float] | None:
    return None if figure["low"] is None else (figure["low"] * factor, figure["high"] * factor)


def _whisker(axis: Axes, value: float, bounds: tuple[float, float] | None, height: float, arm: str) -> None:
    appearance = label_of(arm)
    if bounds is not None:
        axis.plot(bounds, (height, height), color=appearance.colour, linewidth=2, solid_capstyle="round")
    axis.plot([value], [height], appearance.marker, color=appearance.colour, markersize=6.5)


def slices_plot(comparison: Mapping[str, Any], slices: Mapping[str, Mapping[str, Any]], metric: str) -> str | None:
    """Each arm on each set of items, one metric on 0 to 100, with intervals; None where nothing was measured."""
    arms = ordered(
        [arm for arm in names_of(comparison) if any(metric in part["table"].get(arm, {}) for part in slices.values())]
    )
    measured = {label: part for label, part in slices.items() if any(metric in row for row in part["table"].values())}
    if not measured:
        return None
    factor = scale(comparison, metric)
    height = 0.16 * len(arms) + 0.25
    with style("slices of " + ", ".join(measured)):  # two of them stand on a page
        figure = Figure(figsize=(NARROW, height * len(measured) + 0.6), layout="constrained")
        axis = figure.subplots()
        axis.grid(axis="y", visible=False)
        for position, part in enumerate(measured.values()):
            if position:
                axis.axhline(position - 0.5, color=GRID, linewidth=0.8)
            for number, arm in enumerate(arms):
                figures = part["table"].get(arm, {}).get(metric)
                if figures is not None:
                    offset = ((number + 0.5) / len(arms) - 0.5) * 0.8
                    _whisker(axis, figures["value"] * factor, _bounds(figures, factor), position + offset, arm)
        axis.set_yticks(range(len(measured)), [f"{label}\n{part['items']:,} items" for label, part in measured.items()])
        axis.set_ylim(len(measured) - 0.5, -0.5)
        axis.set_xlabel(f"{metric_label(metric)} (0 to 100)")
        return _arms_legend(arms, ", ".join(measured)) + svg(figure, f"{metric_label(metric)} by kind of item")


def cost_plot(inputs: ReportInputs, metric: str) -> str | None:
    """Quality against latency, memory and size of each arm's model; None where no arm has either."""
    comparison, table = inputs.comparison, inputs.comparison["overall"]["table"]
    panels = [
        ("latency_ms", "Median latency of one answer, ms", 1.0),
        ("peak_memory_mb", "Peak memory, MB", 1.0),
        ("bytes", "Weights, MB", 1e-6),
    ]
    timed = {arm: model for arm in names_of(comparison) if (model := inputs.model_of(arm)) is not None}
    arms = ordered([arm for arm in timed if metric in table.get(arm, {})])
    panels = [panel for panel in panels if any(getattr(timed[arm], panel[0]) for arm in arms)]
    if not panels:
        return None
    plots = []
    for field, label, unit in panels:
        costs = {arm: cost * unit for arm in arms if (cost := getattr(timed[arm], field))}
        plots.append(_cost_panel(comparison, metric, costs, label))
    return _arms_legend(arms, "cost") + side_by_side(plots)


def _cost_panel(comparison: Mapping[str, Any], metric: str, costs: Mapping[str, float], label: str) -> str:
    """Quality against one kind of cost; all panels have the same height on 0 to 100."""
    table, factor = comparison["overall"]["table"], scale(comparison, metric)
    measured = [row[metric] for row in table.values() if (row.get(metric) or {}).get("value") is not None]
    highest = max((figures["high"] or figures["value"]) * factor for figures in measured)
    with style(f"cost {label}"):
        figure = Figure(figsize=(3.7, 3.1), layout="constrained")
        axis = figure.subplots()
        axis.set_xlabel(label)
        for arm, cost in costs.items():
            same_cost = [name for name in costs if costs[name] == cost]
            shift = 8.0 * (same_cost.index(arm) - (len(same_cost) - 1) / 2)
            _pin(axis, cost, table[arm][metric], factor, arm, shift=shift)
        axis.set_xlim(left=0, right=max(costs.values(), default=1.0) * 1.1)
        axis.set_ylim(-0.04 * highest, max(1.06 * highest, 1.0))
        axis.set_ylabel(f"{metric_label(metric)} (0 to 100)")
        return svg(figure, f"Quality against: {label}")


def _arms_legend(arms: Sequence[str], plot: str) -> str:
    return legend({arm_label(arm): label_of(arm) for arm in arms}, plot)


def _pin(axis: Axes, cost: float, figures: Mapping[str, Any], factor: float, arm: str, *, shift: float) -> None:
    """One arm's quality at its cost, set `shift` points of print aside."""
    canvas = axis.get_figure()
    assert canvas is not None
    shifted = axis.transData + ScaledTranslation(shift / 72, 0, canvas.dpi_scale_trans)
    bounds, appearance = _bounds(figures, factor), label_of(arm)
    if bounds is not None:
        axis.plot([cost] * 2, bounds, color=appearance.colour, linewidth=2, solid_capstyle="round", transform=shifted)
    axis.plot(
        [cost],
        [figures["value"] * factor],
        appearance.marker,
        color=appearance.colour,
        markersize=7,
        transform=shifted,
    )
