"""A saved `report.json` of a grid, read again, so that its page can be made without the runs."""

from __future__ import annotations

from collections.abc import Mapping
from math import nan
from typing import Any

from understudy.metrics.significance import Resampling
from understudy.metrics.significance.factorial import Anova, Term, TukeyPair
from understudy.records import MetricInfo
from understudy.report.grid_inputs import (
    AxisEffects,
    CellFigures,
    CellTest,
    CheckpointCounts,
    CostFigures,
    CurvePoint,
    FindingRow,
    GridAnalysis,
    LevelTest,
    ReferenceFigures,
    SeedMean,
    StudyFinding,
    StudyQuestion,
)

Json = Mapping[str, Any]


def grid_analysis(saved: Json) -> GridAnalysis:
    """What `GridAnalysis.to_dict` wrote.

    Args:
        saved: the file's content.
    """
    return GridAnalysis(
        name=saved["name"],
        arm=saved["arm"],
        axes=saved["axes"],
        runs=saved["runs"],
        metrics={name: MetricInfo.from_json(facts) for name, facts in saved["metrics"].items()},
        not_measured=saved["not_measured"],
        cells=[_cell(cell) for cell in saved["cells"]],
        anova={metric: _effects(effects) for metric, effects in saved["anova"].items()},
        tests=[CellTest(**_floats(test, "low", "high", "p_value", "p_holm")) for test in saved["tests"]],
        findings=[_finding(finding) for finding in saved["findings"]],
        notes=saved["notes"],
        settings=Resampling(saved["settings"]["resamples"], saved["settings"]["confidence"]),
        references=[
            ReferenceFigures(entry["arm"], entry["levels"], tuple(entry["seeds"]), _means(entry["metrics"]))
            for entry in saved.get("references", ())
        ],
        costs=[CostFigures(**entry) for entry in saved.get("costs", ())],
        questions=[_question(entry) for entry in saved.get("questions", ())],
        rows=saved.get("rows", 1),
    )


def _question(entry: Json) -> StudyQuestion:
    tests = tuple(LevelTest(**_floats(test, "low", "high", "p_holm")) for test in entry["tests"])
    curve = tuple(CurvePoint(**_floats(point, "low", "high")) for point in entry["curve"])
    return StudyQuestion(**{**entry, "tests": tests, "curve": curve})


def _cell(cell: Json) -> CellFigures:
    return CellFigures(cell["levels"], tuple(cell["seeds"]), _means(cell["metrics"]))


def _means(metrics: Json) -> dict[str, SeedMean]:
    return {name: SeedMean(**{**mean, "values": tuple(mean["values"])}) for name, mean in metrics.items()}


def _effects(effects: Json) -> AxisEffects:
    if effects.get("reason"):
        return AxisEffects(reason=effects["reason"])
    p_holm = {term["name"]: _float(term["p_holm"]) for term in effects["terms"]}
    terms = ({key: value for key, value in term.items() if key != "p_holm"} for term in effects["terms"])
    fields = {
        **_floats(effects, "levene_p", "shapiro_p", "residual_sum_of_squares"),
        "terms": tuple(Term(**_floats(term, "f", "p_value", "partial_omega_squared")) for term in terms),
        "tukey": tuple(TukeyPair(**pair) for pair in effects["tukey"]),
        "notes": tuple(effects["notes"]),
    }
    return AxisEffects(Anova(**fields), p_holm)


def _finding(finding: Json) -> StudyFinding:
    fields = {**finding, "rows": tuple(FindingRow(**row) for row in finding["rows"])}
    if counts := finding.get("counts"):
        fields["counts"] = CheckpointCounts(**{**counts, "blind": tuple(counts["blind"])})
    return StudyFinding(**fields)


def _floats(row: Json, *names: str) -> dict[str, Any]:
    """The row with NaN where the file has null, for JSON has no NaN."""
    return {**row, **{name: _float(row[name]) for name in names}}


def _float(value: float | None) -> float:
    return nan if value is None else value
