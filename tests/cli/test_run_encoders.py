"""Whole runs of encoders that compare options, classify and tag, from a user's file to the report."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForMultipleChoice, AutoModelForSequenceClassification

from support import tiny, tiny_encoders
from support.house import House, training
from understudy.files import read_json, read_jsonl, write_jsonl
from understudy.run import Run


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Encoders of three kinds of head, and a model that writes."""
    folder = tmp_path_factory.mktemp("encoders")
    for kind in tiny_encoders.CLASSES:
        tiny_encoders.shared_tokenizer().save_pretrained(folder / kind)
        tiny_encoders.bert(kind, width=24, layers=3, seed=1).save_pretrained(folder / kind)
    tiny.tokenizer(300).save_pretrained(folder / "writer")
    tiny.llama(300).save_pretrained(folder / "writer")
    return folder


@pytest.fixture
def house(tmp_path: Path, encoders: Path) -> House:
    """A recipe whose student is cut from its teacher."""
    project = House(tmp_path, encoders)
    project.recipe["student"] = {"from_teacher": {"layers": 1}}
    project.recipe["distil"] = training(steps=3)
    project.recipe["evaluate"] |= {"rows": 20, "arms": ["sft", "distilled"], "metrics": ["accuracy", "macro_f1"]}
    return project


def with_data(house: House, kind: str, path: Path) -> None:
    house.recipe["teacher"] = {"model": str(house.models / kind), "sft": training(steps=3)}
    house.recipe["data"] = {"source": str(path), "max_length": 32, "max_answer_tokens": 8, "dev": 0.2, "test": 0.3}
    if kind != "choice":
        house.recipe["data"]["labels"] = list(tiny_encoders.DATA[kind].labels)


def test_from_a_csv_of_texts_and_labels_to_a_report(house: House, command) -> None:
    path = house.folder / "rows.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "label"])
        writer.writerows([row.question, row.answers[0]] for row in tiny_encoders.texts(60))
    with_data(house, "classify", path)
    house.recipe["teacher"]["cache"] = {}
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    run = Run(house.run_folder())
    table = read_json(run.folder / "scores.json")["overall"]["table"]
    for arm in ("teacher", "sft", "distilled"):
        rows = read_jsonl(run.stage(f"predict-{arm}") / "predictions.jsonl")
        right = [row["prediction"] in row["references"] for row in rows]
        assert table[arm]["accuracy"]["value"] == pytest.approx(sum(right) / len(right))
        assert {row["prediction"] for row in rows} <= set(tiny_encoders.LABELS)
        assert all(abs(sum(value for _, value in row["candidates"]) - 1) < 1e-4 for row in rows)
    card = yaml.safe_load((run.folder / "student" / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert card["pipeline_tag"] == "text-classification"
    student = AutoModelForSequenceClassification.from_pretrained(run.folder / "student")
    assert student.config.id2label == dict(enumerate(tiny_encoders.LABELS))
    assert student.config.num_hidden_layers == 1
    assert (run.folder / "report.html").is_file()
    done = read_json(run.stage("train-distilled") / "done.json")
    curve = [row for row in read_jsonl(run.stage("train-distilled") / "training/metrics.jsonl") if "eval_rougeL" in row]
    assert done["best_of_kind"] == {"macro_f1": max(row["eval_macro_f1"] for row in curve)}
    assert done["best_rougeL"] is None


def test_options_with_inner_states_in_an_arm_of_its_own(house: House, command) -> None:
    path = house.folder / "rows.jsonl"
    rows = tiny_encoders.choices(60)
    write_jsonl(
        path,
        (
            {"question": f"{row.question} {n}", "choices": list(row.choices), "answer": row.answers[0]}
            for n, row in enumerate(rows)
        ),
    )
    with_data(house, "choice", path)
    house.recipe["arms"] = {"inner": {"like": "distilled", "features": {"hidden": 1.0, "relation": 1.0}}}
    house.recipe["evaluate"]["arms"] = ["sft", "distilled", "inner"]
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    run = Run(house.run_folder())
    table = read_json(run.folder / "scores.json")["overall"]["table"]
    assert table["inner"]["choice_accuracy"]["value"] == pytest.approx(table["inner"]["accuracy"]["value"])
    logged = read_jsonl(run.stage("train-inner") / "training" / "metrics.jsonl")
    assert any("features_hidden" in row and "features_relation" in row for row in logged)
    assert not any(
        "features_hidden" in row for row in read_jsonl(run.stage("train-distilled") / "training/metrics.jsonl")
    )
    student = AutoModelForMultipleChoice.from_pretrained(run.folder / "student")
    assert student.config.num_hidden_layers == 1


@pytest.mark.slow
def test_a_model_that_writes_teaches_by_its_scores_of_the_labels(house: House, command) -> None:
    path = house.folder / "rows.jsonl"
    write_jsonl(path, ({"text": row.question, "label": row.answers[0]} for row in tiny_encoders.texts(40)))
    with_data(house, "classify", path)
    house.recipe["data"]["max_length"] = 64
    house.recipe["teacher"] = {"model": str(house.models / "writer"), "kind": "scorer"}
    house.recipe["student"] = {"model": str(house.models / "classify")}
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err


@pytest.mark.slow
def test_words_with_labels(house: House, command) -> None:
    path = house.folder / "rows.jsonl"
    rows = tiny_encoders.sentences(40)
    write_jsonl(path, ({"words": row.question.split(), "tags": row.answers[0].split()} for row in rows))
    with_data(house, "tag", path)
    house.recipe["evaluate"]["metrics"] = ["word_accuracy", "entity_f1"]
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data.labels": ["mobility", "session"]}, "is none of the labels"),
        ({"data.labels": ["session", "mobility", "user plane"]}, "has a head for the labels mobility"),
        ({"distil.method": "uld"}, "these models choose among labels"),
        ({"student.kind": "choice"}, "gives a text a label, and the student compares options"),
    ],
)
def test_what_cannot_be_done_is_refused_in_a_line(house: House, command, fields, message: str) -> None:
    path = house.folder / "rows.jsonl"
    write_jsonl(path, ({"text": row.question, "label": row.answers[0]} for row in tiny_encoders.texts(40)))
    with_data(house, "classify", path)
    if "student.kind" in fields:
        house.recipe["student"] = {"model": str(house.models / "classify")}
    for name, value in fields.items():
        section, _, field = name.partition(".")
        house.recipe[section][field] = value
    refused = command("run", str(house.write_recipe()))
    assert refused.code != 0
    assert "Traceback" not in refused.err
    assert message in refused.err, refused.err
