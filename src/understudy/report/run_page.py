"""`ReportInputs` -> one self-contained page of a run: that of its comparison, with parts, gap, cost and training.

Every figure, label and colour class is made here and in `comparison_page`; the template only lays out.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from markupsafe import Markup

from understudy.arms import main_arm
from understudy.records import ModelSpeed
from understudy.report import caveats, comparison_page, knowledge_section, plots
from understudy.report.formatting import (
    arm_label,
    bounds,
    compact,
    metric_label,
    number,
    ordered,
    percent,
    percent_bounds,
    scale,
)
from understudy.report.inputs import ReportInputs
from understudy.report.labels import label_of
from understudy.report.page import write_page
from understudy.report.verdicts import (
    ComparisonJson,
    fields,
    gold_facts,
    headline_metric,
    kinds,
    names_of,
    slice_test,
    slices,
    tone,
)

_MODEL_COLUMNS = (
    ("parameters", "Parameters"),
    ("bytes", "Weights"),
    ("tokens_per_second", "Tokens/s"),
    ("latency_ms", "Median latency"),
    ("peak_memory_mb", "Peak memory"),
)


def render_report(run: ReportInputs, path: str | os.PathLike[str]) -> None:
    """Write the report, whole or not at all.

    The same inputs give the same bytes: no date and no random id goes in.

    Args:
        run: what to show.
        path: where the HTML file goes.

    Raises:
        RunError: the file cannot be written.
    """
    write_page("report.html.jinja", view(run), path)


def view(run: ReportInputs) -> dict[str, Any]:
    """All that the template prints: the page of the comparison, and what only a run has."""
    comparison = run.comparison
    page, metric, arms = comparison_page.view(comparison, run.name), headline_metric(comparison), _arms(comparison)
    run_plots = {
        "curves": plots.curves_plot(run.curves),
        "kinds": plots.slices_plot(comparison, kinds(comparison), metric) if metric else None,
        "gold_facts": plots.slices_plot(comparison, gold_facts(comparison), metric) if metric else None,
        "fields": plots.slices_plot(comparison, fields(comparison), metric) if metric else None,
        "cost": plots.cost_plot(run, metric) if metric else None,
    }
    return page | {
        "run": run,
        "tiles": _tiles(comparison, metric) if metric else [],
        "size": size_sentence(run),
        "main": arm_label(main_arm(arms)),
        "arms": [arm_label(arm) for arm in arms],
        "gaps": _gaps(comparison),
        "slices": _slices(comparison, metric) if metric else [],
        "models": _models(run, arms),
        "model_columns": [label for _, label in _MODEL_COLUMNS],
        "texts": knowledge_section.view(run.texts),
        "limits": caveats.limits(comparison, timed=bool(run.models)),
        "plots": page["plots"] | {name: Markup(plot) if plot else "" for name, plot in run_plots.items()},
    }


def _arms(comparison: ComparisonJson) -> list[str]:
    return ordered(names_of(comparison))


def size_sentence(inputs: ReportInputs) -> str:
    """How much smaller and faster the student is than the teacher; empty where that is not known."""
    teacher, student = inputs.model_of("teacher"), inputs.model_of(main_arm(names_of(inputs.comparison)))
    if teacher is None or student is None:
        return ""
    phrases = []
    for field, text in (
        ("parameters", "{}\N{MULTIPLICATION SIGN} fewer parameters"),
        ("bytes", "{}\N{MULTIPLICATION SIGN} smaller weights"),
    ):
        large, small = getattr(teacher, field), getattr(student, field)
        if large and small and large > small:
            phrases.append(text.format(number(large / small)))
    slow, fast = teacher.latency_ms, student.latency_ms
    if slow and fast:
        adjective = "faster" if fast <= slow else "slower"
        phrases.append(
            f"{number(max(slow, fast) / min(slow, fast))}\N{MULTIPLICATION SIGN} {adjective} to answer one question"
        )
    return f"The student against the teacher: {', '.join(phrases)}." if phrases else ""


def _tiles(comparison: ComparisonJson, metric: str) -> list[dict[str, str]]:
    """The four figures that a reader looks for first."""
    table, factor = comparison["overall"]["table"], scale(comparison, metric)
    tiles = [
        {
            "label": arm_label(arm),
            "value": number(table[arm][metric]["value"] * factor),
            "note": bounds(table[arm][metric], factor),
            "colour": label_of(arm).colour,
        }
        for arm in ("sft", main_arm(names_of(comparison)), "teacher")
        if metric in table.get(arm, {})
    ]
    gap = comparison["gaps"].get(metric)
    if gap is not None:
        value = percent(gap["value"])
        note = "no clear gap to recover" if gap["value"] is None else percent_bounds(gap) or "no interval"
        tiles.append({"label": "Gap recovered", "value": value, "note": note, "colour": "currentColor"})
    return tiles


def _gaps(comparison: ComparisonJson) -> list[dict[str, str]]:
    return [
        {
            "label": metric_label(name),
            "value": percent(gap["value"]),
            "bounds": percent_bounds(gap),
            "reason": gap["reason"],
        }
        for name, gap in comparison["gaps"].items()
    ]


def _slices(comparison: ComparisonJson, metric: str) -> list[dict[str, Any]]:
    """One row a part: the primary metric of each arm and the difference of the run's student from SFT-only."""
    factor = scale(comparison, metric)
    rows = []
    for label, part in slices(comparison).items():
        values = [part["table"].get(arm, {}).get(metric) for arm in _arms(comparison)]
        test = slice_test(part, metric)
        difference = {"value": number(None), "bounds": "", "tone": "open"}
        if test is not None:
            figures = test["comparison"]
            difference["value"] = number(figures["difference"] * factor, sign=True)
            difference |= {"bounds": bounds(figures, factor, sign=True), "tone": tone(test)}
        rows.append(
            {
                "label": label,
                "items": part["items"],
                "cells": [number(None if value is None else value["value"] * factor) for value in values],
                "difference": difference,
            }
        )
    return rows


def _models(run: ReportInputs, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Size and speed; students that share one line of figures share one row."""
    members: dict[int, list[str]] = {}
    models: dict[int, ModelSpeed] = {}
    for arm in arms:
        if (model := run.model_of(arm)) is not None:
            models[id(model)] = model
            members.setdefault(id(model), []).append(arm)
    return [
        {
            "label": ", ".join(map(arm_label, members[key])),
            "cells": [_model_cell(name, getattr(model, name)) for name, _ in _MODEL_COLUMNS],
        }
        for key, model in models.items()
    ]


def _model_cell(name: str, value: float | None) -> str:
    if value is None or value != value:
        return number(None)
    units = {"bytes": "B", "latency_ms": " ms", "peak_memory_mb": " MB"}
    if name in ("parameters", "bytes"):
        return f"{compact(value)}{units.get(name, '')}"
    return f"{value:,.0f}{units.get(name, '')}" if value >= 100 else f"{value:.3g}{units.get(name, '')}"
