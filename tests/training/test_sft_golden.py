"""Supervised training against TRL: the same target tokens and the same loss on one conversation."""

import pytest
import torch

from support.golden import CONVERSATION, NUMBERS
from understudy.models.forward import forward
from understudy.models.load import load_example_tokenizer, load_model
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.collate import Collator, EncodedRow
from understudy.training.objectives.cross_entropy import CrossEntropy
from understudy.types import Example, Message


def test_one_conversation_is_learned_as_trl_learns_it():
    """TRL's `SFTTrainer` with prompt and completion; its loss is the mean over the target tokens."""
    theirs = NUMBERS["sft"]["numbers"]
    config = ModelConfig(model="embedded:telecom-student")
    system, asked, answer = CONVERSATION
    example = Example("0", asked["content"], (answer["content"],), history=(Message(**system),))
    row = load_example_tokenizer(config, DataConfig()).encode(example)
    assert row.prompt_ids == theirs["prompt"]
    assert row.learned_ids == theirs["labels"]
    model = load_model(config, torch.device("cpu"))
    batch = Collator(student_pad=0)([EncodedRow("0", row, None, gold=True)])
    with torch.no_grad():
        result = CrossEntropy()(forward(model.eval().float(), batch["student"]), None, batch)
    assert (result.total / result.sums["tokens"]).item() == pytest.approx(theirs["loss"], rel=1e-5)
