"""Teachers that say less than states train a student through the same trainer and objective."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from support import tiny
from understudy.recipe import METHODS
from understudy.teachers.local import LocalTeacher
from understudy.teachers.signals import Logps, Signal, TopK
from understudy.types import Batch, Gives

WEAK = [name for name, config in METHODS.items() if config.reads in Gives.LOGPS]


class Spoken:
    """A local teacher that keeps its states to itself: its log-probabilities, or the likeliest `k` with the tail."""

    def __init__(self, model: Any, k: int | None = None) -> None:
        self.local, self.k = LocalTeacher(model), k
        self.gives = Gives.LOGPS if k is None else Gives.TOP_K

    def signal(self, batch: Batch) -> Signal:
        output = self.local.signal(batch)
        states = output.states
        logp = states.head.logits(states.hidden).log_softmax(-1)  # pyright: ignore[reportAttributeAccessIssue]
        if self.k is None:
            return Logps(logp, output.target_ids, output.lengths)
        top = logp.topk(self.k)
        return TopK(top.indices, top.values, output.target_ids, output.lengths)


def trained(folder: Path, method: str, teacher: Any = None, **fields: Any) -> tuple[float, dict[str, torch.Tensor]]:
    """The loss of two steps and the weights after them."""
    made = tiny.pair(method, lora=False)
    for model in (made.student, made.teacher):
        model.double()
    teacher = teacher and Spoken(made.teacher, **teacher)
    trainer = tiny.trainer(folder, method, made=made, teacher=teacher, steps=2, **fields)
    return trainer.train().training_loss, tiny.weights(trainer)


@pytest.mark.parametrize("method", WEAK)
def test_log_probabilities_teach_what_the_states_teach(tmp_path: Path, method: str) -> None:
    loss, weights = trained(tmp_path / "states", method)
    other, same = trained(tmp_path / "logps", method, {"k": None})
    assert other == pytest.approx(loss, rel=1e-9)
    for name, value in weights.items():
        torch.testing.assert_close(same[name], value, atol=1e-7, rtol=1e-6)


def test_the_likeliest_tokens_teach_with_their_tail(tmp_path: Path) -> None:
    whole, _ = trained(tmp_path / "states", "kd", loss_temperature=1.0)
    losses = [trained(tmp_path / str(k), "kd", {"k": k}, loss_temperature=1.0)[0] for k in (1, 8, 200)]
    # Putting tokens into one bucket never makes a divergence larger.
    assert losses[0] < losses[1] < losses[2] <= whole
    assert losses[2] == pytest.approx(whole, rel=0.05)
