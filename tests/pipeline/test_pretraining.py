"""Continued pretraining: every token is learned once, and what is learned is the text."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoModelForCausalLM

from support.tiny import FACTS, llama, tokenizer
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.scheduler import stages
from understudy.pipeline.stages import run_stage
from understudy.pipeline.stages.context import Context, student_weights, teacher_weights
from understudy.pipeline.stages.pretraining import packed
from understudy.recipe import parse_recipe
from understudy.records import PretrainingNotes
from understudy.run import Run
from understudy.tokens.collate import Collator
from understudy.tokens.template import Template

TEXTS = [f"{question} {answer}." for question, answer in FACTS]
TEMPLATE = Template(tokenizer())


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text(max_size=30), max_size=5), st.integers(2, 40))
def test_every_token_but_the_first_is_learned_exactly_once(texts: list[str], length: int) -> None:
    core = TEMPLATE.tokenizer
    ids = [
        token
        for text in texts
        for token in (core.bos_token_id, *core(text, add_special_tokens=False)["input_ids"], core.eos_token_id)
    ]
    rows = packed(TEMPLATE, texts, length)
    assert list(itertools.chain(*(row.student.answer_ids for row in rows))) == ids[1:]
    assert all(len(row.student.ids) == length for row in rows[:-1])
    assert all(2 <= len(row.student.ids) <= length for row in rows[-1:])
    for one, following in itertools.pairwise(rows):
        assert following.student.prompt_ids == one.student.ids[-1:]


def test_a_document_that_names_the_end_token_does_not_end_there() -> None:
    text = "Write </s> behind <s>old</s> text."
    (row,) = packed(TEMPLATE, [text], 200)
    assert row.student.answer_ids.count(TEMPLATE.tokenizer.eos_token_id) == 1
    assert TEMPLATE.decode(row.student.ids) == text


def test_the_batch_learns_the_next_token_everywhere_and_no_padding() -> None:
    rows = packed(TEMPLATE, TEXTS[:2], 16)
    batch = Collator(TEMPLATE.tokenizer.pad_token_id)(rows)["student"]
    assert torch.equal(batch["target_mask"], batch["inputs"]["attention_mask"].bool())
    for index, row in enumerate(rows):
        ids = batch["inputs"]["input_ids"][index][batch["target_mask"][index]]
        assert ids.tolist() == row.student.ids[:-1]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run whose student reads raw text first."""
    core = tokenizer()
    core.save_pretrained(tmp_path / "model")
    llama(len(core)).save_pretrained(tmp_path / "model")
    (tmp_path / "text.txt").write_text("\n".join(TEXTS), encoding="utf-8")
    pretrain = {"source": str(tmp_path / "text.txt"), "steps": 30, "batch_size": 4, "learning_rate": 0.01}
    recipe = parse_recipe(
        {
            "teacher": {"model": str(tmp_path / "model")},
            "student": {"model": str(tmp_path / "model"), "pretrain": {**pretrain, "max_length": 48}},
            "output": str(tmp_path / "runs"),
            "device": "cpu",
        }
    )
    made = Run.of(recipe)
    made.prepare(recipe)
    return made


def test_the_stage_lowers_the_loss_on_its_text_and_says_what_it_read(run: Run) -> None:
    recipe = run.recipe
    run_stage(stage_of("pretrain", "student"), recipe, run.folder, lambda *_: None)
    notes = run.notes("student_pretrain", PretrainingNotes)
    assert notes.documents == 1
    assert notes.plan.steps == 30
    assert notes.best_rougeL is None
    context = Context(run, recipe, lambda *_: None, stage_of("train", "sft"), recipe)
    assert student_weights(context) == str(run.stage("student_pretrain") / "model")
    assert teacher_weights(run, recipe) is None
    rows = packed(TEMPLATE, TEXTS, 48)
    losses = []
    for folder in (recipe.student.model, run.stage("student_pretrain") / "model"):
        model = AutoModelForCausalLM.from_pretrained(folder)
        total = [model(torch.tensor([row.student.ids]), labels=torch.tensor([row.student.ids])).loss for row in rows]
        losses.append(torch.stack(total).mean().item())
    assert losses[1] < 0.75 * losses[0]


def test_pretraining_comes_before_fine_tuning_on_either_side() -> None:
    raw = {"source": "documents"}
    model = {"model": "m", "pretrain": raw, "sft": {"steps": 1}}
    plan = {stage.name: stage for stage in stages(parse_recipe({"teacher": model, "student": model}), unlabelled=True)}
    for side in ("teacher", "student"):
        assert plan[f"{side}_pretrain"].needs == ()
        assert plan[f"{side}_sft"].needs == ("data", f"{side}_pretrain")
    only = {"model": "m", "pretrain": raw}
    plan = {stage.name: stage for stage in stages(parse_recipe({"teacher": only, "student": only}), unlabelled=True)}
    assert plan["answers"].needs == ("data", "teacher_pretrain")
    assert set(plan["train-distilled"].needs) == {"answers", "data", "student_pretrain"}
    assert plan["predict-base_student"].needs == ("data",)
