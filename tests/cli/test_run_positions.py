"""Rows longer than a model's positions, through the command line: refused where a table ends, told where none does."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
)

from support import tiny_seq2seq
from support.house import House
from support.tiny import tokenizer
from understudy.files import read_json
from understudy.models.load import load_template
from understudy.recipe import ModelConfig
from understudy.tokens.prompts import messages
from understudy.types import Example

LONG = "It is said of the function in question that it was described at length elsewhere. " * 2


def gpt2(size: int) -> Any:
    return GPT2LMHeadModel(GPT2Config(vocab_size=size, n_positions=64, n_embd=16, n_layer=1, n_head=2, eos_token_id=0))


def opt(size: int) -> Any:
    config = OPTConfig(
        vocab_size=size,
        hidden_size=16,
        word_embed_proj_dim=16,
        ffn_dim=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=2,
        eos_token_id=0,
    )
    return OPTForCausalLM(config)


def rotary(size: int) -> Any:
    config = LlamaConfig(
        vocab_size=size,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=64,
        bos_token_id=None,
        eos_token_id=0,
    )
    return LlamaForCausalLM(config)


def bart(size: int) -> Any:
    config = BartConfig(
        vocab_size=size,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
        max_position_embeddings=64,
        eos_token_id=0,
        forced_eos_token_id=0,
        pad_token_id=1,
        bos_token_id=2,
        decoder_start_token_id=0,
    )
    return BartForConditionalGeneration(config)


@pytest.fixture(scope="session")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 64 positions of each kind."""
    folder = tmp_path_factory.mktemp("short")
    for make in (gpt2, opt, rotary, bart):
        core = tiny_seq2seq.tokenizer("bart") if make is bart else tokenizer(300, pad=None)
        core.save_pretrained(folder / make.__name__)
        make(len(core)).save_pretrained(folder / make.__name__)
    return folder


def write_rows(house: House, contexts: int) -> None:
    """48 questions, every sixteenth of them, `contexts` in all, with a context of more than 64 tokens."""
    path = house.folder / "qa.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][:48]
    for number, row in enumerate(rows):
        row.pop("context", None)
        if number < 16 * contexts and number % 16 == 0:
            row["context"] = LONG
    path.write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")


@pytest.fixture
def asked(house: House) -> House:
    """A short run on 48 questions of which three have a long context; every model reads up to 96 tokens."""
    write_rows(house, contexts=3)
    house.recipe["teacher"].pop("sft")
    house.recipe["distil"]["steps"] = 2
    house.recipe["evaluate"] |= {"arms": ["sft", "distilled"]}
    return house


@pytest.mark.parametrize(("name", "side"), [("gpt2", "student"), ("opt", "student"), ("gpt2", "teacher")])
def test_rows_beyond_a_table_are_counted_and_refused_before_any_training(
    asked: House, short: Path, command, name: str, side: str
) -> None:
    asked.recipe[side]["model"] = str(short / name)
    asked.recipe["evaluate"]["arms"] = ["sft"]
    recipe = str(asked.write_recipe())
    done = command("run", recipe)
    assert done.code == 1
    template = load_template(ModelConfig(model=str(short / name)))
    rows = [json.loads(line) for line in (asked.folder / "qa.jsonl").read_text(encoding="utf-8").splitlines()]
    # Contexts are cut to leave 12 of 96 tokens for the answer; the questions alone are short.
    plain = [Example(row["id"], row["question"], (row["answer"],)) for row in rows if "context" not in row]
    assert max(len(template.prompt_ids(messages(example))) for example in plain) + 12 <= 64
    refusal = rf"3 of 48 rows take more than the {side}'s 64 positions \(the longest (\d+) tokens\)"
    match = re.search(refusal, done.err)
    assert match, done.err
    assert 64 < int(match[1]) <= 96
    assert "hint: data.max_length=64 would do" in done.err
    assert not list(asked.folder.glob("runs/*/stages/train-*"))
    seen = command("doctor", recipe)
    assert seen.code == 1
    assert re.search(refusal, seen.out)
    report = json.loads(command("doctor", recipe, "--json").out)
    assert not report["unsound"]
    assert report["refused"] in done.err
    assert report["refused_hint"] == "data.max_length=64 would do"
    looked = command("inspect", recipe)
    assert looked.code == 1
    assert report["refused"] in looked.err


def test_what_the_hint_names_is_enough(asked: House, short: Path, command) -> None:
    asked.recipe["student"]["model"] = str(short / "gpt2")
    recipe = str(asked.write_recipe())
    assert command("doctor", recipe, "data.max_length=64").code == 0
    done = command("run", recipe, "data.max_length=64")
    assert done.code == 0, done.err
    assert "positions" not in done.err


def test_a_model_whose_rows_are_all_short_enough_runs(asked: House, short: Path, command) -> None:
    write_rows(asked, contexts=0)
    asked.recipe["student"]["model"] = str(short / "opt")
    recipe = str(asked.write_recipe())
    assert command("doctor", recipe).code == 0
    done = command("run", recipe)
    assert done.code == 0, done.err
    assert "positions" not in done.err


def test_room_for_an_answer_counts_where_the_model_writes_it(asked: House, short: Path, command) -> None:
    asked.recipe["student"]["model"] = str(short / "gpt2")
    asked.recipe["data"] |= {"max_length": 200, "max_answer_tokens": 70}
    report = json.loads(command("doctor", str(asked.write_recipe()), "--json").out)
    # All but training rows, whose own answers are short, and the one long training row or more.
    assert re.match(r"\d+ of 48 rows take more than the student's 64 positions", report["refused"])
    assert report["refused_hint"] == "data.max_length=64 data.max_answer_tokens=32 would do"


def test_rows_beyond_rotary_positions_run_with_a_warning_in_terminal_and_report(
    asked: House, short: Path, command
) -> None:
    asked.recipe["student"]["model"] = str(short / "rotary")
    recipe = str(asked.write_recipe())
    sentence = "3 of 48 rows take more than the student's 64 positions"
    seen = command("doctor", recipe)
    assert seen.code == 0
    assert sentence in seen.out
    done = command("run", recipe)
    assert done.code == 0, done.err
    [line] = [line for line in done.err.splitlines() if sentence in line]
    assert line.startswith("warning: ")
    assert line.endswith("and it was trained for no more; data.max_length=64 stays within them")
    folder = asked.run_folder()
    assert len(read_json(folder / "stages" / "pair" / "done.json")["warnings"]) == 1
    assert f"{sentence} (" in html.unescape((folder / "report.html").read_text(encoding="utf-8"))


def test_each_side_of_an_encoder_decoder_counts_by_itself(asked: House, short: Path, command) -> None:
    for side in ("teacher", "student"):
        asked.recipe[side]["model"] = str(short / "bart")
    recipe = str(asked.write_recipe())
    report = json.loads(command("doctor", recipe, "--json").out)
    assert report["refused"].startswith("3 of 48 rows take more than the teacher's 64 positions")
    # The encoder reads the prompt alone, so that 12 tokens of answer come on top.
    assert report["refused_hint"] == "data.max_length=76 would do"
    assert command("doctor", recipe, "data.max_length=76").code == 0
    report = json.loads(command("doctor", recipe, "data.max_length=150", "data.max_answer_tokens=80", "--json").out)
    # The decoder begins with two tokens, and its last one is never read: 81 positions.
    assert re.match(r"\d+ of 48 answers take more than the teacher's 64 positions \(the longest 81 ", report["refused"])
    assert report["refused_hint"] == "data.max_length=127 data.max_answer_tokens=63 would do"
    assert command("doctor", recipe, "data.max_length=127", "data.max_answer_tokens=63").code == 0
    done = command("run", recipe, "data.max_length=127", "data.max_answer_tokens=63")
    assert done.code == 0, done.err


def test_raw_text_is_cut_within_the_positions(asked: House, short: Path, command) -> None:
    text = asked.folder / "text.txt"
    text.write_text(LONG * 4, encoding="utf-8")
    asked.recipe["student"] = {
        "model": str(short / "gpt2"),
        "pretrain": {"source": str(text), "steps": 1, "batch_size": 2},
    }
    asked.recipe["data"]["max_length"] = 64
    recipe = str(asked.write_recipe())
    done = command("run", recipe, "student.pretrain.max_length=96")
    assert done.code == 1
    assert "student.pretrain cuts text into rows of 96 tokens, more than the student's 64 positions" in done.err
    assert "student.pretrain.max_length=64 would do" in done.err
    done = command("run", recipe)
    assert done.code == 0, done.err
