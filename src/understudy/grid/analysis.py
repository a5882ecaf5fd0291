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
    every, plan = grid_table(path), read_json(path / "plan.json")
    arm = arm or main_arm({row.arm for row in every})
    rows = [row for row in every if row.arm == arm]
    if not rows:
        raise ConfigError(
            f"{path} has no finished cell with an arm {arm!r}",
            hint=f"`understudy grid status {path}` shows how far it is",
        )
    about, reasons = _about(rows)
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
        "metrics": about,
        "not_measured": {name: reasons.get(name, _why_not(name)) for name in STUDY_METRICS if name not in about},
        "cells": cell_figures(rows, list(about), resampling.confidence),
        "anova": effects(rows, list(about)),
        "tests": tests,
        "findings": findings(rows, about, curves(rows, arm), alpha),
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

    cells: dict[tuple[str, ...], list[TableRow]] = {}
    for row in rows:
        cells.setdefault(cell_of(row), []).append(row)
    found = []
    for members in cells.values():
        figures = {}
        for metric in metrics:
            values = [value for row in members if (value := row.metrics.get(metric)) is not None]
            if not values:
                continue
            middle, n = mean(values), len(values)
            spread = stdev(values) if n > 1 else None
            reach = None if spread is None else float(t.ppf((1 + confidence) / 2, n - 1)) * spread / math.sqrt(n)
            bounds = (None, None) if reach is None else (middle - reach, middle + reach)
            figures[metric] = {"n": n, "mean": middle, "sd": spread, "low": bounds[0], "high": bounds[1]}
            figures[metric]["values"] = values
        levels = {axis: label for axis, label in members[0].levels.items() if axis != SEED}
        found.append({"levels": levels, "seeds": [row.seed for row in members], "metrics": figures})
    return found


def _about(rows: Sequence[TableRow]) -> tuple[dict[str, Any], dict[str, str]]:
    """Metric → maximum and direction of all that was measured; metric → reason of what was asked for in vain."""
    about, reasons = {}, {}
    for run in dict.fromkeys(row.run for row in rows):
        scores = read_json(run / "scores.json")
        about |= scores["metrics"]
        reasons |= {name: _reason(why) for name, why in (scores.get("not_measured") or {}).items()}
    measured = {name for row in rows for name, value in row.metrics.items() if value is not None}
    return {name: what for name, what in about.items() if name in measured}, reasons


def _reason(why: str | Mapping[str, str]) -> str:
    """Why a metric was not measured: by system, or, in runs of earlier releases, for all of them at once."""
    return why if isinstance(why, str) else next(iter(why.values()), "")


def _why_not(metric: str) -> str:
    needs = "a judge, and " if metric in JUDGED else "an encoder, and " if metric in EMBEDDING else ""
    return f"it needs {needs}its name in `evaluate.metrics`" if needs else "not named in `evaluate.metrics`"


# -- which axis mattered ---------------------------------------------------------------------------------------------


def effects(rows: Sequence[TableRow], metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Metric → analysis of variance over runs; `p_holm` of a term is over all terms of all metrics.

    A metric without one says why in `reason`.
    """
    factors = {axis for axis, levels in _axes(rows).items() if len(levels) > 1}
    found: dict[str, dict[str, Any]] = {}
    for metric in metrics:
        having = [row for row in rows if row.metrics.get(metric) is not None]
        values = [row.metrics[metric] for row in having]
        columns = {axis: [row.levels[axis] for row in having] for axis in rows[0].levels if axis in factors}
        try:
            found[metric] = factorial_anova(values, columns).to_dict()  # pyright: ignore[reportArgumentType]
        except DataError as error:
            found[metric] = {"terms": [], "reason": error.message}
    p_values = {(m, t["name"]): _known(t["p_value"]) for m, anova in found.items() for t in anova["terms"]}
    corrected = adjusted(p_values)
    for metric, anova in found.items():
        for term in anova["terms"]:
            value = corrected[metric, term["name"]]
            term["p_holm"] = value if value == value else None
    return found


def _known(value: float | None) -> float:
    return math.nan if value is None else value


# -- cell against cell -----------------------------------------------------------------------------------------------


def neighbours(cells: Sequence[Mapping[str, str]]) -> list[tuple[int, int, str]]:
    """Numbers of two cells that differ in one axis only, and that axis; the later level comes first."""
    found = []
    for (i, one), (j, other) in itertools.combinations(enumerate(cells), 2):
        differing = [axis for axis in one if one[axis] != other[axis]]
        if len(differing) == 1:
            found.append((j, i, differing[0]))
    return found


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
    pairs = [(cells[a], cells[b]) for a, b, _ in neighbours(list(names.values()))]
    if not pairs:
        return [], ["No two cells differ in one axis only: no tests by question"]
    measured = {name for row in rows for name in row.metrics}
    metrics = [name for name in METRICS if name in measured and name not in (*EMBEDDING, *JUDGED)]
    try:
        scored = score_systems(list(systems.values()), metrics)
        groups = scored.clusters if len(set(scored.clusters)) < len(scored.clusters) else None
        compared = compare_many(scored.scores, contrasts=pairs, clusters=groups, resampling=resampling)
    except DataError as error:
        return [], [f"No tests by question: {error.message}"]
    axis_of = {(cells[a], cells[b]): axis for a, b, axis in neighbours(list(names.values()))}
    found = []
    for test in compared.to_dict()["tests"]:
        inner = test["comparison"]
        figures = {key: inner[key] for key in ("value_a", "value_b", "difference", "low", "high", "n", "groups")}
        axis = axis_of[test["a"], test["b"]]
        rest = {other: label for other, label in names[test["a"]].items() if other != axis}
        levels = {"axis": axis, "level_a": names[test["a"]][axis], "level_b": names[test["b"]][axis], "others": rest}
        kept = {key: test[key] for key in ("metric", "p_value", "p_holm")}
        found.append({**levels, **kept, **figures, "better": {test["a"]: "a", test["b"]: "b"}.get(test["better"], "")})
    notes = []
    if len(found) / (resampling.draws + 1) >= resampling.alpha:
        notes.append(
            f"With {resampling.draws:,} resamples none of {len(found):,} tests can be significant: ask for more"
        )
    return found, notes


# -- curves ----------------------------------------------------------------------------------------------------------


def curves(rows: Sequence[TableRow], arm: str) -> list[list[dict[str, Any]]]:
    """What each run measured on the development rows while the arm was trained."""
    found = []
    for run in dict.fromkeys(row.run for row in rows):
        path = run / "stages" / f"train-{arm}" / "training" / "metrics.jsonl"
        if path.is_file():
            found.append([line for line in read_jsonl(path) if "eval_rougeL" in line])
    return found
