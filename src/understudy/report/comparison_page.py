"""`Comparison.to_dict()` -> one self-contained HTML page; `run_page` adds what only a run has.

The template only lays out, autoescape is on, and only our own plots go in as markup.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from understudy.report import caveats, judges
from understudy.report import comparison_plots as plots
from understudy.report.formatting import (
    arm_label,
    bounds,
    effect_bounds,
    in_a_sentence,
    items_text,
    kind_label,
    listed,
    metric_label,
    number,
    p_text,
    scale,
    spread,
)
from understudy.report.headline import headline
from understudy.report.page import write_page
from understudy.report.verdicts import (
    ComparisonJson,
    Test,
    all_tests,
    contrasts_of,
    headline_metric,
    names_of,
    tone,
    verdict_of_pair,
)


def render_comparison(comparison: ComparisonJson, path: str | os.PathLike[str], *, title: str = "") -> None:
    """Write the report of a comparison, whole or not at all; the same input gives the same bytes.

    Args:
        comparison: `Comparison.to_dict()`, or a saved `comparison.json` or `scores.json`.
        path: where the HTML file goes.
        title: heading of the page; default: the names of the systems.

    Raises:
        RunError: the file cannot be written.
    """
    write_page("comparison.html.jinja", view(comparison, title), path)


def view(comparison: ComparisonJson, title: str = "") -> dict[str, Any]:
    """All that the template prints, in the order in which it stands on the page."""
    names, overall = names_of(comparison), comparison["overall"]
    metric, contrasts = headline_metric(comparison), contrasts_of(comparison)
    return {
        "title": title or listed(names),
        "headline": headline(comparison),
        "systems": comparison["systems"],
        "items": items_text(overall["items"]),
        "grouped": overall["groups"] < overall["items"],
        "groups": overall["groups"],
        "primary": metric_label(metric) if metric else "",
        "confidence": f"{comparison['comparison']['settings']['confidence']:.0%}",
        "metrics": [{"label": metric_label(name), **facts} for name, facts in comparison["metrics"].items()],
        "table": [_row(comparison, name) for name in names],
        "pairs": [_pair(comparison, a, b) for a, b in contrasts],
        "hidden_pairs": max(0, len(contrasts) - plots.MOST_CONTRASTS),
        "ranks": _ranks(comparison, metric),
        "seeds": _seeds(comparison),
        "seed_effects": _seed_effects(comparison, metric),
        "judge": _judge(comparison),
        "contests": [_contest(contest, names) for contest in comparison["examples"] if contest["examples"]],
        "notes": comparison["notes"],
        "limits": caveats.limits(comparison),
        "methods": caveats.methods(comparison),
        "signatures": caveats.signatures(comparison),
        "plots": {
            name: Markup(plot) if plot else ""
            for name, plot in {
                "forest": plots.forest_plot(comparison),
                "heat": plots.heat_map(comparison),
                "ranks": plots.critical_difference_plot(comparison, metric),
                "radar": plots.radar_plot(comparison),
            }.items()
        },
    }


def _row(comparison: ComparisonJson, name: str) -> dict[str, Any]:
    colours = plots.colours(names_of(comparison))
    cells = []
    for metric in comparison["metrics"]:
        figures = comparison["overall"]["table"].get(name, {}).get(metric)
        if figures is None or figures["value"] is None:
            cells.append({"value": number(None), "bounds": "not measured"})
            continue
        factor = scale(comparison, metric)
        cells.append({"value": number(figures["value"] * factor), "bounds": bounds(figures, factor)})
    return {"label": arm_label(name), "colour": colours[name], "cells": cells}


def _pair(comparison: ComparisonJson, a: str, b: str) -> dict[str, Any]:
    tests = [test for test in all_tests(comparison) if (test["a"], test["b"]) == (a, b)]
    return {"a": arm_label(a), "b": arm_label(b), "rows": [_test(comparison, test) for test in tests]}


def _test(comparison: ComparisonJson, test: Test) -> dict[str, str]:
    figures, factor = test["comparison"], scale(comparison, test["metric"])
    effect, least = figures["cohen_dz"], figures["minimal_detectable"]
    return {
        "metric": metric_label(test["metric"]),
        "values": " against ".join(number(figures[side] * factor) for side in ("value_a", "value_b")),
        "difference": number(figures["difference"] * factor, sign=True),
        "bounds": bounds(figures, factor, sign=True),
        "p": p_text(test["p_holm"]),
        "effect": number(effect["value"], 2, sign=True),
        "size": effect_bounds(effect),
        "least": "–" if not least else f"±{number(least * factor)}",
        "verdict": verdict_of_pair(test),
        "tone": tone(test),
    }


def _ranks(comparison: ComparisonJson, metric: str | None) -> dict[str, Any] | None:
    ranking = comparison["comparison"]["friedman"].get(metric)
    if ranking is None:
        return None
    return {
        "items": ranking["n"],
        "p": p_text(ranking["p_value"]),
        "statistic": number(ranking["statistic"]),
        "alike": [listed(clique, most=8) for clique in ranking["cliques"]],
    }


def _seeds(comparison: ComparisonJson) -> list[dict[str, Any]]:
    """Rows of mean ± standard deviation over seeds, one a system, one cell a metric."""
    rows = []
    for name, by_metric in comparison["seeds"].items():
        cells = []
        for metric in comparison["metrics"]:
            figures = by_metric.get(metric)
            factor = scale(comparison, metric)
            text = number(None)
            if figures is not None and figures["mean"] is not None:
                text = f"{number(figures['mean'] * factor)} ± {number(figures['sd'] * factor)}"
            cells.append(text)
        seeds = next(system["seeds"] for system in comparison["systems"] if system["name"] == name)
        rows.append({"label": arm_label(name), "seeds": ", ".join(map(str, seeds)), "cells": cells})
    return rows


def _seed_effects(comparison: ComparisonJson, metric: str | None) -> list[str]:
    """What the mixed model says of the headline metric, a sentence a system."""
    model = comparison["seeds_model"].get(metric)
    if model is None or metric is None:
        return []
    factor, base = scale(comparison, metric), arm_label(model["baseline"])
    basis = (
        "seeds and items both drawn at random"
        if model["method"] == "mixed"
        else "these seeds averaged; nothing is said of other seeds"
    )
    return [
        f"{arm_label(effect['system'])} − {base} in {in_a_sentence(metric_label(metric))}: "
        f"{spread(effect, factor)} points, {p_text(effect['p_value'])} ({basis})."
        for effect in model["effects"]
    ]


def _judge(comparison: ComparisonJson) -> list[dict[str, str]]:
    """What the judged metrics found out about their judge, one row a metric and system."""
    return [
        {
            "metric": metric_label(metric),
            "system": arm_label(name),
            "reliability": "; ".join(judges.reliability(details)),
        }
        for metric, systems in comparison["judge"].items()
        for name, details in systems.items()
    ]


def _contest(contest: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    ink = plots.colours(names)
    examples = [
        {
            **example,
            "kind": kind_label(example.get("kind") or ""),
            "gold_note": {True: "fact in the gold", False: "fact not in the gold"}.get(example.get("gold_fact"), ""),
            "answers": [
                {
                    "label": arm_label(name),
                    "colour": ink[name],
                    "text": answer["text"],
                    "quality": number(100 * answer["quality"], 0),
                    "right": answer["quality"] >= 0.999,
                }
                for name, answer in example["answers"].items()
            ],
        }
        for example in contest["examples"]
    ]
    title = f"{arm_label(contest['better'])} better than {arm_label(contest['worse'])}"
    return {**contest, "title": title, "examples": examples}
