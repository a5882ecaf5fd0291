"""The analysis of a grid as one self-contained HTML page, and as CSV.

As in `comparison_page`: the template only lays out, autoescape is on, and only our own plots go in as markup.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from markupsafe import Markup

from understudy.report.formatting import arm_label, in_a_sentence, metric_label, number, p_text
from understudy.report.grid_inputs import (
    CellFigures,
    GridAnalysis,
    ReferenceFigures,
    SeedMean,
    StudyFinding,
    StudyQuestion,
)
from understudy.report.grid_plots import cells_plot, curve_plot
from understudy.report.headline import Headline
from understudy.report.page import write_page
from understudy.report.pareto import COSTS, FORMULA, front, measured, pareto_plot
from understudy.report.tables import csv_cell

_TONES = {"holds": "better", "does not hold": "worse", "cannot be told": "open"}


def render_grid(analysis: GridAnalysis, path: str | os.PathLike[str], *, cost: str = "flops") -> None:
    """Write the page, whole or not at all; the same input gives the same bytes.

    Args:
        analysis: what `grid.analysis.analyse` gives.
        path: where the HTML file goes.
        cost: what quality is drawn against, a name of `report.pareto.COSTS`.

    Raises:
        RunError: the file cannot be written.
    """
    write_page("grid.html.jinja", view(analysis, cost), path)


def grid_csv(analysis: GridAnalysis) -> str:
    """One line a cell and metric, then one a reference and metric, on the metric's own scale.

    What is not known is empty. The level of an axis that makes no difference to a reference is empty too.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*map(csv_cell, analysis.axes), "arm", "metric", "seeds", "mean", "sd", "low", "high"])
    lines = [(analysis.arm, entry.levels, entry.metrics) for entry in analysis.cells]
    lines += [(entry.arm, entry.levels, entry.metrics) for entry in analysis.references]
    for arm, levels, metrics in lines:
        for metric, figures in metrics.items():
            labels = [csv_cell(levels.get(axis, "")) for axis in analysis.axes]
            values = [figures.n, figures.mean, figures.sd, figures.low, figures.high]
            writer.writerow([*labels, csv_cell(arm), csv_cell(metric), *values])
    return out.getvalue()


def primary_metric(analysis: GridAnalysis) -> str:
    """The metric of the plot and of the headline: of sessions F1 of bundles, else ROUGE-L where there is one."""
    preferred = (name for name in ("bundle_f1", "rougeL") if name in analysis.metrics)
    return next(preferred, next(iter(analysis.metrics)))


def view(analysis: GridAnalysis, cost: str = "flops") -> dict[str, Any]:
    """All that the template prints, in the order in which it stands on the page."""
    metrics, metric, settings = list(analysis.metrics), primary_metric(analysis), analysis.settings
    plot = cells_plot(analysis, metric)
    return {
        "title": analysis.name,
        "arm": analysis.arm,
        "headline": grid_headline(analysis),
        "findings": [_finding(analysis, finding) for finding in analysis.findings],
        "questions": [_question(analysis, question) for question in analysis.questions],
        "costs": costs_view(analysis, metric, cost) if analysis.costs else None,
        "axes": list(analysis.axes),
        "metrics": [metric_label(name) for name in metrics],
        "cells": [_cell(analysis, entry, metrics) for entry in analysis.cells],
        "references": [_reference(analysis, entry, metrics) for entry in analysis.references],
        "not_measured": {metric_label(name): reason for name, reason in analysis.not_measured.items()},
        "plot": Markup(plot) if plot else "",
        "primary": in_a_sentence(metric_label(metric)),
        "anova": [_anova(analysis, name) for name in metrics],
        "families": _families(analysis),
        "tests": len(analysis.tests),
        "notes": analysis.notes,
        "confidence": f"{settings.confidence:.0%}",
        "resamples": f"{settings.draws:,}",
    }


def grid_headline(analysis: GridAnalysis) -> Headline:
    """The best cell and which axes moved the primary metric, in words."""
    metric, alpha = primary_metric(analysis), analysis.settings.alpha
    sign = 1.0 if analysis.metrics[metric].higher_is_better else -1.0
    measured = [entry for entry in analysis.cells if metric in entry.metrics]
    best = max(measured, key=lambda entry: sign * entry.metrics[metric].mean)
    label, value = in_a_sentence(metric_label(metric)), _points(analysis, metric, best.metrics[metric].mean)
    clear = [name for name, p_holm in analysis.anova[metric].p_holm.items() if p_holm < alpha]
    sentences = [
        f"{len(analysis.cells)} cells, {analysis.runs} runs. The highest mean {label}, {value}, is that of: "
        f"{_levels_text(best.levels)}.",
        f"Significant effects on {label}: {', '.join(clear)}." if clear else f"No axis moves {label} significantly.",
    ]
    verdicts = [f"({finding.finding}) {finding.verdict}" for finding in analysis.findings]
    sentences += [f"{question.question} {question.answer}." for question in analysis.questions]
    if verdicts:
        sentences.append(f"The study's findings: {', '.join(verdicts)}.")
    return Headline("better" if clear else "open", f"{analysis.name}: what mattered", tuple(sentences))


def _levels_text(levels: Mapping[str, str]) -> str:
    return ", ".join(f"{axis} {label}" for axis, label in levels.items()) or "the only cell"


def _points(analysis: GridAnalysis, metric: str, value: float | None, *, sign: bool = False) -> str:
    factor = 100.0 / analysis.metrics[metric].maximum
    return number(None if value is None else factor * value, sign=sign)


def _cell(analysis: GridAnalysis, entry: CellFigures, metrics: Sequence[str]) -> dict[str, Any]:
    figures = _figures(analysis, entry.metrics, metrics)
    return {"levels": list(entry.levels.values()), "seeds": len(entry.seeds), "figures": figures}


def _reference(analysis: GridAnalysis, entry: ReferenceFigures, metrics: Sequence[str]) -> dict[str, Any]:
    name = arm_label(entry.arm) + (f" ({_levels_text(entry.levels)})" if entry.levels else "")
    return {"name": name, "seeds": len(entry.seeds), "figures": _figures(analysis, entry.metrics, metrics)}


def _figures(analysis: GridAnalysis, means: Mapping[str, SeedMean], metrics: Sequence[str]) -> list[dict[str, str]]:
    figures = []
    for metric in metrics:
        summary = means.get(metric)
        value = low = high = None
        if summary is not None:
            value, low, high = summary.mean, summary.low, summary.high
        bounds = "" if low is None else f"{_points(analysis, metric, low)} to {_points(analysis, metric, high)}"
        figures.append({"value": _points(analysis, metric, value), "bounds": bounds})
    return figures


def _anova(analysis: GridAnalysis, metric: str) -> dict[str, Any]:
    """One metric's analysis of variance, and Tukey's pairs of the levels of each axis."""
    effects, alpha = analysis.anova[metric], analysis.settings.alpha
    if effects.anova is None:
        return {"metric": metric_label(metric), "terms": [], "tukey": [], "reason": effects.reason, "notes": []}
    anova = effects.anova
    sign = 1.0 if analysis.metrics[metric].higher_is_better else -1.0

    def points(value: float) -> str:
        return _points(analysis, metric, value, sign=True)

    terms = [
        {
            "name": term.name,
            "f": number(term.f),
            "p": p_text(term.p_value),
            "holm": p_text(effects.p_holm[term.name]),
            "omega": number(term.partial_omega_squared, 2),
            "tone": "better" if effects.p_holm[term.name] < alpha else "open",
        }
        for term in anova.terms
    ]
    pairs = [
        {
            "factor": pair.factor,
            "pair": f"{pair.a} − {pair.b}",
            "difference": points(pair.difference),
            "bounds": f"{points(pair.low)} to {points(pair.high)}",
            "p": p_text(pair.p_value),
            "tone": "open" if pair.p_value >= alpha else "better" if sign * pair.difference > 0 else "worse",
        }
        for pair in anova.tukey
    ]
    assumptions = ""
    if terms:
        levene, shapiro = p_text(anova.levene_p), p_text(anova.shapiro_p)
        assumptions = f"Equal spread (Levene, medians): {levene}. Normal residuals (Shapiro and Wilk): {shapiro}."
    return {
        "metric": metric_label(metric),
        "terms": terms,
        "tukey": pairs,
        "reason": "",
        "assumptions": assumptions,
        "notes": anova.notes,
    }


def _families(analysis: GridAnalysis) -> list[dict[str, Any]]:
    """The paired tests, axis by axis."""
    families: dict[str, list[dict[str, Any]]] = {}
    for test in analysis.tests:
        difference, low, high = (
            _points(analysis, test.metric, value, sign=True) for value in (test.difference, test.low, test.high)
        )
        row = {
            "pair": f"{test.level_a} − {test.level_b}",
            "others": _levels_text(test.others) if test.others else "",
            "metric": metric_label(test.metric),
            "difference": difference,
            "bounds": f"{low} to {high}" if isfinite(test.low) else "",
            "p": p_text(test.p_holm),
            "tone": {"a": "better", "b": "worse"}.get(test.better, "open"),
        }
        families.setdefault(test.axis, []).append(row)
    clear = {axis: sum(row["tone"] != "open" for row in rows) for axis, rows in families.items()}
    return [{"axis": axis, "rows": rows, "significant": clear[axis]} for axis, rows in families.items()]


def _question(analysis: GridAnalysis, question: StudyQuestion) -> dict[str, Any]:
    """A question of the bundle study, its tests in points."""
    rows = [
        {
            "what": row.what,
            "metric": metric_label(row.metric),
            "difference": _points(analysis, row.metric, row.difference, sign=True),
            "bounds": " to ".join(_points(analysis, row.metric, value, sign=True) for value in (row.low, row.high)),
            "p": p_text(row.p_holm),
            "runs": row.runs,
            "tone": "open" if not row.better else "better" if row.what.startswith(f"{row.better} −") else "worse",
        }
        for row in question.tests
    ]
    plot = curve_plot(question) if question.curve else ""
    return {
        "question": question.question,
        "axis": question.axis,
        "answer": question.answer,
        "tone": "better" if any(row["tone"] != "open" for row in rows) else "open",
        "rows": rows,
        "plot": Markup(plot),
        "metric": in_a_sentence(metric_label(question.metric)) if question.metric else "",
    }


def costs_view(analysis: GridAnalysis, metric: str, cost: str) -> dict[str, Any]:
    """Quality against cost: the plot, and a line a cell, the cells in front marked."""
    points = measured(analysis, metric, cost)
    ahead = {id(points[place][0]) for place in front([(value, quality) for _, value, quality in points])}
    lines = [
        {
            "name": _levels_text(one.levels) if one.arm == analysis.arm else arm_label(one.arm),
            "front": id(one) in ahead,
            "quality": _points(analysis, metric, one.quality.get(metric)),
            "training": large(one.training_tokens),
            "read": number(one.input_tokens),
            "written": number(one.output_tokens),
            "flops": "–" if one.flops is None else large(one.flops),
            "seconds": number(one.seconds, 3),
            "memory": number(one.memory_mb, 0),
            "money": number(one.money, 4),
        }
        for one in sorted(analysis.costs, key=lambda one: -one.quality.get(metric, 0.0))
    ]
    return {
        "plot": Markup(pareto_plot(analysis, metric, cost)),
        "metric": in_a_sentence(metric_label(metric)),
        "label": metric_label(metric),
        "cost": COSTS[cost],
        "formula": FORMULA,
        "lines": lines,
        "missing": len(analysis.costs) - len(points),
    }


def large(value: float) -> str:
    """A count that may have many digits, in three of them."""
    power = len(str(int(abs(value)))) - 1
    return f"{value:,.0f}" if power < 5 else f"{value / 10**power:.2f}e{power}"


def _finding(analysis: GridAnalysis, finding: StudyFinding) -> dict[str, Any]:
    rows = []
    for row in finding.rows:
        text = (
            _points(analysis, row.metric, row.difference, sign=True)
            if row.metric in analysis.metrics
            else number(row.difference, 3, sign=True)
        )
        p = row.reason or p_text(row.p_holm)
        rows.append({"what": row.what, "metric": metric_label(row.metric), "difference": text, "p": p})
    fields = {key: getattr(finding, key) for key in ("finding", "claim", "test", "verdict", "why")}
    return {**fields, "tone": _TONES[finding.verdict], "rows": rows}
