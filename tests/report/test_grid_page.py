"""The page and the CSV of a grid: whole, self-contained, escaped, and true to the figures."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from dataclasses import replace
from pathlib import Path

import pytest

from understudy.metrics.significance import Resampling
from understudy.metrics.significance.factorial import Anova, Term, TukeyPair
from understudy.records import MetricInfo
from understudy.report.grid_inputs import (
    AxisEffects,
    CellFigures,
    CellTest,
    FindingRow,
    GridAnalysis,
    ReferenceFigures,
    SeedMean,
    StudyFinding,
)
from understudy.report.grid_page import grid_csv, grid_headline, render_grid
from understudy.report.grid_plots import cells_plot
from understudy.report.grid_reading import grid_analysis

EVIL = "<script>alert('owned')</script><img src=x onerror=alert(1)> & {{ 7*7 }}"


def figures(*values: float, low: float | None = None, high: float | None = None) -> SeedMean:
    return SeedMean(len(values), sum(values) / len(values), None, low, high, values)


TERM = Term("method", 1.0, 1, 12.0, 0.002, 0.5, 0.5)
PAIR = TukeyPair("method", "kd", "dskd", -0.25, -0.3, -0.2, 0.012)
TEST = CellTest(
    axis="method",
    level_a="dskd",
    level_b="kd",
    others={},
    metric="rougeL",
    p_value=0.001,
    p_holm=0.002,
    value_a=0.7,
    value_b=0.45,
    difference=0.25,
    low=0.125,
    high=0.375,
    n=80,
    groups=80,
    better="a",
)
ANALYSIS = GridAnalysis(
    name="study",
    arm="distilled",
    axes={"method": ["kd", "dskd"]},
    runs=4,
    metrics={"bleu": MetricInfo(100.0, True), "rougeL": MetricInfo(1.0, True)},
    not_measured={"faithfulness": "it needs a judge"},
    cells=[
        CellFigures(
            {"method": "kd"},
            (0, 1),
            {"bleu": figures(30.0, 32.0), "rougeL": figures(0.4, 0.5, low=0.25, high=0.65)},
        ),
        CellFigures({"method": "dskd"}, (0, 1), {"rougeL": figures(0.8, 0.6)}),
    ],
    anova={
        "bleu": AxisEffects(reason="factor 'method' has only one level"),
        "rougeL": AxisEffects(Anova((TERM,), 0.1, 2, (PAIR,), 0.5, math.nan, 4, ("unbalanced",)), {"method": 0.004}),
    },
    tests=[TEST],
    findings=[
        StudyFinding(
            "a",
            "It helps",
            "a test",
            (
                FindingRow("kd", "rougeL", 0.125, 0.01, p_holm=0.02),
                FindingRow("kd", "bleu", None, reason="all equal"),
            ),
            "holds",
            "Because",
        )
    ],
    notes=["One cell is missing"],
    settings=Resampling(10_000),
)


def written(analysis: GridAnalysis, folder: Path) -> str:
    render_grid(analysis, folder / "page.html")
    return (folder / "page.html").read_text(encoding="utf-8")


def cells_of(page: str) -> list[str]:
    return [
        re.sub(r"<[^>]+>", " ", texts).strip()
        for texts in re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", page, flags=re.DOTALL)
    ]


def test_figures_stand_on_the_page_on_one_scale(tmp_path: Path) -> None:
    page = written(ANALYSIS, tmp_path)
    cells = [" ".join(text.split()) for text in cells_of(page)]
    for text in (
        "31.0",
        "45.0 25.0 to 65.0",
        "70.0",
        "–",
        "+25.0 +12.5 to +37.5",
        "p = 0.004",
        "p = 0.002",
        "0.50",
        "kd − dskd",
        "−25.0 −30.0 to −20.0",
        "p = 0.012",
    ):
        assert text in cells, text
    assert "12.5" in page
    assert "all equal" in cells
    for text in (
        "factor &#39;method&#39; has only one level",
        "Faithfulness: it needs a judge",
        "One cell is missing.",
    ):
        assert text in page
    assert "The highest mean ROUGE-L, 70.0, is that of: method dskd." in page
    assert "The study&#39;s findings: (a) holds." in page
    assert "method: 1 of 1 significant" in page
    assert page == written(ANALYSIS, tmp_path)


def test_it_fetches_nothing_and_escapes_names(tmp_path: Path) -> None:
    cells = [replace(cell, levels={EVIL: EVIL + cell.levels["method"]}) for cell in ANALYSIS.cells]
    test = replace(TEST, axis=EVIL, level_a=EVIL, others={EVIL: EVIL})
    reference = ReferenceFigures(EVIL, {EVIL: EVIL}, (0,), {"bleu": figures(1.0)})
    evil = replace(ANALYSIS, name=EVIL, axes={EVIL: [EVIL]}, notes=[EVIL], cells=cells, tests=[test])
    evil = replace(evil, references=[reference])
    page = written(evil, tmp_path)
    assert "<script" not in page
    assert "<img" not in page
    assert "{{ 7*7 }}" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", page)
    assert not re.search(r"url\((?!#)", page)


def test_without_findings_and_tests_their_sections_are_gone(tmp_path: Path) -> None:
    page = written(replace(ANALYSIS, findings=[], tests=[]), tmp_path)
    assert 'id="findings"' not in page
    assert 'id="tests"' not in page
    assert "The study" not in " ".join(grid_headline(replace(ANALYSIS, findings=[])).sentences)


def test_the_csv_has_every_cell_and_metric_on_its_own_scale() -> None:
    rows = list(csv.DictReader(io.StringIO(grid_csv(ANALYSIS))))
    assert [(row["method"], row["metric"], float(row["mean"])) for row in rows] == [
        ("kd", "bleu", 31.0),
        ("kd", "rougeL", pytest.approx(0.45)),
        ("dskd", "rougeL", pytest.approx(0.7)),
    ]
    assert (rows[0]["low"], rows[1]["low"], rows[1]["seeds"]) == ("", "0.25", "2")
    formula = replace(ANALYSIS, cells=[replace(ANALYSIS.cells[0], levels={"method": "=1+1"})])
    assert next(csv.DictReader(io.StringIO(grid_csv(formula))))["method"] == "'=1+1"


def test_the_plot_has_every_cell_that_was_measured_or_there_is_none() -> None:
    plot = cells_plot(ANALYSIS, "rougeL")
    assert plot is not None
    assert plot.count(">dskd<") == plot.count(">kd<") == 1
    bleu = cells_plot(ANALYSIS, "bleu")
    assert bleu is not None
    assert bleu.count(">kd<") == 1
    assert "dskd" not in bleu
    assert cells_plot(replace(ANALYSIS, cells=[*ANALYSIS.cells] * 40), "rougeL") is None
    assert cells_plot(replace(ANALYSIS, cells=[]), "rougeL") is None


def test_the_json_keeps_the_keys_of_earlier_releases() -> None:
    """Whoever reads report.json finds the same keys in the same order; what is not known is null."""
    value = json.loads(json.dumps(ANALYSIS.to_dict(), allow_nan=False))
    assert list(value) == [
        *("name", "arm", "axes", "runs", "metrics", "not_measured"),
        *("cells", "anova", "tests", "findings", "notes", "settings"),
    ]
    assert list(value["cells"][0]) == ["levels", "seeds", "metrics"]
    assert value["cells"][1]["metrics"]["rougeL"] == {
        "n": 2,
        "mean": pytest.approx(0.7),
        "sd": None,
        "low": None,
        "high": None,
        "values": [0.8, 0.6],
    }
    assert value["anova"]["bleu"] == {"terms": [], "reason": "factor 'method' has only one level"}
    [term] = value["anova"]["rougeL"]["terms"]
    assert (term["p_value"], term["p_holm"]) == (0.002, 0.004)
    assert value["anova"]["rougeL"]["shapiro_p"] is None
    assert list(value["tests"][0]) == [
        *("axis", "level_a", "level_b", "others", "metric", "p_value", "p_holm"),
        *("value_a", "value_b", "difference", "low", "high", "n", "groups", "better"),
    ]
    assert [list(row) for row in value["findings"][0]["rows"]] == [
        ["what", "metric", "difference", "p", "p_holm"],
        ["what", "metric", "difference", "p", "reason", "p_holm"],
    ]
    assert value["settings"] == {"confidence": 0.95, "alpha": 0.05, "resamples": 10_000}


@pytest.mark.parametrize("name", ["telecom_study", "commonsense_explain"])
def test_a_saved_analysis_gives_the_committed_page(name: str, tmp_path: Path) -> None:
    results = Path(__file__).parents[2] / "docs" / "results"
    saved = json.loads((results / f"{name}.json").read_text(encoding="utf-8"))
    analysis = grid_analysis(saved)
    assert analysis.to_dict() == saved
    render_grid(analysis, tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8") == (results / f"{name}.html").read_text("utf-8")


def test_an_analysis_that_knows_little_is_read_again() -> None:
    assert grid_analysis(json.loads(json.dumps(ANALYSIS.to_dict()))).to_dict() == ANALYSIS.to_dict()
