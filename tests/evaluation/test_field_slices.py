"""Figures by a field of the data: read from a run's test rows, tested together, and shown on its page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from understudy.evaluation.compare import compare
from understudy.evaluation.scoring import score_systems
from understudy.evaluation.slices import MOST_VALUES, OTHERS
from understudy.evaluation.systems import run_systems
from understudy.files import write_jsonl
from understudy.metrics.significance import Resampling
from understudy.recipe import dump_recipe, parse_recipe
from understudy.report import ReportInputs, render_report
from understudy.run import Run

ITEMS = 60


def run(folder: Path, slices: list[str], metas: list[dict[str, Any]]) -> Run:
    """A run folder whose distilled student is right on every second item and whose SFT student on every third."""
    recipe = parse_recipe({"evaluate": {"arms": ["sft", "distilled"], "slices": slices}})
    (folder / "recipe.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    rows = [{"id": f"q{k}", "answers": ["AMF"], "meta": meta} for k, meta in enumerate(metas)]
    write_jsonl(folder / "data" / "test.jsonl", rows)
    write_jsonl(folder / "data" / "train.jsonl", [{"id": "t", "answers": ["SMF"]}])
    for arm, every in (("sft", 3), ("distilled", 2)):
        answers = [
            {"id": row["id"], "references": ["AMF"], "prediction": "AMF" if k % every == 0 else "UPF"}
            for k, row in enumerate(rows)
        ]
        write_jsonl(folder / "stages" / f"predict-{arm}" / "predictions.jsonl", answers)
    return Run(folder)


def comparison(run: Run) -> dict[str, Any]:
    scored = score_systems(run_systems(run), ("exact_match",))
    return compare(scored, resampling=Resampling(200)).to_dict()


def test_each_value_of_a_field_has_figures(tmp_path: Path) -> None:
    metas = [{"category": ("radio", "core")[k % 2], "level": {"a": 1}} for k in range(ITEMS)]
    metas[0] = {}
    figures = comparison(run(tmp_path, ["category"], metas))
    parts = figures["fields"]["category"]
    assert {value: part["items"] for value, part in parts.items()} == {"core": 30, "radio": 29}
    # Of the even items the distilled student has every one, of the odd ones none.
    assert parts["radio"]["table"]["distilled"]["exact_match"]["value"] == 1.0
    assert parts["core"]["table"]["distilled"]["exact_match"]["value"] == 0.0
    tests = [test for part in parts.values() for test in part["tests"]]
    assert [(test["a"], test["b"]) for test in tests] == [("distilled", "sft")] * 2
    assert all(test["p_holm"] >= test["p_value"] for test in tests)
    assert max(test["p_holm"] / test["p_value"] for test in tests) == pytest.approx(2)
    render_report(ReportInputs(name="run", comparison=figures), tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Fields of the data" in page
    assert '<th scope="row">category: radio</th><td>29</td>' in page


def test_what_the_context_answers_and_what_it_leaves_open(tmp_path: Path) -> None:
    metas = [{"impossible": True} if k < 20 else {} for k in range(ITEMS)]
    parts = comparison(run(tmp_path, ["answerable"], metas))["fields"]["answerable"]
    assert {value: part["items"] for value, part in parts.items()} == {"answerable": 40, "unanswerable": 20}


def test_many_values_share_the_last_place(tmp_path: Path) -> None:
    parts = comparison(run(tmp_path, ["doc"], [{"doc": k // 2} for k in range(ITEMS)]))["fields"]["doc"]
    assert len(parts) == MOST_VALUES
    assert list(parts)[-1] == OTHERS
    assert parts[OTHERS]["items"] == ITEMS - 2 * (MOST_VALUES - 1)


def test_a_field_that_no_row_has_is_named_with_those_there_are(tmp_path: Path) -> None:
    figures = comparison(run(tmp_path, ["categroy"], [{"category": "core"}] * ITEMS))
    assert figures["fields"] == {}
    assert "evaluate.slices: no test row has a field 'categroy'; there are: category" in figures["notes"]


def test_without_slices_there_are_none(tmp_path: Path) -> None:
    assert comparison(run(tmp_path, [], [{"category": "core"}] * ITEMS))["fields"] == {}
