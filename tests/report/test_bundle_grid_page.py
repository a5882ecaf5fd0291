"""The page of a grid of sessions: questions, curve, costs and front, whole and read again from its JSON."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest

from understudy.metrics.significance import Resampling
from understudy.records import MetricInfo
from understudy.report.grid_inputs import (
    AxisEffects,
    CellFigures,
    CostFigures,
    CurvePoint,
    GridAnalysis,
    LevelTest,
    SeedMean,
    StudyQuestion,
)
from understudy.report.grid_page import costs_view, grid_headline, large, render_grid, view
from understudy.report.grid_reading import grid_analysis
from understudy.report.pareto import COSTS, cost_value, pareto_plot
from understudy.report.svg import power_text

USES, FORMATS = ("icl", "sft", "sft_icl"), ("nothing", "patterns", "patterns, rules and thoughts together")
CELLS = [dict(zip(("formats", "use"), levels, strict=True)) for levels in itertools.product(FORMATS, USES)]


def cost(number: int, levels: dict[str, str]) -> CostFigures:
    trained = 0.0 if levels["use"] == "icl" else 40_000.0 * (number + 1)
    quality = {"bundle_f1": 0.2 + 0.05 * number, "bundle_recall": 0.3}
    read, written = 300.0 + 20 * number, 40.0
    operations = 6e5 * trained + 2e5 * 180 * (read + written)
    return CostFigures(
        "informed", levels, 2, quality, trained, read, written, operations, 0.02 * (number + 1), 90.0, None
    )


COST = [cost(number, levels) for number, levels in enumerate(CELLS)]
TEACHER = CostFigures("teacher", {}, 2, {"bundle_f1": 0.5}, 0.0, 300.0, 40.0, 9e10, 0.2, 400.0, None)
QUESTION = StudyQuestion(
    "How does quality change with the quantity of knowledge?",
    "ratio",
    "Significant in F1 of bundles, 1 of 1 pairs: 1.0 − 0.1: +8.0 points",
    (
        LevelTest("1.0 − 0.1", "bundle_f1", 0.08, 0.02, 0.14, 0.01, "1.0", 6),
        LevelTest("1.0 − 0.1", "bundle_recall", -0.04, -0.08, -0.001, 0.04, "0.1", 6),
    ),
    tuple(CurvePoint(use, x, 0.3 + 0.1 * x, 0.25, 0.45) for use in USES for x in (0.1, 0.3, 1.0)),
    "bundle_f1",
)


def mean(value: float) -> SeedMean:
    return SeedMean(2, value, 0.01, value - 0.05, value + 0.05, (value - 0.01, value + 0.01))


ANALYSIS = GridAnalysis(
    name="bundle-study",
    arm="informed",
    axes={"formats": list(FORMATS), "use": list(USES)},
    runs=18,
    metrics={"bundle_f1": MetricInfo(1.0, True), "bundle_recall": MetricInfo(1.0, True)},
    not_measured={},
    cells=[CellFigures(c.levels, (0, 1), {name: mean(value) for name, value in c.quality.items()}) for c in COST],
    anova={name: AxisEffects(reason="some combinations were left out") for name in ("bundle_f1", "bundle_recall")},
    settings=Resampling(2000, 0.95),
    costs=[*COST, TEACHER],
    questions=[QUESTION],
    rows=180,
)


def test_the_page_is_whole_and_the_same_from_its_json(tmp_path: Path) -> None:
    first, second = tmp_path / "a.html", tmp_path / "b.html"
    render_grid(ANALYSIS, first)
    render_grid(grid_analysis(json.loads(json.dumps(ANALYSIS.to_dict()))), second)
    assert first.read_bytes() == second.read_bytes()
    text = first.read_text(encoding="utf-8")
    assert QUESTION.question in text
    assert "1.0 − 0.1" in text
    assert "6 × parameters × tokens trained on" in text


def test_tones_follow_the_first_level() -> None:
    rows = view(ANALYSIS)["questions"][0]["rows"]
    assert [(row["difference"], row["tone"]) for row in rows] == [("+8.0", "better"), ("−4.0", "worse")]


def test_the_headline_answers_the_questions() -> None:
    assert any(sentence.startswith(QUESTION.question) for sentence in grid_headline(ANALYSIS).sentences)


@pytest.mark.parametrize("name", COSTS)
def test_any_cost_can_be_drawn_or_is_said_to_be_missing(name: str) -> None:
    drawn = costs_view(ANALYSIS, "bundle_f1", name)
    assert bool(drawn["plot"]) == (name != "money")
    assert drawn["missing"] == (len(ANALYSIS.costs) if name == "money" else 0)
    assert drawn["cost"] == COSTS[name]


def test_cells_in_front_are_marked() -> None:
    lines = costs_view(ANALYSIS, "bundle_f1", "seconds")["lines"]
    marked = {line["name"] for line in lines if line["front"]}
    assert marked == {f"formats {c.levels['formats']}, use {c.levels['use']}" for c in COST}


def test_tokens_are_those_of_training_and_of_all_answers() -> None:
    assert cost_value(COST[1], "tokens", 180) == 80_000 + 180 * (320 + 40)


def test_an_axis_over_decades_has_numbers_that_can_be_read() -> None:
    """Matplotlib writes them as formulas, which a page of plain text shows as such."""
    far = [replace(entry, flops=10.0 ** (9 + number)) for number, entry in enumerate(COST)]
    drawn = pareto_plot(replace(ANALYSIS, costs=far), "bundle_f1", "flops")
    assert any(power_text(10.0**exponent) in drawn for exponent in range(9, 18))
    assert "$" not in drawn
    assert [power_text(10.0**n) for n in (-4, -3, 0, 3, 10)] == ["10⁻⁴", "0.001", "1", "1000", "10¹⁰"]


def test_one_cell_alone_is_not_drawn() -> None:
    assert pareto_plot(replace(ANALYSIS, costs=COST[:1]), "bundle_f1", "flops") == ""


@pytest.mark.parametrize(("value", "text"), [(0.0, "0"), (99_999.0, "99,999"), (123_456_789.0, "1.23e8")])
def test_large_counts_are_short(value: float, text: str) -> None:
    assert large(value) == text
