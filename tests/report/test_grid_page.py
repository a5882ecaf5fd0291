"""The page and the CSV of a grid: whole, self-contained, escaped, and true to the figures."""

from __future__ import annotations

import copy
import csv
import io
import re
from pathlib import Path
from typing import Any

import pytest

from understudy.report.grid_page import grid_csv, grid_headline, render_grid
from understudy.report.grid_plots import cells_plot

EVIL = "<script>alert('owned')</script><img src=x onerror=alert(1)> & {{ 7*7 }}"


def figures(*values: float, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {
        "n": len(values),
        "mean": sum(values) / len(values),
        "sd": None,
        "low": low,
        "high": high,
        "values": [*values],
    }


def term(name: str, p_holm: float) -> dict[str, Any]:
    return {"name": name, "f": 12.0, "p_value": p_holm / 2, "p_holm": p_holm, "partial_omega_squared": 0.5}


TUKEY: dict[str, Any] = {
    "tukey": [
        {"factor": "method", "a": "kd", "b": "dskd", "difference": -0.25, "low": -0.3, "high": -0.2, "p_value": 0.012}
    ]
}
ANALYSIS: dict[str, Any] = {
    "name": "study",
    "arm": "distilled",
    "axes": {"method": ["kd", "dskd"]},
    "runs": 4,
    "metrics": {
        "bleu": {"maximum": 100.0, "higher_is_better": True},
        "rougeL": {"maximum": 1.0, "higher_is_better": True},
    },
    "not_measured": {"faithfulness": "it needs a judge"},
    "cells": [
        {
            "levels": {"method": "kd"},
            "seeds": [0, 1],
            "metrics": {"bleu": figures(30.0, 32.0), "rougeL": figures(0.4, 0.5, low=0.25, high=0.65)},
        },
        {"levels": {"method": "dskd"}, "seeds": [0, 1], "metrics": {"rougeL": figures(0.8, 0.6)}},
    ],
    "anova": {
        "bleu": {"terms": [], "reason": "factor 'method' has only one level"},
        "rougeL": {"terms": [term("method", 0.004)], "levene_p": 0.5, "shapiro_p": None, "notes": ["unbalanced"]}
        | TUKEY,
    },
    "tests": [
        {
            "axis": "method",
            "level_a": "dskd",
            "level_b": "kd",
            "others": {},
            "metric": "rougeL",
            "difference": 0.25,
            "low": 0.125,
            "high": 0.375,
            "p_value": 0.001,
            "p_holm": 0.002,
            "better": "a",
        }
    ],
    "findings": [
        {
            "finding": "a",
            "claim": "It helps",
            "test": "a test",
            "verdict": "holds",
            "why": "Because",
            "rows": [
                {"what": "kd", "metric": "rougeL", "difference": 0.125, "p": 0.01, "p_holm": 0.02},
                {"what": "kd", "metric": "bleu", "difference": None, "p": None, "p_holm": None, "reason": "all equal"},
            ],
        }
    ],
    "notes": ["One cell is missing"],
    "settings": {"confidence": 0.95, "alpha": 0.05, "resamples": 10_000},
}


def written(analysis: dict[str, Any], folder: Path) -> str:
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
    evil = copy.deepcopy(ANALYSIS)
    evil |= {"name": EVIL, "axes": {EVIL: [EVIL]}, "notes": [EVIL]}
    for cell in evil["cells"]:
        cell["levels"] = {EVIL: EVIL + cell["levels"]["method"]}
    evil["tests"][0] |= {"axis": EVIL, "level_a": EVIL, "others": {EVIL: EVIL}}
    page = written(evil, tmp_path)
    assert "<script" not in page
    assert "<img" not in page
    assert "{{ 7*7 }}" in page
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!#)""", page)
    assert not re.search(r"url\((?!#)", page)


def test_without_findings_and_tests_their_sections_are_gone(tmp_path: Path) -> None:
    page = written({**ANALYSIS, "findings": [], "tests": []}, tmp_path)
    assert 'id="findings"' not in page
    assert 'id="tests"' not in page
    assert "The study" not in " ".join(grid_headline({**ANALYSIS, "findings": []}).sentences)


def test_the_csv_has_every_cell_and_metric_on_its_own_scale() -> None:
    rows = list(csv.DictReader(io.StringIO(grid_csv(ANALYSIS))))
    assert [(row["method"], row["metric"], float(row["mean"])) for row in rows] == [
        ("kd", "bleu", 31.0),
        ("kd", "rougeL", pytest.approx(0.45)),
        ("dskd", "rougeL", pytest.approx(0.7)),
    ]
    assert (rows[0]["low"], rows[1]["low"], rows[1]["seeds"]) == ("", "0.25", "2")
    formula = {**ANALYSIS, "cells": [{**ANALYSIS["cells"][0], "levels": {"method": "=1+1"}}]}
    assert next(csv.DictReader(io.StringIO(grid_csv(formula))))["method"] == "'=1+1"


def test_the_plot_has_every_cell_that_was_measured_or_there_is_none() -> None:
    plot = cells_plot(ANALYSIS, "rougeL")
    assert plot is not None
    assert plot.index("method dskd") != plot.index("method kd")
    bleu = cells_plot(ANALYSIS, "bleu")
    assert bleu is not None
    assert "method dskd" not in bleu
    assert cells_plot({**ANALYSIS, "cells": ANALYSIS["cells"] * 40}, "rougeL") is None
    assert cells_plot({**ANALYSIS, "cells": []}, "rougeL") is None
