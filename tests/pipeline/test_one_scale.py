"""What people read is in points of 0 to 100, whatever the metric's own scale; arms go by one name."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.arms import compare_arms
from understudy.files import write_json
from understudy.grid.table import TableRow
from understudy.metrics.significance import Resampling
from understudy.pipeline.model_card import model_card
from understudy.pipeline.progress import Console
from understudy.pipeline.summary import summary
from understudy.recipe import parse_recipe
from understudy.run import Run


def rows(right: int, num: int = 40) -> list[dict[str, object]]:
    text = "the access and mobility function"
    return [{"id": f"q{i}", "references": [text], "prediction": text if i < right else "no"} for i in range(num)]


def figures() -> dict[str, object]:
    arms = {"teacher": rows(40), "sft": rows(10), "distilled": rows(30)}
    return compare_arms(arms, metrics=("exact_match", "bleu"), resampling=Resampling(200)).to_dict()


def test_a_run_ends_with_points(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    comparison = figures()
    write_json(tmp_path / "scores.json", comparison)
    write_json(tmp_path / "summary.json", summary(comparison).to_json())
    Console().print_outcome(Run(tmp_path))
    lines = (line.replace("│", " ").split() for line in capsys.readouterr().err.splitlines())
    table = {cells[0]: cells[1:] for cells in lines if cells}
    assert table["SFT-only"][0] == "25.0"
    assert table["Distilled"][0] == "75.0"
    assert table["Teacher"] == ["100.0", "100.0"]


def test_the_card_has_points() -> None:
    card = model_card(parse_recipe({}), figures())
    assert "| sft | 25.0 [" in card
    assert "| teacher | 100.0 [100.0, 100.0] | 100.0 [100.0, 100.0] |" in card


def test_a_row_of_a_grid_has_points() -> None:
    metrics = {"rougeL": 0.3265, "bleu": 12.5, "meteor": None}
    row = TableRow({}, 0, "sft", metrics, Path(), None, {"rougeL": 1.0, "bleu": 100.0})
    assert [row.points(name) for name in metrics] == [pytest.approx(32.65), 12.5, None]
    assert row.points("chrf") is None
