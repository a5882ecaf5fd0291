"""`SideBySide.to_dict()` -> one self-contained HTML page.

As in `html.py`: the template only lays out, autoescape is on, and only our own plots go in as markup.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from understudy.report import caveats, comparison_summary, judges, run_summary
from understudy.report import comparison_plots as plots
from understudy.report.comparison_summary import Comparison
from understudy.report.page import write_page


def render_comparison(comparison: Comparison, path: str | os.PathLike[str], *, title: str = "") -> None:
    """Write the report of a comparison, whole or not at all; the same input gives the same bytes.

    Args:
        comparison: `SideBySide.to_dict()`, or a saved `comparison.json`.
        path: where the HTML file goes.
        title: heading of the page; default: the names of the systems.

    Raises:
        RunError: the file cannot be written.
    """
    write_page("comparison.html.jinja", view(comparison, title), path)


def view(comparison: Comparison, title: str = "") -> dict[str, Any]:
    """All that the template prints, in the order in which it stands on the page."""
    names = [system["name"] for system in comparison["systems"]]
    metric, pairs = comparison_summary.headline_metric(comparison), comparison_summary.pairs_of(comparison)
    return {
        "title": title or f"{comparison_summary.listed([run_summary.arm_label(name) for name in names])}",
        "headline": comparison_summary.headline(comparison),
        "systems": comparison["systems"],
        "items": run_summary.items_text(comparison["items"]),
        "grouped": comparison["groups"] < comparison["items"],
        "groups": comparison["groups"],
        "primary": run_summary.metric_label(metric) if metric else "",
        "confidence": f"{comparison['comparison']['settings']['confidence']:.0%}",
        "metrics": [
            {"label": run_summary.metric_label(name), **about} for name, about in comparison["metrics"].items()
        ],
        "table": [_row(comparison, name) for name in names],
        "pairs": [_pair(comparison, a, b) for a, b in pairs],
        "hidden_pairs": max(0, len(pairs) - plots.MOST_PAIRS),
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


def _row(comparison: Comparison, name: str) -> dict[str, Any]:
    ink = plots.colours([system["name"] for system in comparison["systems"]])
    cells = []
    for metric in comparison["metrics"]:
        figures = comparison["table"][name].get(metric)
        if figures is None or figures["value"] is None:
            cells.append({"value": run_summary.number(None), "bounds": "not measured"})
            continue
        factor = run_summary.scale(comparison, metric)
        bounds = "no interval"
        if figures["low"] is not None:
            bounds = f"{run_summary.number(figures['low'] * factor)} to {run_summary.number(figures['high'] * factor)}"
        cells.append({"value": run_summary.number(figures["value"] * factor), "bounds": bounds})
    return {"label": run_summary.arm_label(name), "colour": ink[name], "cells": cells}


def _pair(comparison: Comparison, a: str, b: str) -> dict[str, Any]:
    tests = [test for test in comparison_summary.tests_of(comparison) if (test["a"], test["b"]) == (a, b)]
    rows = []
    for test in tests:
        found, factor = test["comparison"], run_summary.scale(comparison, test["metric"])
        effect, least = found["cohen_dz"], found["minimal_detectable"]
        values = (run_summary.number(found[side] * factor) for side in ("value_a", "value_b"))
        rows.append(
            {
                "metric": run_summary.metric_label(test["metric"]),
                "values": " against ".join(values),
                "difference": run_summary.number(found["difference"] * factor, sign=True),
                "bounds": comparison_summary.spread(found, factor).partition(" ")[2].strip("()"),
                "p": run_summary.p_text(test["p_holm"]),
                "effect": run_summary.number(effect["value"], 2, sign=True),
                "size": comparison_summary.around(effect),
                "least": "–" if not least else f"±{run_summary.number(least * factor)}",
                "verdict": comparison_summary.verdict_of_pair(test),
                "tone": comparison_summary.tone(test),
            }
        )
    return {"a": run_summary.arm_label(a), "b": run_summary.arm_label(b), "rows": rows}


def _ranks(comparison: Comparison, metric: str | None) -> dict[str, Any] | None:
    found = comparison["comparison"]["friedman"].get(metric)
    if found is None:
        return None
    return {
        "items": found["n"],
        "p": run_summary.p_text(found["p_value"]),
        "statistic": run_summary.number(found["statistic"]),
        "alike": [
            comparison_summary.listed([run_summary.arm_label(name) for name in clique], most=8)
            for clique in found["cliques"]
        ],
    }


def _seeds(comparison: Comparison) -> list[dict[str, Any]]:
    """Rows of mean ± standard deviation over seeds, one a system, one cell a metric."""
    rows = []
    for name, figures in comparison["seeds"].items():
        cells = []
        for metric in comparison["metrics"]:
            found = figures.get(metric)
            factor = run_summary.scale(comparison, metric)
            text = run_summary.number(None)
            if found is not None and found["mean"] is not None:
                text = f"{run_summary.number(found['mean'] * factor)} ± {run_summary.number(found['sd'] * factor)}"
            cells.append(text)
        seeds = next(system["seeds"] for system in comparison["systems"] if system["name"] == name)
        rows.append({"label": run_summary.arm_label(name), "seeds": ", ".join(map(str, seeds)), "cells": cells})
    return rows


def _seed_effects(comparison: Comparison, metric: str | None) -> list[str]:
    """What the mixed model says of the headline metric, a sentence a system."""
    model = comparison["seeds_model"].get(metric)
    if model is None or metric is None:
        return []
    factor, base = run_summary.scale(comparison, metric), run_summary.arm_label(model["baseline"])
    how = (
        "seeds and items both drawn at random"
        if model["method"] == "mixed"
        else "these seeds averaged; nothing is said of other seeds"
    )
    return [
        f"{run_summary.arm_label(effect['system'])} − {base} in "
        f"{run_summary.in_a_sentence(run_summary.metric_label(metric))}: "
        f"{comparison_summary.spread(effect, factor)} points, {run_summary.p_text(effect['p_value'])} ({how})."
        for effect in model["effects"]
    ]


def _judge(comparison: Comparison) -> list[dict[str, str]]:
    """What the judged metrics found out about their judge, one row a metric and system."""
    return [
        {
            "metric": run_summary.metric_label(metric),
            "system": run_summary.arm_label(name),
            "found": "; ".join(judges.reliability(details)),
        }
        for metric, systems in comparison["judge"].items()
        for name, details in systems.items()
    ]


def _contest(contest: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    ink = plots.colours(names)
    better, worse = run_summary.arm_label(contest["better"]), run_summary.arm_label(contest["worse"])
    examples = [
        {
            **example,
            "kind": run_summary.kind_label(example.get("kind") or ""),
            "answers": [
                {
                    "label": run_summary.arm_label(name),
                    "colour": ink[name],
                    "text": answer["text"],
                    "quality": run_summary.number(100 * answer["quality"], 0),
                    "right": answer["quality"] >= 0.999,
                }
                for name, answer in example["answers"].items()
            ],
        }
        for example in contest["examples"]
    ]
    return {**contest, "title": f"{better} better than {worse}", "examples": examples}
