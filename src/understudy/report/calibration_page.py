"""`calibration/report.json` -> one self-contained HTML page, and the sentences that the terminal shows."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from understudy.report import calibration_plots as plots
from understudy.report.formatting import arm_label, in_a_sentence, metric_label, number, percent
from understudy.report.page import write_page

Json = Mapping[str, Any]

MEASURES = {
    "mean_logp": "Mean log-probability of the answer's tokens",
    "sum_logp": "Sum of the tokens' log-probabilities",
    "min_logp": "Least log-probability of a token",
    "first_logp": "Log-probability of the first token",
    "early_logp": "Mean log-probability of the first four tokens",
    "first_margin": "Margin of the first token over the second likeliest",
    "span_logp": "Log-probability of the span",
    "choice_probability": "Probability of the likeliest option",
}
_BINS = {"mass": "equal mass", "width": "equal width"}


def render_calibration(report: Json, path: str | os.PathLike[str]) -> None:
    """Write the page, whole or not at all; the same report gives the same bytes.

    Args:
        report: what `report.json` holds.
        path: where the HTML file goes.

    Raises:
        RunError: the file cannot be written.
    """
    write_page("calibration.html.jinja", view(report), path)


def summary(report: Json) -> list[str]:
    """What was found, in sentences."""
    reliability, calibration = report["reliability"], report["calibration"]
    ece, auroc = reliability["ece"]["mass"], reliability["auroc"]
    sentences = [
        f"{arm_label(report['arm'])} says {percent(reliability['probability'])} on {reliability['n']:,} test rows and "
        f"is right on {percent(reliability['right'])}: expected calibration error {_spread(ece, 100)} points; a "
        f"perfectly calibrated model would show {number(100 * reliability['floor']['mass'])}.",
        f"Right answers are told from wrong ones with an AUROC of {_spread(auroc, 1, 3)}, by "
        f"{in_a_sentence(MEASURES[calibration['measure']])}.",
    ]
    return sentences + (_cascade_sentences(report) if report["chosen"] else [])


def _cascade_sentences(report: Json) -> list[str]:
    chosen, always = report["chosen"], report["points"][-1]
    metric, factor = report["metric"], 100 / report["maxima"][report["metric"]]
    quality = chosen["quality"][metric]
    behind = {"value": quality["behind"], "low": quality["behind_low"], "high": quality["behind_high"]}
    cost = (
        f" 1,000 answers cost {number(chosen['cost'], 3)} instead of {number(_teacher_alone(report), 3)}."
        if report["priced"]
        else ""
    )
    return [
        f"Below a probability of {number(report['calibration']['threshold'], 3)} the teacher is asked: on "
        f"{percent(chosen['asked'])} of the test rows. {metric_label(metric)} is {number(factor * quality['value'])}, "
        f"the teacher's {number(factor * always['quality'][metric]['value'])}: "
        f"{_spread(behind, factor, sign=True)} points.{cost}",
        f"The threshold is the one of {report['calibration']['rule']}.",
    ]


def _teacher_alone(report: Json) -> float:
    """The cost of a teacher that is asked at once: without the student's tokens."""
    never, always = report["points"][0], report["points"][-1]
    return always["cost"] - never["cost"]


def view(report: Json) -> dict[str, Any]:
    """All that the template prints, in the order in which it stands on the page."""
    metrics = list(report["points"][0]["quality"]) if report["points"] else []
    first, *rest = summary(report)
    return {
        "title": f"{report['name']}: can {in_a_sentence(arm_label(report['arm']))} be believed?",
        "verdict": first,
        "sentences": rest,
        "report": report,
        "arm": arm_label(report["arm"]),
        "confidence": f"{report['confidence']:.0%}",
        "metrics": [metric_label(name) for name in metrics],
        "points": [_row(report, point, metrics) for point in report["points"]],
        "measures": _measures(report),
        "reliability": _reliability(report),
        "early": _early(report),
        "limits": _limits(report),
        "plots": {
            "reliability": Markup(plots.reliability_plot(report)),
            "cascade": Markup(plots.cascade_plots(report)) if report["points"] else "",
        },
    }


def _spread(figure: Json, factor: float, digits: int = 1, *, sign: bool = False) -> str:
    """A figure with its interval."""
    value = number(None if figure["value"] is None else factor * figure["value"], digits, sign=sign)
    if figure["low"] is None:
        return f"{value} (no interval)"
    low, high = (number(factor * figure[end], digits, sign=sign) for end in ("low", "high"))
    return f"{value} ({low} to {high})"


def _row(report: Json, point: Json, metrics: list[str]) -> dict[str, Any]:
    cells = []
    for name in metrics:
        factor, quality = 100 / report["maxima"][name], point["quality"][name]
        behind = {"value": quality["behind"], "low": quality["behind_low"], "high": quality["behind_high"]}
        cells.append({"value": number(factor * quality["value"]), "bounds": _spread(behind, factor, sign=True)})
    return {
        "threshold": "always" if point["threshold"] > 1 else number(point["threshold"], 3),
        "asked": percent(point["asked"]),
        "cells": cells,
        "seconds": number(point["seconds"], 4),
        "p95": number(point["seconds_p95"], 4),
        "tokens": number(point["teacher_tokens"]),
        "cost": number(point["cost"], 3),
        "chosen": point == report["chosen"],
    }


def _measures(report: Json) -> list[dict[str, str]]:
    calibration = report["calibration"]
    used = {calibration["early_measure"]: "for early decisions"} | {calibration["measure"]: "used"}
    return [
        {
            "label": MEASURES[name],
            "dev": number(entry["auroc"], 3),
            "test": number(report["measures"][name], 3),
            "brier": number(entry["brier"], 4),
            "map": entry["kind"],
            "use": used.get(name, ""),
        }
        for name, entry in calibration["maps"].items()
    ]


def _reliability(report: Json) -> list[tuple[str, str]]:
    figures = report["reliability"]
    rows = [("Rows", f"{figures['n']:,}"), ("Share right", percent(figures["right"]))]
    rows += [("Mean probability", percent(figures["probability"])), ("AUROC", _spread(figures["auroc"], 1, 3))]
    for kind, label in _BINS.items():
        rows.append((f"ECE, bins of {label}, points", _spread(figures["ece"][kind], 100)))
        rows.append((f"the same of a perfect model, bins of {label}", number(100 * figures["floor"][kind])))
    constant = number(figures["brier_constant"], 4)
    return [*rows, ("Brier score", f"{number(figures['brier'], 4)}; of one probability for all {constant}")]


def _early(report: Json) -> str:
    early = report["early"]
    if early is None:
        return ""
    calibration, metric = report["calibration"], report["metric"]
    factor = 100 / report["maxima"][metric]
    return (
        f"Where a decision must fall on the first tokens, {in_a_sentence(MEASURES[calibration['early_measure']])} "
        f"decides, at {number(calibration['early_threshold'], 3)}: the teacher is asked on {percent(early['asked'])} "
        f"of the test rows, and {in_a_sentence(metric_label(metric))} is "
        f"{number(factor * early['quality'][metric]['value'])}."
    )


def _limits(report: Json) -> list[str]:
    limits = [
        "A probability holds for questions like those of the development split. Others, or another student, need their "
        "own calibration; the file names the weights that it was measured on.",
        "An expected calibration error is pulled upwards by chance, the more the fewer rows a bin has: compare it with "
        "that of the perfect model, not with 0.",
        "An interval is of the test rows, with measure, map and threshold as they are: what other development rows "
        "would have chosen is not in it.",
    ]
    if report["points"]:
        limits.append(
            f"Seconds are each answer's share of a batch of {report['batch_size']:,} on the machine that answered, "
            "student and teacher one after the other. Batches of 1 (--batch-size 1) give the latency of "
            "a single question."
        )
    if report["points"] and not report["priced"]:
        limits.append("No prices are known: name them with --student-prices and --teacher-prices.")
    return limits
