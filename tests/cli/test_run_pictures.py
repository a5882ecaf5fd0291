"""Whole runs of models that see, from a user's file of pictures and questions to the report."""

from __future__ import annotations

import json
from pathlib import Path

import PIL.Image
import pytest
import yaml
from transformers import (
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageClassification,
    AutoModelForImageTextToText,
    AutoProcessor,
)

from support import tiny_pictures
from support.house import House, answers, training
from understudy.files import read_json, read_jsonl
from understudy.run import Run


@pytest.fixture(scope="module")
def seeing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that see, of two widths, and one that reads text alone."""
    folder = tmp_path_factory.mktemp("seeing")
    for name, architecture, width in (("teacher", "llava", 24), ("student", "llava", 16), ("blind", "blind", 16)):
        tiny_pictures.folder_of(architecture, folder, width, 1).rename(folder / name)
    tiny_pictures.folder_of.cache_clear()
    return folder


@pytest.fixture
def house(tmp_path: Path, seeing: Path) -> House:
    """Questions on pictures that lie in a folder beside the file."""
    project = House(tmp_path, seeing)
    (tmp_path / "seen").mkdir()
    rows = []
    for n in range(40):
        colour = list(tiny_pictures.COLOURS)[n % 4]
        (tmp_path / "seen" / f"{n}.png").write_bytes(tiny_pictures.content(colour, shade=n))
        rows.append({"question": "Which colour is it?", "answer": colour, "images": f"seen/{n}.png"})
    (tmp_path / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    project.recipe["data"] |= {"max_length": 48, "max_answer_tokens": 8, "dev": 0.2, "test": 0.3}
    project.recipe["teacher"]["sft"] = training(steps=4)
    project.recipe["distil"] = training(steps=4)
    project.recipe["evaluate"] |= {"metrics": ["exact_match"], "arms": ["sft", "seqkd", "distilled"]}
    return project


def test_from_a_file_of_pictures_and_questions_to_a_report(house: House, command) -> None:
    house.recipe["teacher"]["cache"] = {}
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    run = Run(house.run_folder())
    rows = read_jsonl(run.folder / "data" / "test.jsonl")
    assert all(row["images"][0].startswith(str(house.folder / "seen")) for row in rows)
    table = read_json(run.folder / "scores.json")["overall"]["table"]
    assert set(table) >= {"teacher", "sft", "seqkd", "distilled"}
    assert (run.folder / "report.html").is_file()
    student = run.folder / "student"
    card = yaml.safe_load((student / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert card["pipeline_tag"] == "image-text-to-text"
    # What the folder says to somebody who has nothing but the library is what the run measured.
    model, processor = AutoModelForImageTextToText.from_pretrained(student), AutoProcessor.from_pretrained(student)
    [first, *_] = read_jsonl(run.stage("predict-distilled") / "predictions.jsonl")
    picture = next(row["images"][0] for row in rows if row["id"] == first["id"]).rpartition("#")[0]
    turns = [
        {"role": "user", "content": [{"type": "image", "path": picture}, {"type": "text", "text": first["question"]}]}
    ]
    inputs = processor.apply_chat_template(
        turns, tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt"
    )
    ids = model.eval().generate(**inputs, max_new_tokens=8, do_sample=False)[0, inputs["input_ids"].shape[1] :]
    assert processor.tokenizer.decode(ids, skip_special_tokens=True).strip() == first["prediction"]


@pytest.mark.parametrize("student", ["blind", "student"])
def test_a_student_without_pictures_learns_from_a_teacher_that_has_them(house: House, command, student: str) -> None:
    house.recipe["student"] = {"model": str(house.models / student)}
    house.recipe["student"] |= {"images": False} if student == "student" else {}
    house.recipe["evaluate"]["arms"] = ["sft", "distilled"]
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    run = Run(house.run_folder())
    notes = read_json(run.stage("pair") / "done.json")
    assert "40 rows have pictures, and the student is not shown them." in json.dumps(notes, ensure_ascii=False)
    opens = AutoModelForCausalLM if student == "blind" else AutoModelForImageTextToText
    opens.from_pretrained(run.folder / "student")
    # It answers by the text alone, which is the same of every row.
    assert len({row["prediction"] for row in read_jsonl(run.stage("predict-distilled") / "predictions.jsonl")}) == 1


def test_a_run_that_is_started_again_answers_as_one_that_was_not_stopped(house: House, command) -> None:
    recipe = str(house.write_recipe())
    assert command("run", recipe).code == 0
    run = Run(house.run_folder())
    before = answers(run.folder)
    weights = (run.stage("train-distilled") / "model" / "model.safetensors").read_bytes()
    for name in ("train-distilled", "predict-distilled"):
        run.reopen(name)
    assert command("run", recipe).code == 0
    assert answers(run.folder) == before
    assert (run.stage("train-distilled") / "model" / "model.safetensors").read_bytes() == weights


def test_a_student_that_sees_is_neither_served_nor_exported_yet(house: House, command) -> None:
    house.recipe["evaluate"]["arms"] = ["distilled"]
    assert command("run", str(house.write_recipe())).code == 0
    folder = str(house.run_folder())
    served = house.call("serve", folder, "--models", "student", "--port", "0")
    assert served.returncode == 1
    assert "student was measured with pictures, and requests to a server hold text alone" in served.stderr
    exported = command("export", folder, "--to", "merged")
    assert exported.code == 1
    assert "export verifies what a model makes of text, and this one reads pictures" in exported.err
    assert "Traceback" not in served.stderr + exported.err


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"distil": {**training(steps=2), "on_policy": {}}}, "distil.on_policy has no pictures yet, and 40 rows have"),
        ({"student": {"from_teacher": {"layers": 1}}}, "student.from_teacher cuts blocks of text alone"),
        ({"data": {"max_length": 16}}, "the question takes"),
    ],
)
def test_what_has_no_pictures_yet_says_so_in_one_line(house: House, command, changes: dict, line: str) -> None:
    for name, value in changes.items():
        house.recipe[name] = house.recipe[name] | value if name == "data" else value
    done = command("run", str(house.write_recipe()))
    assert done.code != 0
    assert line in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("name", ["inspect", "doctor"])
def test_commands_that_look_at_text_refuse_a_pair_that_sees(house: House, command, name: str) -> None:
    done = command(name, str(house.write_recipe()))
    assert done.code != 0
    assert "looks at text, and one of these models reads pictures" in done.err
    assert "Traceback" not in done.err


def test_a_missing_picture_stops_the_run_before_a_weight_is_loaded(house: House, command) -> None:
    (house.folder / "seen" / "7.png").unlink()
    done = command("run", str(house.write_recipe()))
    assert done.code != 0
    assert "qa.jsonl:8: images[0]: cannot read the picture" in done.err
    house.recipe["data"]["on_bad_row"] = "quarantine"
    house.recipe["evaluate"]["arms"] = ["sft"]
    assert command("run", str(house.write_recipe())).code == 0
    [folder] = [path for path in (house.folder / "runs").iterdir() if (path / "data" / "quarantine.jsonl").is_file()]
    assert len(read_jsonl(folder / "data" / "quarantine.jsonl")) == 1


def test_pictures_with_labels_to_a_student_that_the_library_opens(house: House, command) -> None:
    rows = [json.loads(line) for line in (house.folder / "qa.jsonl").read_text().splitlines()]
    lines = [json.dumps({"images": row["images"], "label": row["answer"]}) + "\n" for row in rows]
    (house.folder / "qa.jsonl").write_text("".join(lines), encoding="utf-8")
    model = {"model": "embedded:digit-reader", "kind": "classify_images", "init": "fresh"}
    house.recipe["data"]["labels"] = list(tiny_pictures.COLOURS)
    house.recipe["data"]["gold_share"] = 0.5
    house.recipe["teacher"] = {**model, "sft": training(steps=3), "cache": {}}
    house.recipe["student"] = {**model, "config": {"num_hidden_layers": 1}}
    house.recipe["evaluate"] |= {"metrics": ["accuracy", "macro_f1"], "arms": ["sft", "distilled"]}
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    run = Run(house.run_folder())
    predictions = read_jsonl(run.stage("predict-distilled") / "predictions.jsonl")
    assert {row["prediction"] for row in predictions} <= set(tiny_pictures.COLOURS)
    student = run.folder / "student"
    card = yaml.safe_load((student / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert card["pipeline_tag"] == "image-classification"
    model, processor = (
        AutoModelForImageClassification.from_pretrained(student),
        AutoImageProcessor.from_pretrained(student),
    )
    picture = read_jsonl(run.folder / "data" / "test.jsonl")[0]["images"][0].rpartition("#")[0]
    place = int(model.eval()(**processor(images=[PIL.Image.open(picture)], return_tensors="pt")).logits.argmax())
    assert model.config.id2label[place] == predictions[0]["prediction"]
