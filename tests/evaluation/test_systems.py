"""Systems out of files: their names, and how their items find each other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from understudy.errors import ConfigError, DataError
from understudy.evaluation.systems import System, family, read_systems, same_items
from understudy.recipe import parse_recipe
from understudy.records import Prediction


def write(path: Path, rows: list[dict[str, Any]]) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n", encoding="utf-8")
    return str(path)


def row(identity: str | None, prediction: str, reference: str = "AMF", **more: Any) -> dict[str, Any]:
    return {**({"id": identity} if identity else {}), "prediction": prediction, "reference": reference, **more}


def test_a_column_names_the_systems_of_one_file(tmp_path: Path) -> None:
    rows = [row("1", "AMF", model="large"), row("1", "SMF", model="small"), row("2", "SMF", model="large")]
    systems = read_systems([write(tmp_path / "all.jsonl", rows)])
    assert [(system.name, [r.prediction for r in system.rows]) for system in systems] == [
        ("large", ["AMF", "SMF"]),
        ("small", ["SMF"]),
    ]


def test_without_ids_the_items_of_each_system_are_counted_by_themselves(tmp_path: Path) -> None:
    rows = [row(None, "AMF", model=name) for name in ("a", "b", "a", "b")]
    first, second = read_systems([write(tmp_path / "all.jsonl", rows)])
    assert [r.id for r in first.rows] == [r.id for r in second.rows] == ["1", "2"]


def test_two_files_of_one_name_go_by_their_folders(tmp_path: Path) -> None:
    paths = [write(tmp_path / name / "predictions.jsonl", [row("1", "AMF")]) for name in ("one", "two")]
    assert [system.name for system in read_systems(paths)] == ["one/predictions", "two/predictions"]


def test_a_file_given_twice_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [row("1", "AMF")])
    with pytest.raises(ConfigError, match="is given twice"):
        read_systems([path, path])


def test_an_item_without_a_prediction_counts_as_an_empty_answer_and_is_said(tmp_path: Path) -> None:
    path = write(tmp_path / "p.jsonl", [row("1", "AMF"), {"id": "2", "prediction": None, "reference": "SMF"}])
    [system] = read_systems([path])
    assert [r.prediction for r in system.rows] == ["AMF", ""]
    assert system.notes == ("p: 1 of 2 items have no prediction and count as empty answers",)


def test_thoughts_before_predictions_do_not_count_and_that_is_said(tmp_path: Path) -> None:
    rows = [
        row("1", "Okay.\n</think>\n\nAMF"),
        row("2", "<thinking>Is it the AMF", "AMF"),
        row("3", "AMF", "<think>so</think>AMF"),
    ]
    [system] = read_systems([write(tmp_path / "p.jsonl", rows)])
    assert [r.prediction for r in system.rows] == ["AMF", "", "AMF"]
    assert [r.references for r in system.rows] == [("AMF",)] * 3
    assert system.notes == ("p: 2 of 3 predictions begin with a thought, which does not count",)


def system(name: str, ids: list[str] | None, references: list[str]) -> System:
    rows = [
        Prediction(ids[n] if ids else str(n + 1), references=(reference,), prediction=name)
        for n, reference in enumerate(references)
    ]
    return System(name, rows, name, has_ids=ids is not None)


def test_items_without_ids_pair_by_order_where_the_answers_agree() -> None:
    paired = same_items([system("a", None, ["x", "y"]), system("b", ["q7", "q9"], ["x", "y"])])
    assert [[row.id for row in s.rows] for s in paired] == [["q7", "q9"]] * 2


@pytest.mark.parametrize(
    ("references", "message"),
    [(["y", "x"], "the right answers of row 1 differ"), (["x"], "a has 2 items and b 1, and not both have ids")],
)
def test_otherwise_pairing_is_refused(references: list[str], message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        same_items([system("a", None, ["x", "y"]), system("b", None, references)])
    assert "column `id`" in caught.value.hint


def test_a_family_is_a_recipe_without_its_seed_and_name() -> None:
    def of(**fields: Any) -> str:
        return family(parse_recipe({"name": "a", **fields}))

    assert of(seed=1) == of(seed=2) == of(name="b")
    assert of(distil={"loss_temperature": 2.0}) != of()
    assert of(data={"seed": 1}) != of()


@pytest.mark.parametrize(
    ("source", "message"), [("no.jsonl", "no such run or file"), (".", "is no run folder"), ("no:arm", "no such run")]
)
def test_what_is_no_system(source: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        read_systems([source])
