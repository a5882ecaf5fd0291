"""What a finished grid shows: means over seeds, which axis mattered, and tests between cells that differ in one axis.

Effects of axes are judged by *runs* (analysis of variance over one value a run), differences between two cells by
*questions* (paired tests, their seeds averaged). The first speaks of training runs like these, the second of questions
like these.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from understudy.arms import constrained, free_of, main_arm
from understudy.errors import ConfigError, DataError
from understudy.files import read_json, read_jsonl
from understudy.grid.bundle_study import questions
from understudy.grid.cost_means import cell_costs
from understudy.grid.folder import GridFolder
from understudy.grid.means import SEED, cell_figures, reference_figures
from understudy.grid.table import TableRow, grid_table, unfinished
from understudy.grid.telecom_study import findings
from understudy.metrics.registry import EMBEDDING, JUDGED, METRICS, STUDY_METRICS
from understudy.metrics.significance import (
    DEFAULT_RESAMPLING,
    PairTest,
    Resampling,
    adjusted,
    compare_many,
    factorial_anova,
)
from understudy.metrics.significance.factorial import Anova
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.knowledge_report import taught_note
from understudy.records import MetricInfo, Prediction, PredictionNotes
from understudy.report.grid_inputs import AxisEffects, CellTest, GridAnalysis
from understudy.run import Run


def analyse(path: Path, *, arm: str | None = None, resampling: Resampling = DEFAULT_RESAMPLING) -> GridAnalysis:
    """Everything that the report of a grid says.

    Args:
        path: the grid's folder.
        arm: whose answers; default: the one that the grid is about, distilled or explained.
        resampling: draws of the paired tests and level of the intervals; 1 − confidence is that of the tests.

    Raises:
        ConfigError: no grid's folder, or no finished cell has that arm.
    """
    all_rows = grid_table(path)
    arm = arm or main_arm({row.arm for row in all_rows})
    rows = with_answers(all_rows, arm)
    if not rows:
        raise ConfigError(
            f"{path} has no finished cell with an arm {arm!r}",
            hint=f"`understudy grid status {path}` shows how far it is",
        )
    metric_facts, reasons = _metric_facts(rows)
    tests, notes = _between_cells(rows, resampling)
    notes += sorted({note for row in rows if (note := taught_note(Run(row.run).recipe).rstrip("."))})
    if waiting := len(unfinished(path)):
        notes.append(f"{waiting} cells are not finished and not in any figure")
    if len({row.run for row in rows}) < len(rows):
        notes.append("Some cells are one and the same run under two names; they are no independent evidence")
    return GridAnalysis(
        name=GridFolder.open(path).plan.name,
        arm=arm,
        axes=_axes(rows),
        runs=len({row.run for row in rows}),
        metrics=metric_facts,
        not_measured={name: reasons.get(name, _why_not(name)) for name in STUDY_METRICS if name not in metric_facts},
        cells=cell_figures(rows, list(metric_facts), resampling.confidence),
        anova=effects(rows, list(metric_facts)),
        tests=tests,
        findings=findings(rows, metric_facts, curves(rows, arm), resampling.alpha),
        notes=notes,
        settings=resampling,
        references=reference_figures(
            [row for row in all_rows if row.arm != arm], list(metric_facts), resampling.confidence
        ),
        costs=cell_costs([*rows, *(row for row in all_rows if row.arm not in (arm, constrained(arm)))], arm),
        questions=questions(rows, resampling),
        rows=_answered(rows[0]),
    )


def with_answers(rows: Sequence[TableRow], arm: str) -> list[TableRow]:
    """The rows of an arm; where it was answered twice, both, told apart by a level `answers`: free or constrained."""
    twice = any(row.arm == constrained(arm) for row in rows)
    names = {arm: "free", constrained(arm): "constrained"}
    own = [row for row in rows if row.arm in names]
    return [replace(row, levels={**row.levels, "answers": names[row.arm]}) for row in own] if twice else own


def _answered(row: TableRow) -> int:
    """Test rows of a run whose costs are known; else 1."""
    name = stage_of("predict", free_of(row.arm)[0]).name
    return Run(row.run).notes(name, PredictionNotes).rows if row.predictions and Run(row.run).is_done(name) else 1


# -- the table -------------------------------------------------------------------------------------------------------


def _axes(rows: Sequence[TableRow]) -> dict[str, list[str]]:
    """Axis → its levels, the seed left out."""
    return {axis: list(dict.fromkeys(row.levels[axis] for row in rows)) for axis in rows[0].levels if axis != SEED}


def _metric_facts(rows: Sequence[TableRow]) -> tuple[dict[str, MetricInfo], dict[str, str]]:
    """Metric → maximum and direction of all that was measured; metric → reason of what was asked for in vain."""
    facts_of, reasons = {}, {}
    for run in dict.fromkeys(row.run for row in rows):
        scores = read_json(run / "scores.json")
        facts_of |= {name: MetricInfo.from_json(facts) for name, facts in scores["metrics"].items()}
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


def effects(rows: Sequence[TableRow], metrics: Sequence[str]) -> dict[str, AxisEffects]:
    """Metric → analysis of variance over runs, its p corrected over all terms of all metrics."""
    factors = {axis for axis, levels in _axes(rows).items() if len(levels) > 1}
    analyses: dict[str, Anova] = {}
    reasons: dict[str, str] = {}
    for metric in metrics:
        measured = [row for row in rows if row.metrics.get(metric) is not None]
        values = [row.metrics[metric] for row in measured]
        columns = {axis: [row.levels[axis] for row in measured] for axis in rows[0].levels if axis in factors}
        try:
            analyses[metric] = factorial_anova(values, columns)  # pyright: ignore[reportArgumentType]
        except DataError as error:
            reasons[metric] = error.message
    p_holm = adjusted({(m, term.name): term.p_value for m, anova in analyses.items() for term in anova.terms})
    return {
        metric: AxisEffects(reason=reasons[metric])
        if metric in reasons
        else AxisEffects(analyses[metric], {term.name: p_holm[metric, term.name] for term in analyses[metric].terms})
        for metric in metrics
    }


# -- cell against cell -----------------------------------------------------------------------------------------------


def neighbours(cells: Sequence[Mapping[str, str]]) -> list[tuple[int, int, str]]:
    """Numbers of two cells that differ in one axis only, and that axis; the later level comes first."""
    neighbouring = []
    for (i, cell), (j, other_cell) in itertools.combinations(enumerate(cells), 2):
        differing = [axis for axis in cell if cell[axis] != other_cell[axis]]
        if len(differing) == 1:
            neighbouring.append((j, i, differing[0]))
    return neighbouring


def _between_cells(rows: Sequence[TableRow], resampling: Resampling) -> tuple[list[CellTest], list[str]]:
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
    entries = [_cell_test(test, axis_of[test.a, test.b], names[test.a], names[test.b]) for test in comparison.tests]
    notes = []
    if len(entries) / (resampling.draws + 1) >= resampling.alpha:
        notes.append(
            f"With {resampling.draws:,} resamples none of {len(entries):,} tests can be significant: ask for more"
        )
    return entries, notes


def _cell_test(test: PairTest, axis: str, levels_a: Mapping[str, str], levels_b: Mapping[str, str]) -> CellTest:
    figures = test.comparison
    return CellTest(
        axis=axis,
        level_a=levels_a[axis],
        level_b=levels_b[axis],
        others={key: label for key, label in levels_a.items() if key != axis},
        metric=test.metric,
        p_value=test.p_value,
        p_holm=test.p_holm,
        value_a=figures.value_a,
        value_b=figures.value_b,
        difference=figures.difference,
        low=figures.low,
        high=figures.high,
        n=figures.n,
        groups=figures.groups,
        better={test.a: "a", test.b: "b"}.get(test.better, ""),
    )


# -- curves ----------------------------------------------------------------------------------------------------------


def curves(rows: Sequence[TableRow], arm: str) -> list[list[dict[str, Any]]]:
    """What each run measured on the development rows while the arm was trained."""
    lines_of_runs = []
    for run in dict.fromkeys(row.run for row in rows):
        path = run / "stages" / f"train-{arm}" / "training" / "metrics.jsonl"
        if path.is_file():
            lines_of_runs.append([line for line in read_jsonl(path) if "eval_rougeL" in line])
    return lines_of_runs
