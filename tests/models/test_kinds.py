"""A kind of model that nobody in the house knows is registered from outside, and everything goes through it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import T5Config

from support import tiny
from understudy.errors import ModelError
from understudy.models.generate import choice_scores, generate
from understudy.models.kinds import KINDS, ModelKind, kind_of, register
from understudy.models.kinds.causal import Causal


class Shouting(Causal):
    """A causal model whose states are twice as large before the head."""

    name = "shouting"
    title = "shouting model"

    def fits(self, architecture: Any) -> bool:
        """Whether its config says that it shouts."""
        return getattr(architecture, "shouts", False)

    def states(self, base: Any, inputs: Mapping[str, Tensor]) -> Tensor:
        """`[B, S, d]`"""
        return 2 * super().states(base, inputs)


@pytest.fixture
def shouting() -> Iterator[ModelKind]:
    """The kind, known for one test."""
    yield register(Shouting())
    del KINDS["shouting"]


def test_the_two_kinds_are_told_by_the_config() -> None:
    assert kind_of(tiny.llama(20).config).name == "causal"
    assert kind_of(T5Config()).name == "seq2seq"


def test_a_third_kind_trains_and_answers(tmp_path: Path, shouting: ModelKind) -> None:
    ordinary = tiny.pair("kd", lora=False)
    shouter = tiny.pair("kd", lora=False)
    shouter.student.config.shouts = True
    assert kind_of(shouter.student.config) is shouting
    losses = []
    for name, models in (("ordinary", ordinary), ("shouter", shouter)):
        trainer = tiny.trainer(tmp_path / name, "kd", made=models, steps=1)
        before = tiny.weights(trainer)
        result = trainer.train()
        after = tiny.weights(trainer)
        assert any(not torch.equal(before[key], after[key]) for key in before)
        losses.append(result.training_loss)
    # The loss is that of its own states, so the step went through the kind.
    assert losses[0] != losses[1]
    prompt = shouter.template.prompt_ids([{"role": "user", "content": "Which function charges?"}])
    assert len(generate(shouter.student, shouter.template, [prompt], max_new_tokens=3)) == 1
    scores = choice_scores(shouter.student, [[(prompt, [5, 0])]], pad_id=shouter.template.tokenizer.pad_token_id)
    assert scores[0][0] < 0


def test_two_kinds_of_one_name_are_refused(shouting: ModelKind) -> None:
    with pytest.raises(ModelError, match="shouting"):
        register(Shouting())
