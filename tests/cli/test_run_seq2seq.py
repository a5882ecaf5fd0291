"""Whole runs with an encoder–decoder as student, through the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

from support import tiny_seq2seq
from support.house import House
from support.tiny import llama
from understudy.files import read_json, read_jsonl
from understudy.records import SpeedNotes
from understudy.run import Run


@pytest.fixture(scope="module")
def seq2seq(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """T5 as teacher and student of one vocabulary, and a causal teacher of the same."""
    folder = tmp_path_factory.mktemp("seq2seq")
    reader = tiny_seq2seq.tokenizer("t5")
    for name, width in (("teacher", 24), ("student", 16)):
        reader.save_pretrained(folder / name)
        tiny_seq2seq.model("t5", len(reader), width=width, seed=len(name)).save_pretrained(folder / name)
    reader.save_pretrained(folder / "causal")
    llama(len(reader), width=24).save_pretrained(folder / "causal")
    return folder


@pytest.fixture
def house(tmp_path: Path, seq2seq: Path) -> House:
    """A question set with choices in it, and a recipe for T5."""
    project = House(tmp_path, seq2seq)
    project.write_data(48)
    lines = (project.folder / "qa.jsonl").read_text(encoding="utf-8").splitlines()
    rows: list[dict[str, Any]] = [json.loads(line) for line in lines]
    for row in rows[::2]:
        row["choices"] = [row["answer"], "none of these"]
    (project.folder / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    project.recipe["distil"] |= {"steps": 3, "lora": {"r": 2}}
    project.recipe["teacher"]["sft"] |= {"steps": 3}
    project.recipe["evaluate"] |= {"arms": ["sft", "seqkd", "distilled"], "rows": 5}
    return project


def test_t5_learns_from_t5(house: House, command) -> None:
    recipe = str(house.write_recipe())
    outcome = command("doctor", recipe)
    assert outcome.code == 0, outcome.err
    done = command("run", recipe)
    assert done.code == 0, done.err
    run = Run(house.run_folder())
    for arm in ("teacher", "base_student", "sft", "seqkd", "distilled"):
        rows = read_jsonl(run.stage(f"predict-{arm}") / "predictions.jsonl")
        assert len(rows) == 5
        assert all((row["choice_scores"] is not None) == bool(row["choices"]) for row in rows)
    assert set(read_json(run.folder / "scores.json")["overall"]["table"]) >= {"teacher", "sft", "seqkd", "distilled"}
    assert (run.notes("speed-student", SpeedNotes).speed.tokens_per_second or 0) > 0
    model = AutoModelForSeq2SeqLM.from_pretrained(run.folder / "student")
    reader = AutoTokenizer.from_pretrained(run.folder / "student")
    ids = torch.tensor([reader("Who charges?")["input_ids"]])
    assert model.generate(ids, max_new_tokens=3)[0, 0] == reader.pad_token_id
    card = (run.folder / "student" / "README.md").read_text(encoding="utf-8")
    assert "pipeline_tag: text2text-generation" in card


def test_inspect_shows_what_the_encoder_reads_and_the_decoder_writes(house: House, command) -> None:
    outcome = command("inspect", str(house.write_recipe()))
    assert outcome.code == 0, outcome.err
    assert "head(hidden) is the model's own logits" in outcome.out + outcome.err


def test_t5_learns_the_texts_and_the_logits_of_a_causal_teacher(house: House, command) -> None:
    house.recipe["teacher"]["model"] = str(house.models / "causal")
    house.recipe["evaluate"] |= {"arms": ["seqkd", "distilled"], "rows": 3, "speed": False}
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    assert Run(house.run_folder()).is_done("train-distilled")


def test_a_causal_teacher_that_cuts_answers_elsewhere_is_refused_in_one_line(house: House, command) -> None:
    house.recipe["teacher"]["model"] = str(house.models / "causal")
    # The space before the answer belongs to the prompt here, so its first token is another one.
    house.recipe["teacher"]["chat_template"] = (
        "{% for m in messages %}{% if m.role == 'user' %}Q: {{ m.content }} A: "
        "{% else %}{{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
    )
    done = command("run", str(house.write_recipe()))
    assert done.code == 1
    assert "error: teacher and student cut the same answer into different tokens" in done.err


def test_raw_text_is_nothing_for_an_encoder_decoder(house: House, command, tmp_path: Path) -> None:
    (tmp_path / "raw.txt").write_text("The AMF terminates N2.", encoding="utf-8")
    house.recipe["student"]["pretrain"] = {"source": str(tmp_path / "raw.txt"), "steps": 1}
    done = command("run", str(house.write_recipe()))
    assert done.code == 1
    assert "is an encoder–decoder, and continued pretraining learns the next token of plain text" in done.err
    assert "leave out student.pretrain" in done.err
