"""Ids are read in one way, and no space is lost in it, whatever a tokenizer asks for."""

import ast
import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from support.tiny import DATA, examples, parrot, tokenizer
from understudy.completers.local_completer import LocalCompleter
from understudy.evaluation.predict import predict
from understudy.files import read_jsonl
from understudy.inspection.doctor import examine
from understudy.models.load import load_template
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.stages import run_stage
from understudy.recipe import EndpointConfig, ModelConfig, parse_recipe
from understudy.run import Run
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.template import Template
from understudy.tokens.template_checks import altered, round_trip
from understudy.types import Message, Request

SOURCE = Path(__file__).resolve().parents[2] / "src" / "understudy"
SPACED = "x != y ?"


def unigram():
    """A Unigram whose file asks for the clean-up of spaces before signs."""
    pieces = ["▁x", "▁!=", "▁y", "▁?", "▁why", "▁"]
    core = Tokenizer(models.Unigram([("<unk>", 0.0), ("</s>", 0.0), *((piece, -1.0) for piece in pieces)], unk_id=0))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=True
    )


@pytest.fixture
def folder(tmp_path):
    """A model that answers `x != y ?` to everything."""
    template = Template(unigram())
    for part in (template.tokenizer, parrot(template, SPACED)):
        part.save_pretrained(tmp_path / "model")
    config = json.loads((tmp_path / "model" / "tokenizer_config.json").read_text())
    assert config["clean_up_tokenization_spaces"] is True
    return str(tmp_path / "model")


def test_spaces_before_signs_stay():
    core = unigram()
    template = Template(core)
    assert core.decode(template.text_ids(SPACED), clean_up_tokenization_spaces=True) != SPACED
    assert round_trip(template, SPACED) == SPACED
    assert altered(template, template.encode([{"role": "user", "content": "why"}], SPACED), SPACED) is None


def test_predictions_and_completions_keep_their_spaces(folder):
    template = load_template(ModelConfig(model=folder))
    model = parrot(template, SPACED)
    rows = predict(model, ExampleTokenizer(template, DATA), examples(2), batch_size=2)
    assert [row.prediction for row in rows] == [SPACED] * 2
    judge = LocalCompleter(EndpointConfig(model=folder, max_tokens=16), device="cpu")
    assert [done.text for done in judge.complete([Request("q", (Message("user", "why"),))])] == [SPACED]


def test_the_answers_that_seqkd_learns_keep_their_spaces_and_the_doctor_reads_the_same(folder, tmp_path):
    rows = [{"id": str(n), "question": f"why {n}", "answer": SPACED} for n in range(20)]
    (tmp_path / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    recipe = parse_recipe(
        {
            "data": {
                "source": str(tmp_path / "qa.jsonl"),
                "gold_share": 0.5,
                "max_length": 128,
                "max_answer_tokens": 16,
            },
            "teacher": {"model": folder},
            "student": {"model": folder},
            "output": str(tmp_path / "runs"),
            "device": "cpu",
        }
    )
    run = Run.of(recipe)
    run.prepare(recipe)
    for name in ("data", "answers"):
        run_stage(stage_of(name, ""), recipe, run.folder, lambda *_: None)
    answers = [row["answers"] for row in read_jsonl(run.stage("answers") / "answers.jsonl")]
    assert answers
    assert all(answer == [SPACED] for answer in answers)
    report = examine(recipe)
    assert report.student.answers_altered == report.teacher.answers_altered == 0


def test_a_saved_student_is_read_as_its_report_was(folder, tmp_path):
    load_template(ModelConfig(model=folder)).tokenizer.save_pretrained(tmp_path / "saved")
    saved = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert saved.decode(saved(SPACED)["input_ids"]) == SPACED


def test_tags_of_thoughts_are_read_though_they_are_special():
    """Else a thought would run into its answer."""
    core = tokenizer()
    core.add_special_tokens({"additional_special_tokens": ["<think>", "</think>", "<turn>"]})
    template = Template(core)
    ids = core("<s><think>hm</think> AMF<turn></s>", add_special_tokens=False)["input_ids"]
    assert template.decode(ids) == "<think>hm</think> AMF"


def test_nothing_else_decodes_ids():
    """What decodes bytes, or the name of one token to show it, reads no ids."""
    calls = [
        str(path.relative_to(SOURCE))
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and node.attr in ("decode", "batch_decode")
        if "tokenizer" in ast.unparse(node.value)
    ]
    assert set(calls) == {"tokens/template.py"}
