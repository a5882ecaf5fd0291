"""What a finished grid shows: means over seeds, which axis mattered, and tests between cells that differ in one axis.

Effects of axes are judged by *runs* (analysis of variance over one value a run), differences between two cells by
*questions* (paired tests, their seeds averaged). The first speaks of training runs like these, the second of questions
like these.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from understudy.arms import main_arm
from understudy.errors import ConfigError, DataError
from understudy.files import read_json, read_jsonl
from understudy.grid.table import TableRow, grid_table, unfinished
from understudy.grid.telecom_study import findings
from understudy.metrics.registry import EMBEDDING, JUDGED, METRICS, STUDY_METRICS
from understudy.metrics.significance import DEFAULT_RESAMPLING, Resampling, adjusted, compare_many, factorial_anova
from understudy.pipeline.knowledge_report import taught_note
from understudy.records import Prediction
from understudy.run import Run

SEED = "seed"


def analyse(path: Path, *, arm: str | None = None, resampling: Resampling = DEFAULT_RESAMPLING) -> dict[str, Any]:
    """Everything that the report of a grid says, as plain values.

    Args:
        path: the grid's folder.
        arm: whose answers; default: the one that the grid is about, distilled or explained.
        resampling: draws of the paired tests and level of the intervals; 1 − confidence is that of the tests.

    Raises:
        ConfigError: no grid's folder, or no finished cell has that arm.
    """
    all_rows, plan = grid_table(path), read_json(path / "plan.json")
    arm = arm or main_arm({row.arm for row in all_rows})
    rows = [row for row in all_rows if row.arm == arm]
    if not rows:
        raise ConfigError(
            f"{path} has no finished cell with an arm {arm!r}",
            hint=f"`understudy grid status {path}` shows how far it is",
        )
    metric_facts, reasons = _metric_facts(rows)
    alpha = resampling.alpha
    tests, notes = _between_cells(rows, resampling)
    notes += sorted({note for row in rows if (note := taught_note(Run(row.run).recipe).rstrip("."))})
    if waiting := len(unfinished(path)):
        notes.append(f"{waiting} cells are not finished and not in any figure")
    if len({row.run for row in rows}) < len(rows):
        notes.append("Some cells are one and the same run under two names; they are no independent evidence")
    return {
        "name": plan["name"],
        "arm": arm,
        "axes": _axes(rows),
        "runs": len({row.run for row in rows}),
        "metrics": metric_facts,
        "not_measured": {name: reasons.get(name, _why_not(name)) for name in STUDY_METRICS if name not in metric_facts},
        "cells": cell_figures(rows, list(metric_facts), resampling.confidence),
        "anova": effects(rows, list(metric_facts)),
        "tests": tests,
        "findings": findings(rows, metric_facts, curves(rows, arm), alpha),
        "notes": notes,
        "settings": {"confidence": resampling.confidence, "alpha": alpha, "resamples": resampling.draws},
    }


# -- the table -------------------------------------------------------------------------------------------------------


def cell_of(row: TableRow) -> tuple[str, ...]:
    """A run's levels without its seed."""
    return tuple(label for axis, label in row.levels.items() if axis != SEED)


def _axes(rows: Sequence[TableRow]) -> dict[str, list[str]]:
    """Axis → its levels, the seed left out."""
    return {axis: list(dict.fromkeys(row.levels[axis] for row in rows)) for axis in rows[0].levels if axis != SEED}


def cell_figures(rows: Sequence[TableRow], metrics: Sequence[str], confidence: float) -> list[dict[str, Any]]:
    """Each cell: levels, seeds, and metric → mean over seeds with Student's interval; no interval for one seed.

    mean ± t(n − 1) · s / √n. The seeds are all that this interval knows of: the questions are held fixed.
    """
    from scipy.stats import t

    members_of: dict[tuple[str, ...], list[TableRow]] = {}
    for row in rows:
        members_of.setdefault(cell_of(row), []).append(row)
    cells = []
    for members in members_of.values():
        figures = {}
        for metric in metrics:
            values = [value for row in members if (value := row.metrics.get(metric)) is not None]
            if not values:
                continue
            average, n = mean(values), len(values)
            spread = stdev(values) if n > 1 else None
            reach = None if spread is None else float(t.ppf((1 + confidence) / 2, n - 1)) * spread / math.sqrt(n)
            bounds = (None, None) if reach is None else (average - reach, average + reach)
            figures[metric] = {"n": n, "mean": average, "sd": spread, "low": bounds[0], "high": bounds[1]}
            figures[metric]["values"] = values
        levels = {axis: label for axis, label in members[0].levels.items() if axis != SEED}
        cells.append({"levels": levels, "seeds": [row.seed for row in members], "metrics": figures})
    return cells


def _metric_facts(rows: Sequence[TableRow]) -> tuple[dict[str, Any], dict[str, str]]:
    """Metric → maximum and direction of all that was measured; metric → reason of what was asked for in vain."""
    facts_of, reasons = {}, {}
    for run in dict.fromkeys(row.run for row in rows):
        scores = read_json(run / "scores.json")
        facts_of |= scores["metrics"]
        reasons |= {name: _reason(reason) for name, reason in (scores.get("not_measured") or {}).items()}
    measured = {name for row in rows for name, value in row.metrics.items() if value is not None}
    return {name: facts for name, facts in facts_of.items() if name in measured}, reasons


def _reason(reason: str | Mapping[str, str]) -> str:
    """Why a metric was not measured: by system, or, in runs of earlier releases, for all of them at once."""
    return reason if isinstance(reason, str) else next(iter(reason.values()), "")


def _why_not(metric: str) -> str:
    needs = "a judge, and " if metric in JUDGED else "an encoder, and " if metric in EMBEDDING else ""
    return f"it needs {needs}its name in `evaluate.metrics`" if needs else "not named in `evaluate.metrics`"


# -- which axis mattered ---------------------------------------------------------------------------------------------


def effects(rows: Sequence[TableRow], metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Metric → analysis of variance over runs; `p_holm` of a term is over all terms of all metrics.

    A metric without one says why in `reason`.
    """
    factors = {axis for axis, levels in _axes(rows).items() if len(levels) > 1}
    analyses: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        measured = [row for row in rows if row.metrics.get(metric) is not None]
        values = [row.metrics[metric] for row in measured]
        columns = {axis: [row.levels[axis] for row in measured] for axis in rows[0].levels if axis in factors}
        try:
            analyses[metric] = factorial_anova(values, columns).to_dict()  # pyright: ignore[reportArgumentType]
        except DataError as error:
            analyses[metric] = {"terms": [], "reason": error.message}
    p_values = {(m, t["name"]): _nan_if_none(t["p_value"]) for m, anova in analyses.items() for t in anova["terms"]}
    corrected = adjusted(p_values)
    for metric, anova in analyses.items():
        for term in anova["terms"]:
            value = corrected[metric, term["name"]]
            term["p_holm"] = value if value == value else None
    return analyses


def _nan_if_none(value: float | None) -> float:
    return math.nan if value is None else value


# -- cell against cell -----------------------------------------------------------------------------------------------


def neighbours(cells: Sequence[Mapping[str, str]]) -> list[tuple[int, int, str]]:
    """Numbers of two cells that differ in one axis only, and that axis; the later level comes first."""
    neighbouring = []
    for (i, cell), (j, other_cell) in itertools.combinations(enumerate(cells), 2):
        differing = [axis for axis in cell if cell[axis] != other_cell[axis]]
        if len(differing) == 1:
            neighbouring.append((j, i, differing[0]))
    return neighbouring


def _between_cells(rows: Sequence[TableRow], resampling: Resampling) -> tuple[list[Any], list[str]]:
    """Paired tests, question by question, of cells that differ in one axis; Holm over all of them."""
    from understudy.evaluation.scoring import score_systems
    from understudy.evaluation.systems import System

    names: dict[str, Mapping[str, str]] = {}
    systems = {}
    for row in rows:
        if row.predictions is None:
            return [], ["The majority answer has no predictions of its own: no tests by question"]
        levels = {axis: label for axis, label in row.levels.items() if axis != SEED}
        name = ", ".join(f"{axis} {label}" for axis, label in levels.items()) or "the only cell"
        names[name] = levels
        answers = list(map(Prediction.from_json, read_jsonl(row.predictions)))
        systems[name, row.seed] = System(name, answers, str(row.run), arm=row.arm, seed=row.seed)
    cells = list(names)
    contrasts = [(cells[a], cells[b]) for a, b, _ in neighbours(list(names.values()))]
    if not contrasts:
        return [], ["No two cells differ in one axis only: no tests by question"]
    measured = {name for row in rows for name in row.metrics}
    metrics = [name for name in METRICS if name in measured and name not in (*EMBEDDING, *JUDGED)]
    try:
        scored = score_systems(list(systems.values()), metrics)
        clusters = scored.clusters if len(set(scored.clusters)) < len(scored.clusters) else None
        comparison = compare_many(scored.scores, contrasts=contrasts, clusters=clusters, resampling=resampling)
    except DataError as error:
        return [], [f"No tests by question: {error.message}"]
    axis_of = {(cells[a], cells[b]): axis for a, b, axis in neighbours(list(names.values()))}
    entries = []
    for test in comparison.to_dict()["tests"]:
        figures_of_test = test["comparison"]
        figures = {
            key: figures_of_test[key] for key in ("value_a", "value_b", "difference", "low", "high", "n", "groups")
        }
        axis = axis_of[test["a"], test["b"]]
        other_levels = {key: label for key, label in names[test["a"]].items() if key != axis}
        levels = {
            "axis": axis,
            "level_a": names[test["a"]][axis],
            "level_b": names[test["b"]][axis],
            "others": other_levels,
        }
        corrected = {key: test[key] for key in ("metric", "p_value", "p_holm")}
        entries.append(
            {**levels, **corrected, **figures, "better": {test["a"]: "a", test["b"]: "b"}.get(test["better"], "")}
        )
    notes = []
    if len(entries) / (resampling.draws + 1) >= resampling.alpha:
        notes.append(
            f"With {resampling.draws:,} resamples none of {len(entries):,} tests can be significant: ask for more"
        )
    return entries, notes


# -- curves ----------------------------------------------------------------------------------------------------------


def curves(rows: Sequence[TableRow], arm: str) -> list[list[dict[str, Any]]]:
    """What each run measured on the development rows while the arm was trained."""
    lines_of_runs = []
    for run in dict.fromkeys(row.run for row in rows):
        path = run / "stages" / f"train-{arm}" / "training" / "metrics.jsonl"
        if path.is_file():
            lines_of_runs.append([line for line in read_jsonl(path) if "eval_rougeL" in line])
    return lines_of_runs
