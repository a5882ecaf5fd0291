"""Where a recipe names no learning rate, the size of the model and LoRA do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from support.tiny import llama, tokenizer
from understudy.files import read_jsonl
from understudy.models.adapters import add_lora
from understudy.models.load import num_parameters
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.stages import run_stage
from understudy.recipe import LoraConfig, TrainConfig, parse_recipe
from understudy.records import PretrainingNotes
from understudy.run import Run


@pytest.mark.parametrize(
    ("num_parameters", "full", "adapters"),
    [
        (0, 5e-4, 1e-3),
        (49_999_999, 5e-4, 1e-3),
        (124_000_000, 1e-4, 5e-4),
        (500_000_000, 2e-5, 2e-4),
        (3_200_000_000, 2e-5, 2e-4),
        (13_000_000_000, 2e-5, 2e-4),
        (33_000_000_000, 1e-5, 1e-4),
    ],
)
def test_the_default_falls_with_size_and_is_higher_for_adapters(
    num_parameters: int, full: float, adapters: float
) -> None:
    assert TrainConfig().with_learning_rate(num_parameters).learning_rate == full
    assert TrainConfig(lora=LoraConfig()).with_learning_rate(num_parameters).learning_rate == adapters
    assert TrainConfig(learning_rate=3e-4).with_learning_rate(num_parameters).learning_rate == 3e-4


def test_a_model_is_counted_without_the_adapters_on_it() -> None:
    with torch.device("meta"):
        model = LlamaForCausalLM(
            LlamaConfig(hidden_size=2048, intermediate_size=8192, num_hidden_layers=2, tie_word_embeddings=True)
        )
    bare = num_parameters(model)
    assert bare == 32_000 * 2048 + 2 * (4 * 2048**2 + 3 * 2048 * 8192 + 2 * 2048) + 2048
    assert num_parameters(add_lora(model, LoraConfig(r=256))) == bare


def pretrained(folder: Path, student: dict[str, Any], pretrain: dict[str, Any]) -> tuple[Run, list[float]]:
    """A run whose tiny student has read a few lines, and the rates at which it did."""
    core = tokenizer()
    core.save_pretrained(folder / "model")
    llama(len(core)).save_pretrained(folder / "model")
    (folder / "text.txt").write_text("The AMF ends N2. The SMF sets up a session.\n" * 20, encoding="utf-8")
    stage = {"source": str(folder / "text.txt"), "steps": 2, "batch_size": 2, "warmup": 0.0, "schedule": "constant"}
    model = {"model": str(folder / "model"), "pretrain": {**stage, "max_length": 32, **pretrain}, **student}
    recipe = parse_recipe({"student": model, "output": str(folder / "runs"), "device": "cpu"})
    run = Run.of(recipe)
    run.prepare(recipe)
    run_stage(stage_of("pretrain", "student"), recipe, run.folder, lambda *_: None)
    rows = read_jsonl(run.stage("student_pretrain") / "training" / "metrics.jsonl")
    return run, [row["learning_rate"] for row in rows if "learning_rate" in row]


@pytest.mark.parametrize(
    ("student", "pretrain", "rate"),
    [
        ({}, {}, 5e-4),
        ({}, {"lora": {"r": 2}}, 1e-3),
        ({"init": "fresh"}, {}, 5e-4),
        ({}, {"learning_rate": 3e-3}, 3e-3),
    ],
)
def test_a_stage_trains_at_it_and_writes_it_down(
    student: dict[str, Any], pretrain: dict[str, Any], rate: float, tmp_path: Path
) -> None:
    run, rates = pretrained(tmp_path, student, pretrain)
    assert set(rates) == {rate}
    assert run.notes("student_pretrain", PretrainingNotes).plan.learning_rate == rate


def test_a_run_that_wrote_its_rate_down_keeps_it() -> None:
    """Runs from before there was a default by size recorded 0.0005; rerun from their record, they train at that."""
    recorded = parse_recipe({"distil": {"steps": 3, "learning_rate": 0.0005}})
    assert recorded.distil.with_learning_rate(3_000_000_000).learning_rate == 0.0005
    assert recorded.fingerprint() != parse_recipe({"distil": {"steps": 3}}).fingerprint()
