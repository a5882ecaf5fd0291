"""`ReportInputs` -> one self-contained `report.run_page`.

The template only lays out; every figure, label and colour class is made here. Autoescape is on, so a model may write
what it likes. Only the plots, which are ours, go in as markup.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from understudy.report import knowledge_section, plots, run_summary
from understudy.report.inputs import ReportInputs
from understudy.report.labels import label_of
from understudy.report.page import write_page
from understudy.report.svg import colour

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
    """All that the template prints, in the order in which it stands on the page."""
    comparison = run.comparison
    metric = run_summary.primary_metric(comparison)
    arms = run_summary.ordered(comparison["arms"])
    return {
        "run": run,
        "headline": run_summary.headline(run),
        "tiles": _tiles(run, metric) if metric else [],
        "main": run_summary.arm_label(run_summary.main_arm(arms)),
        "student": label_of(run_summary.main_arm(arms)).student,
        "arms": [{"name": arm, "label": run_summary.arm_label(arm), "colour": colour(arm)} for arm in arms],
        "metrics": [_metric(comparison, name) for name in comparison["metrics"]],
        "primary": run_summary.metric_label(metric) if metric else "",
        "table": [_table_row(comparison, arm) for arm in arms],
        "pairs": _pairs(comparison),
        "gaps": _gaps(comparison),
        "slices": _slices(comparison, metric) if metric else [],
        "models": _models(run, arms),
        "model_columns": [label for _, label in _MODEL_COLUMNS],
        "contests": [_contest(contest, arms) for contest in run.examples],
        "texts": knowledge_section.view(run.texts),
        "caveats": run_summary.caveats(run),
        "confidence": f"{comparison['settings']['confidence']:.0%}",
        "plots": {
            name: Markup(plot) if plot else ""
            for name, plot in {
                "curves": plots.curves_plot(run.curves),
                "differences": plots.differences_plot(comparison),
                "kinds": plots.slices_plot(comparison, run_summary.kinds(comparison), metric) if metric else None,
                "gold_facts": plots.slices_plot(comparison, run_summary.gold_facts(comparison), metric)
                if metric
                else None,
                "cost": plots.cost_plot(run, metric) if metric else None,
            }.items()
        },
    }


def _metric(comparison: Mapping[str, Any], name: str) -> dict[str, Any]:
    about = comparison["metrics"][name]
    return {"name": name, "label": run_summary.metric_label(name), "signature": about["signature"]}


def _tiles(run: ReportInputs, metric: str) -> list[dict[str, str]]:
    """The four figures that a reader looks for first."""
    comparison = run.comparison
    table, factor = comparison["overall"]["table"], run_summary.scale(comparison, metric)
    tiles = [
        {
            "label": run_summary.arm_label(arm),
            "value": run_summary.number(table[arm][metric]["value"] * factor),
            "note": _bounds(table[arm][metric], factor),
            "colour": colour(arm),
        }
        for arm in ("sft", run_summary.main_arm(comparison["arms"]), "teacher")
        if metric in table.get(arm, {})
    ]
    gap = comparison["overall"]["gaps"].get(metric)
    if gap is not None:
        value = run_summary.number(None if gap["value"] is None else 100 * gap["value"], 0)
        note = _bounds(gap, 100, digits=0) if gap["value"] is not None else "no clear gap to recover"
        tiles.append({"label": "Gap recovered", "value": f"{value}%", "note": note, "colour": "currentColor"})
    return tiles


def _bounds(figures: Mapping[str, Any], factor: float, digits: int = 1, *, sign: bool = False) -> str:
    if figures["low"] is None:
        return "no interval"
    low, high = (run_summary.number(figures[end] * factor, digits, sign=sign) for end in ("low", "high"))
    return f"{low} to {high}"


def _table_row(comparison: Mapping[str, Any], arm: str) -> dict[str, Any]:
    table = comparison["overall"]["table"]
    cells = []
    for name in comparison["metrics"]:
        figures = table.get(arm, {}).get(name)
        if figures is None:
            cells.append({"value": run_summary.number(None), "bounds": "not measured", "best": False, "share": 0.0})
            continue
        students = [row[name]["value"] for other, row in table.items() if other != "teacher" and name in row]
        factor = run_summary.scale(comparison, name)
        cells.append(
            {
                "value": run_summary.number(figures["value"] * factor),
                "bounds": _bounds(figures, factor),
                "best": arm != "teacher" and len(students) > 1 and figures["value"] == max(students),
                "share": round(figures["value"] * factor, 1),
            }
        )
    return {"arm": arm, "label": run_summary.arm_label(arm), "colour": colour(arm), "cells": cells}


def _pairs(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every pair of arms that was compared, each with one cell a metric."""
    differences = comparison["overall"]["differences"]
    pairs = list(dict.fromkeys((d["a"], d["b"]) for d in differences))
    return [
        {
            "a": run_summary.arm_label(a),
            "b": run_summary.arm_label(b),
            "cells": [
                _difference_cell(comparison, run_summary.difference(comparison["overall"], a, b, name), name)
                for name in comparison["metrics"]
            ],
        }
        for a, b in pairs
    ]


def _difference_cell(comparison: Mapping[str, Any], found: Mapping[str, Any] | None, metric: str) -> dict[str, str]:
    if found is None:
        return {"value": run_summary.number(None), "bounds": "", "p": "", "tone": "open"}
    factor = run_summary.scale(comparison, metric)
    return {
        "value": run_summary.number(found["difference"] * factor, sign=True),
        "bounds": _bounds(found, factor, sign=True),
        "p": run_summary.p_text(found["p_value"]),
        "tone": run_summary.tone(found),
    }


def _gaps(comparison: Mapping[str, Any]) -> list[dict[str, str]]:
    rows = []
    for name, gap in comparison["overall"]["gaps"].items():
        given = gap["value"] is not None
        rows.append(
            {
                "label": run_summary.metric_label(name),
                "value": f"{run_summary.number(100 * gap['value'], 0)}%" if given else run_summary.number(None),
                "bounds": f"{_bounds(gap, 100, 0)}%" if given and gap["low"] is not None else "",
                "reason": gap["reason"],
            }
        )
    return rows


def _slices(comparison: Mapping[str, Any], metric: str) -> list[dict[str, Any]]:
    """One row a slice: the primary metric of each arm and the difference of the run's student from SFT-only."""
    main = run_summary.main_arm(comparison["arms"])
    factor = run_summary.scale(comparison, metric)
    rows = []
    for label, part in run_summary.slices(comparison).items():
        values = [part["table"].get(arm, {}).get(metric) for arm in run_summary.ordered(comparison["arms"])]
        rows.append(
            {
                "label": label,
                "items": part["items"],
                "cells": [run_summary.number(None if value is None else value["value"] * factor) for value in values],
                "difference": _difference_cell(comparison, run_summary.difference(part, main, "sft", metric), metric),
            }
        )
    return rows


def _models(run: ReportInputs, arms: Sequence[str]) -> list[dict[str, Any]]:
    """Size and speed; students that share one line of figures share one row."""
    groups: dict[int, list[str]] = {}
    for arm in arms:
        figures = run.model_of(arm)
        if figures:
            groups.setdefault(id(figures), []).append(arm)
    rows = []
    for members in groups.values():
        figures = run.model_of(members[0])
        rows.append(
            {
                "label": ", ".join(run_summary.arm_label(arm) for arm in members),
                "cells": [_model_cell(name, figures.get(name)) for name, _ in _MODEL_COLUMNS],
            }
        )
    return rows


def _model_cell(name: str, value: float | None) -> str:
    if value is None or value != value:
        return run_summary.number(None)
    units = {"bytes": "B", "latency_ms": " ms", "peak_memory_mb": " MB"}
    if name in ("parameters", "bytes"):
        return f"{run_summary.compact(value)}{units.get(name, '')}"
    return f"{value:,.0f}{units.get(name, '')}" if value >= 100 else f"{value:.3g}{units.get(name, '')}"


def _contest(contest: Mapping[str, Any], arms: Sequence[str]) -> dict[str, Any]:
    better, worse = run_summary.arm_label(contest["better"]), run_summary.arm_label(contest["worse"])
    examples = [
        {
            **example,
            "kind": run_summary.kind_label(example.get("kind") or ""),
            "gold_note": {True: "fact in the gold", False: "fact not in the gold"}.get(example.get("gold_fact"), ""),
            "answers": [
                {
                    "label": run_summary.arm_label(arm),
                    "colour": colour(arm),
                    "text": example["answers"][arm]["text"],
                    "quality": run_summary.number(100 * example["answers"][arm]["quality"], 0),
                    "right": example["answers"][arm]["quality"] >= 0.999,
                }
                for arm in arms
                if arm in example["answers"]
            ],
        }
        for example in contest["examples"]
    ]
    return {**contest, "title": f"{better} better than {worse}", "examples": examples}
