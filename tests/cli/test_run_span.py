"""Whole runs of encoders that point at their answers, on a published set, through the command line."""

from __future__ import annotations

import collections
import re
import string
from pathlib import Path

import pytest
import yaml
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from support import tiny, tiny_span
from support.house import House, training
from understudy.data.load import load_splits
from understudy.files import read_json, read_jsonl
from understudy.recipe import DataConfig
from understudy.run import Run

XQUAD = Path(__file__).parents[3] / "shared" / "data" / "qa" / "xquad" / "xquad.en.json"
pytestmark = pytest.mark.skipif(not XQUAD.is_file(), reason="../shared/data is not here")


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two encoders of one tokenizer, one that has another, and a model that writes."""
    folder = tmp_path_factory.mktemp("encoders")
    splits = load_splits(DataConfig(source=str(XQUAD), format="squad", dev=0.1, test=0.1, limit=200))
    texts = tiny_span.texts_of(splits.train)
    shared, different = (tiny_span.tokenizer(texts, size) for size in (800, 600))
    for name, reader, width in (("teacher", shared, 24), ("student", shared, 16), ("other", different, 16)):
        reader.save_pretrained(folder / name)
        tiny_span.bert(len(reader), width=width, seed=len(name)).save_pretrained(folder / name)
    writer = tiny.tokenizer()
    writer.save_pretrained(folder / "writer")
    tiny.llama(len(writer)).save_pretrained(folder / "writer")
    return folder


@pytest.fixture
def house(tmp_path: Path, encoders: Path) -> House:
    """A recipe for the published set."""
    project = House(tmp_path, encoders)
    project.recipe["data"] = {
        "source": str(XQUAD),
        "format": "squad",
        "limit": 120,
        "gold_share": 0.5,
        "max_length": 128,
        "max_answer_tokens": 16,
    }
    project.recipe["teacher"]["sft"] = training(steps=3)
    project.recipe["distil"] = training(steps=3)
    project.recipe["evaluate"] |= {"rows": 20, "arms": ["sft", "seqkd", "distilled"]}
    return project


def official(prediction: str, references: list[str]) -> tuple[float, float]:
    """Exact match and F1 as SQuAD's evaluation defines them, written anew."""

    def tokens(text: str) -> list[str]:
        plain = "".join(letter for letter in text.lower() if letter not in string.punctuation)
        return re.sub(r"\b(a|an|the)\b", " ", plain).split()

    def f1(own: list[str], other: list[str]) -> float:
        shared = sum((collections.Counter(own) & collections.Counter(other)).values())
        if not own or not other:
            return float(own == other)
        return 2 * shared / (len(own) + len(other))

    own = tokens(prediction)
    return max(float(own == tokens(text)) for text in references), max(f1(own, tokens(text)) for text in references)


def test_a_run_goes_to_its_report(house: House, command) -> None:
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    run = Run(house.run_folder())
    table = read_json(run.folder / "scores.json")["overall"]["table"]
    asked = {row["id"]: row["context"] for row in read_jsonl(run.folder / "data" / "test.jsonl")}
    for arm in ("teacher", "base_student", "sft", "seqkd", "distilled"):
        rows = read_jsonl(run.stage(f"predict-{arm}") / "predictions.jsonl")
        assert {row["id"]: row["context"] for row in rows} == asked
        assert all(row["prediction"] in row["context"] or row["prediction"] == "unanswerable" for row in rows)
        values = [official(row["prediction"], row["references"]) for row in rows]
        for name, column in (("exact_match", 0), ("token_f1", 1)):
            assert table[arm][name]["value"] == pytest.approx(
                sum(value[column] for value in values) / len(rows), abs=1e-9
            )
    assert (run.folder / "report.html").is_file()
    # The student's folder says what it is, and the library opens it as that.
    card = yaml.safe_load((run.folder / "student" / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert card["pipeline_tag"] == "question-answering"
    student = AutoModelForQuestionAnswering.from_pretrained(run.folder / "student")
    row = read_jsonl(run.stage("predict-distilled") / "predictions.jsonl")[0]
    reader = AutoTokenizer.from_pretrained(run.folder / "student")
    encoded = reader(row["question"], row["context"], truncation=True, max_length=128, return_tensors="pt")
    assert student(**encoded).start_logits.shape == encoded["input_ids"].shape


def test_a_place_in_the_context_does_not_go_to_the_teacher_s_answer(house: House, command) -> None:
    assert command("run", str(house.write_recipe())).code == 0
    run = Run(house.run_folder())
    assert any("answer_start" in row["meta"] for row in read_jsonl(run.folder / "data" / "train.jsonl"))
    answers = read_jsonl(run.stage("answers") / "answers.jsonl")
    assert answers
    assert not any("answer_start" in row["meta"] for row in answers)


@pytest.mark.parametrize(
    ("section", "fields", "message"),
    [
        ("distil", {"method": "dskd"}, "this teacher gives log-probabilities"),
        ("distil", {"method": "uld"}, "these models point at positions"),
        ("student", {"model": "other"}, "needs one vocabulary"),
        ("student", {"model": "writer"}, "the teacher points at them in the context, and the student writes"),
        ("teacher", {"model": "writer"}, "the teacher writes its answers, and the student points"),
    ],
)
def test_what_cannot_be_distilled_is_refused_before_any_weight(
    house: House, command, section: str, fields: dict[str, str], message: str
) -> None:
    if "model" in fields:
        fields = {"model": str(house.models / fields["model"])}
    house.recipe[section] |= fields
    refused = command("run", str(house.write_recipe()))
    assert refused.code != 0
    assert message in refused.err
    assert not list(house.folder.glob("runs/*/stages/*/model"))


def test_texts_that_stand_in_no_context_are_left_out_and_counted(house: House, command) -> None:
    """The teacher writes noise here, so not one of its answers stands in a context."""
    house.recipe["teacher"] = {"model": str(house.models / "writer")}
    house.recipe["evaluate"] |= {"arms": ["sft", "seqkd"]}
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    run = Run(house.run_folder())
    notes = run.record("train-seqkd").notes["notes"]
    answers = read_jsonl(run.stage("answers") / "answers.jsonl")
    assert notes["the teacher's answers that the student cannot give: left out"] == len(answers) > 0
    house.recipe["seqkd"] = {"keep_gold": False, "keep_unfinished": True}
    refused = command("run", str(house.write_recipe()))
    assert refused.code != 0
    assert "the student can give none of the teacher's answers" in refused.err
    assert "Traceback" not in refused.err


def test_a_teacher_that_points_may_be_asked_for_texts(house: House, command) -> None:
    """Gold answers that stand nowhere are learned by a student that writes; the teacher is only asked."""
    path = house.folder / "rows.jsonl"
    row = '{{"id": "r{0}", "question": "Who ends N{0}?", "answer": "PCF", "context": "The SMF ends all."}}\n'
    path.write_text("".join(row.format(n) for n in range(40)), encoding="utf-8")
    house.recipe["data"] |= {"source": str(path), "format": "auto", "gold_share": 0.5, "test": 0.2, "dev": 0.1}
    house.recipe["data"].pop("limit")
    house.recipe["teacher"] = {"model": str(house.models / "teacher")}
    house.recipe["student"] = {"model": str(house.models / "writer")}
    house.recipe["evaluate"] |= {"arms": ["sft", "seqkd"]}
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err


def test_rows_that_no_span_answers_are_named_before_training(house: House, command, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(
        "".join(
            f'{{"id": "r{n}", "question": "Who ends N{n}?", "answer": "{"PCF" if n == 5 else "SMF"}", '
            '"context": "The SMF ends all."}\n'
            for n in range(40)
        ),
        encoding="utf-8",
    )
    house.recipe["data"] |= {"source": str(path), "format": "auto", "gold_share": 1.0, "test": 0.1, "dev": 0.1}
    refused = command("run", str(house.write_recipe()))
    assert refused.code != 0
    assert "r5: the answer 'PCF' does not stand in the context" in refused.err


@pytest.mark.parametrize("name", ["doctor", "inspect"])
def test_doctor_and_inspect_say_that_they_do_not_know_spans(house: House, command, name: str) -> None:
    refused = command(name, str(house.write_recipe()))
    assert refused.code != 0
    assert "points at" in refused.err
    assert "Traceback" not in refused.err
