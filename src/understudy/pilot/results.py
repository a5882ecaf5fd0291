"""What the grid of a pilot shows: the curve against rows, paired tests of the largest amount, verdict and advice."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from understudy.evaluation.scoring import Scored, score_systems
from understudy.evaluation.systems import System
from understudy.files import read_jsonl
from understudy.grid.units import CellRun
from understudy.metrics import Interval
from understudy.metrics.significance import Resampling, SystemsComparison, compare_many
from understudy.pilot.plan import Plan
from understudy.pilot.setup import METRICS
from understudy.pilot.verdict import (
    Advice,
    Paired,
    Verdict,
    judge,
    larger_student,
    more_rows,
    more_steps,
    paired_of,
)
from understudy.pipeline.kinds import stage_of
from understudy.records import DataNotes, kept_score
from understudy.report.verdicts import headline_metric

MODELS = ("teacher", "base_student", "sft", "seqkd", "distilled")
ONCE = ("teacher", "base_student")
"""Models that are the same at every seed: one of their answers is as good as three."""
CONTRASTS = (
    *(("distilled", "sft"), ("distilled", "seqkd"), ("seqkd", "sft"), ("teacher", "sft"), ("teacher", "distilled")),
    *(("distilled", "base_student"), ("sft", "base_student")),
)


@dataclass(frozen=True)
class Point:
    """One amount of the curve.

    Attributes:
        rows: learned from: training rows and unlabelled questions.
        gold: training rows.
        steps: of each student.
        values: arm → (value, low, high) in points of 0 to 100; bounds are None with too few items.
    """

    rows: int
    gold: int
    steps: int
    values: Mapping[str, tuple[float, float | None, float | None]]


@dataclass(frozen=True)
class Results:
    """All that a pilot found.

    Attributes:
        metric: that everything is in.
        points: the curve, the smallest amount first.
        tests: `first-second` → paired difference at the largest amount.
        rise: the distilled student at the largest amount minus at half of it; None where these are the same rows.
        recovered: share of the way from SFT-only to the teacher with its interval; None where there is no way.
        curves: (step, development score) of the distilled student at the largest amount, by seed.
        verdict: what it says.
        advice: what would be worth paying for.
    """

    metric: str
    points: Sequence[Point]
    tests: Mapping[str, Paired]
    rise: Paired | None
    recovered: tuple[float, float | None, float | None] | None
    curves: Sequence[Sequence[tuple[int, float]]]
    verdict: Verdict
    advice: Sequence[Advice]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def results_of(amounts: Sequence[Sequence[CellRun]], plan: Plan, least: float, resampling: Resampling) -> Results:
    """Read the answers of a finished grid.

    Args:
        amounts: the cells of each amount, the smallest first, a cell a seed.
        plan: of the pilot.
        least: the smallest gain of interest, in points.
        resampling: draws and level.
    """
    scored = [score_systems(_systems(cells), METRICS) for cells in amounts]
    metric = _metric(scored[-1])
    points = [
        _point(cells[0], part, metric, steps, resampling)
        for cells, part, steps in zip(amounts, scored, plan.steps, strict=True)
    ]
    tests, recovered = _tests(scored[-1], metric, least, resampling)
    rise = None if points[-1].rows == points[-2].rows else _rise(scored[-2:], metric, least, resampling)
    curves = [curve for cell in amounts[-1] if (curve := _curve(cell))]
    learned = max((tests["distilled-base_student"], tests["sft-base_student"]), key=lambda t: (t.sign, t.difference))
    verdict = judge(
        gain=tests["distilled-sft"],
        ahead=tests["teacher-sft"],
        learned=learned,
        rise=rise,
        rows=(points[-1].rows, plan.sizes.learned),
        least=least,
    )
    advice = [
        more_rows(rise, (points[-2].rows, points[-1].rows), least),
        more_steps(curves, least),
        larger_student(tests["teacher-distilled"], least),
    ]
    if learned.sign <= 0:
        # Equal students that have learned nothing say nothing of rows, steps and sizes.
        advice = [replace(entry, answer="cannot tell") for entry in advice]
    return Results(metric, points, tests, rise, recovered, curves, verdict, advice)


def _systems(cells: Sequence[CellRun]) -> list[System]:
    """Every model's answers at one amount; students once a seed."""
    systems = []
    for arm in MODELS:
        for cell in cells[:1] if arm in ONCE else cells:
            if cell.run.is_done(stage_of("predict", arm).name):
                answers, seed = cell.run.predictions(arm), None if arm in ONCE else cell.recipe.seed
                systems.append(System(arm, answers, str(cell.run.folder), arm=arm, seed=seed))
    return systems


def _metric(scored: Scored) -> str:
    """The headline's metric, as reports choose it."""
    metric = headline_metric(
        {
            "overall": {"table": {n: {m: {"value": s.value} for m, s in x.items()} for n, x in scored.scores.items()}},
            "systems": [{"name": system.name, "arm": system.arm} for system in scored.systems],
            "comparison": {"tests": []},
            "metrics": {name: info.to_json() for name, info in scored.metrics().items()},
        }
    )
    return metric or METRICS[-1]


def _point(cell: CellRun, scored: Scored, metric: str, steps: int, resampling: Resampling) -> Point:
    rows = cell.run.notes("data", DataNotes).rows
    alone = replace(scored, scores={name: {metric: scores[metric]} for name, scores in scored.scores.items()})
    values = {
        name: _points(figures[metric], 100 / scored.scores[name][metric].maximum)
        for name, figures in alone.intervals(resampling).items()
    }
    return Point(rows["train"] + rows["unlabelled"], rows["train"], steps, values)


def _points(interval: Interval, factor: float) -> tuple[float, float | None, float | None]:
    low, high = (bound * factor if math.isfinite(bound) else None for bound in (interval.low, interval.high))
    return interval.value * factor, low, high


def _tests(
    scored: Scored, metric: str, least: float, resampling: Resampling
) -> tuple[dict[str, Paired], tuple[float, float | None, float | None] | None]:
    from understudy.evaluation.gap import gaps_recovered

    scores = {name: {metric: values[metric]} for name, values in scored.scores.items()}
    pairs = [(a, b) for a, b in CONTRASTS if a in scores and b in scores]
    compared = compare_many(scores, contrasts=pairs, clusters=scored.shared_clusters, resampling=resampling)
    gap = gaps_recovered(scores, ("distilled", "sft", "teacher"), scored.clusters, resampling)[metric]
    recovered = None if gap.value is None else (100 * gap.value, _percent(gap.low), _percent(gap.high))
    return _paired(compared, least), recovered


def _percent(bound: float | None) -> float | None:
    return None if bound is None or not math.isfinite(bound) else 100 * bound


def _paired(compared: SystemsComparison, least: float) -> dict[str, Paired]:
    return {
        f"{test.a}-{test.b}": paired_of(test, compared.settings, least, compared.family_size) for test in compared.tests
    }


def _rise(scored: Sequence[Scored], metric: str, least: float, resampling: Resampling) -> Paired:
    """The distilled student at the largest amount minus at half of it, on the same test items."""
    half, whole = scored
    assert [row.id for row in half.rows] == [row.id for row in whole.rows], "the amounts have other test rows"
    scores = {name: {metric: part.scores["distilled"][metric]} for name, part in (("all", whole), ("half", half))}
    compared = compare_many(scores, contrasts=[("all", "half")], clusters=whole.shared_clusters, resampling=resampling)
    return _paired(compared, least)["all-half"]


def _curve(cell: CellRun) -> list[tuple[int, float]]:
    path = cell.run.stage(stage_of("train", "distilled").name) / "training" / "metrics.jsonl"
    if not path.is_file():
        return []
    scores = ((line, kept_score(line)) for line in read_jsonl(path))
    return [(line["step"], 100 * score[1]) for line, score in scores if score is not None]
