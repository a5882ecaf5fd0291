"""Whole runs of models that write down what they hear, from a user's table of recordings to the report."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

from support import tiny_pictures, tiny_speech
from support.house import House, answers, training
from understudy.data.recordings import samples
from understudy.files import read_json, read_jsonl
from understudy.run import Run


@pytest.fixture(scope="module")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that hear, of two widths, and one that reads text."""
    folder = tmp_path_factory.mktemp("hearing")
    for name, width in (("teacher", 24), ("student", 16)):
        tiny_speech.folder_of(folder, width, 1).rename(folder / name)
    tiny_speech.folder_of.cache_clear()
    tiny_pictures.folder_of("blind", folder, 16, 1).rename(folder / "deaf")
    tiny_pictures.folder_of.cache_clear()
    return folder


@pytest.fixture
def house(tmp_path: Path, hearing: Path) -> House:
    """Recordings in a folder beside a table that says what is said in them."""
    project = House(tmp_path, hearing)
    (tmp_path / "heard").mkdir()
    rows = [["file_name", "transcription", "speaker"]]
    for n in range(40):
        words = tiny_speech.words_of(n % 16)
        (tmp_path / "heard" / f"{n}.wav").write_bytes(tiny_speech.content(words, loud=0.3 + n / 100))
        rows.append([f"heard/{n}.wav", words, f"speaker {n % 3}"])
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    project.recipe["data"] |= {"source": str(tmp_path / "rows.csv"), "max_answer_tokens": 6, "dev": 0.2, "test": 0.3}
    project.recipe["data"].pop("max_length")
    project.recipe["teacher"]["sft"] = training(steps=4)
    project.recipe["distil"] = training(steps=4)
    project.recipe["evaluate"] |= {"metrics": ["wer", "cer", "exact_match"], "arms": ["sft", "seqkd", "distilled"]}
    return project


def transcribed(folder: Path, audio: str) -> str:
    """What a folder says to somebody who has nothing but the library: Whisper's own `generate`."""
    model, processor = AutoModelForSpeechSeq2Seq.from_pretrained(folder), AutoProcessor.from_pretrained(folder)
    rate = tiny_speech.RATE
    inputs = processor(samples(audio, rate), sampling_rate=rate, return_tensors="pt")
    ids = model.eval().generate(inputs.input_features, max_new_tokens=6)[0]
    return processor.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()


def test_from_a_table_of_recordings_to_a_report(house: House, command) -> None:
    house.recipe["teacher"]["cache"] = {}
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    run = Run(house.run_folder())
    rows = {row["id"]: row for row in read_jsonl(run.folder / "data" / "test.jsonl")}
    assert all(row["audio"].startswith(str(house.folder / "heard")) for row in rows.values())
    assert {row["meta"]["speaker"] for row in rows.values()} <= {f"speaker {n}" for n in range(3)}
    scores = read_json(run.folder / "scores.json")
    assert set(scores["overall"]["table"]) >= {"teacher", "sft", "seqkd", "distilled"}
    assert not scores["metrics"]["wer"]["higher_is_better"]
    assert "Word error rate" in (run.folder / "report.html").read_text(encoding="utf-8")
    student = run.folder / "student"
    card = yaml.safe_load((student / "README.md").read_text(encoding="utf-8").split("---")[1])
    assert card["pipeline_tag"] == "automatic-speech-recognition"
    for row in read_jsonl(run.stage("predict-distilled") / "predictions.jsonl")[:4]:
        assert transcribed(student, rows[row["id"]]["audio"]) == row["prediction"]


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


def test_a_student_that_hears_is_neither_served_nor_exported_yet(house: House, command) -> None:
    house.recipe["evaluate"]["arms"] = ["distilled"]
    assert command("run", str(house.write_recipe())).code == 0
    folder = str(house.run_folder())
    served = house.call("serve", folder, "--models", "student", "--port", "0")
    assert served.returncode == 1
    assert "student writes down recordings, and requests to a server hold text alone" in served.stderr
    exported = command("export", folder, "--to", "merged")
    assert exported.code == 1
    assert "export verifies what a model makes of text, and this one hears recordings" in exported.err
    assert "Traceback" not in served.stderr + exported.err


RATE = {"learning_rate": 3e-3, "eval_every": 50, "save_every": 50}
MADE_FOR_TEXT = "is made for text, and here recordings are written down"


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"student": {"model": "deaf"}}, "40 rows have recordings, and the student reads text"),
        ({"teacher": {"model": "deaf"}}, "40 rows have recordings, and the teacher reads text"),
        ({"distil": {**training(steps=2), "on_policy": {}}}, f"distil.on_policy {MADE_FOR_TEXT}"),
        ({"features": {}}, "features compares inner states of what is read as text, and one of these models hears"),
        ({"data": {"system": "Be brief."}}, f"data.system {MADE_FOR_TEXT}"),
        ({"student": {"from_teacher": {"layers": 1}}}, "student.from_teacher cuts blocks of text alone"),
        ({"teacher": {"model": "teacher", "hint": {"text": "{}", "field": "speaker"}}}, "teacher.hint is for models"),
        (
            {"student": {"model": "student", "context": False}},
            "student.context: false is for models that read a prompt",
        ),
    ],
)
def test_what_is_made_for_text_says_so_in_one_line(house: House, command, changes: dict, line: str) -> None:
    for name, value in changes.items():
        if "model" in value:
            value["model"] = str(house.models / value["model"])
        house.recipe[name] = house.recipe[name] | value if name == "data" else value
    refused(command("run", str(house.write_recipe())), line)


def refused(done: Any, line: str) -> None:
    """It ended with one line and no traceback."""
    assert done.code != 0
    assert line in done.err
    assert "Traceback" not in done.err


@pytest.mark.parametrize("name", ["inspect", "doctor"])
def test_commands_that_look_at_text_refuse_a_pair_that_hears(house: House, command, name: str) -> None:
    refused(command(name, str(house.write_recipe())), "looks at text, and one of these models hears recordings")


def test_rows_without_recordings_are_refused_by_models_that_hear(house: House, command) -> None:
    house.write_data()
    house.recipe["data"]["source"] = str(house.folder / "qa.jsonl")
    refused(command("run", str(house.write_recipe())), "reads a recording, and the row has none")


def test_a_missing_recording_stops_the_run_before_a_weight_is_loaded(house: House, command) -> None:
    (house.folder / "heard" / "7.wav").unlink()
    refused(command("run", str(house.write_recipe())), "rows.csv:9: file_name: cannot read the recording")
    house.recipe["data"]["on_bad_row"] = "quarantine"
    house.recipe["evaluate"]["arms"] = ["sft"]
    assert command("run", str(house.write_recipe())).code == 0
    [folder] = [path for path in (house.folder / "runs").iterdir() if (path / "data" / "quarantine.jsonl").is_file()]
    assert len(read_jsonl(folder / "data" / "quarantine.jsonl")) == 1


def test_a_recording_that_is_too_long_is_named_or_set_aside(house: House, command) -> None:
    (house.folder / "heard" / "7.wav").write_bytes(tiny_speech.content(" ".join(["raise"] * 20)))
    line = "the recording takes 5.0 s, and the model hears 4 s at once"
    refused(command("run", str(house.write_recipe())), line)
    house.recipe["data"]["on_bad_row"] = "quarantine"
    house.recipe["evaluate"]["arms"] = ["sft"]
    assert command("run", str(house.write_recipe())).code == 0
    [path] = (house.folder / "runs").glob("*/data/quarantine.jsonl")
    [row] = read_jsonl(path)
    assert line in json.dumps(row)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("espeak-ng") is None, reason="espeak-ng is not installed")
def test_spoken_commands_from_the_grammar_to_a_report(house: House, command) -> None:
    """A student of one block writes commands down better than one that always says the likeliest."""
    small = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 48, "encoder_ffn_dim": 96, "decoder_ffn_dim": 96}
    reader = {"model": "embedded:speech-reader", "init": "fresh"}
    house.recipe |= {
        "data": {"source": "embedded:spoken", "limit": 200, "gold_share": 0.5, "max_answer_tokens": 20},
        "teacher": {**reader, "config": small, "sft": training(150) | RATE},
        "student": {**reader, "config": {**small, "d_model": 32}},
        "distil": training(60) | RATE,
    }
    house.recipe["evaluate"] |= {"metrics": ["wer", "cer"], "arms": ["sft", "distilled"]}
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    table = read_json(house.run_folder() / "scores.json")["overall"]["table"]
    assert 0 < table["teacher"]["wer"]["value"] < 1
    assert (house.run_folder() / "report.html").is_file()
