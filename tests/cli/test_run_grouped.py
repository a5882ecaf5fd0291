"""A run on given splits that share paragraphs: the notes, the record, the report and the commands before it say so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from support.house import House, training
from support.tiny import FACTS
from understudy.files import read_json, read_jsonl
from understudy.records import DataNotes
from understudy.run import Run

REMARK = "3 of 4 test questions share their context with a training question."


def squad(path: Path, contexts: list[str], times: int) -> str:
    """Every fact asked on its own context, so many times."""
    paragraphs = [
        {
            "context": context,
            "document_id": context,
            "qas": [
                {
                    "id": f"{path.stem}-{n}-{k}",
                    "question": f"{question} ({path.stem} {k})",
                    "answers": [{"text": answer}],
                }
                for k in range(times)
            ],
        }
        for n, (context, (question, answer)) in enumerate(zip(contexts, FACTS, strict=False))
    ]
    path.write_text(json.dumps({"data": [{"title": "All", "paragraphs": paragraphs}]}), encoding="utf-8")
    return str(path)


@pytest.fixture
def shared_paragraphs(house: House) -> House:
    contexts = [f"{question} {answer}." for question, answer in FACTS[:6]]
    house.recipe["data"] |= {
        "source": squad(house.folder / "train.json", contexts, 4),
        "dev_source": squad(house.folder / "dev.json", ["Another text."], 2),
        "test_source": squad(house.folder / "test.json", [*contexts[:3], "A text of its own."], 1),
        "gold_share": 1.0,
    }
    house.recipe["teacher"].pop("sft")
    house.recipe["distil"] = training(steps=2)
    house.recipe["evaluate"] |= {"arms": ["sft"], "speed": False}
    return house


def test_notes_record_and_report_say_what_test_questions_share_with_training(shared_paragraphs: House, command) -> None:
    house = shared_paragraphs
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    run = Run(house.run_folder())
    notes = read_json(run.folder / "data" / "notes.json")
    assert notes["remarks"] == [REMARK]
    assert notes["group_by"].startswith("context: 8 groups of 30 rows, the largest of 5")
    record = run.notes("data", DataNotes)
    assert (record.group_by, record.remarks) == (notes["group_by"], (REMARK,))
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert REMARK in page
    assert notes["group_by"] in page
    # All four stand on contexts of their own; a field that they share makes one group of them.
    assert read_json(run.folder / "scores.json")["overall"]["groups"] == 4
    assert command("run", str(house.write_recipe()), "data.group_by=title", "name=by_title").code == 0
    [other] = (house.folder / "runs").glob("by_title-*")
    assert {row["group"] for row in read_jsonl(other / "stages" / "predict-sft" / "predictions.jsonl")} == {"All"}
    assert "4 of 4 test questions share their title with a training question." in (other / "report.html").read_text()


def test_inspect_and_doctor_say_it_before_a_run_and_a_wrong_name_is_one_line(shared_paragraphs: House, command) -> None:
    recipe = str(shared_paragraphs.write_recipe())
    for name in ("inspect", "doctor"):
        done = command(name, recipe)
        assert REMARK in " ".join(done.out.split()), done.err
    done = command("run", recipe, "data.group_by=documentid")
    assert done.code == 1
    assert "data.group_by: there is no field 'documentid'" in done.err
    assert "did you mean `document_id`?" in done.err
    assert "Traceback" not in done.err
