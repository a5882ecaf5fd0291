"""Objectives: which losses are added up, with which weights, at which temperature. The only place that does so.

An objective returns *sums* over target tokens; the trainer divides once, by the target tokens of the whole step.
So neither accumulation nor the number of processes can change a value.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, nn

from understudy.losses import HeadLosses, HeadStates, Pass, Passes, run_passes
from understudy.losses.divergences import Divergence, divergence
from understudy.models.inner_states import WantedFeatures
from understudy.models.output import Output, VocabularyOutput
from understudy.recipe import DivergenceConfig
from understudy.teachers.signals import Signal
from understudy.tokens.align import CrossTokenizer
from understudy.types import Batch


@dataclass(frozen=True)
class Result:
    """What one pass gives.

    Attributes:
        total: scalar, the weighted sum over the target tokens of the batch; the only thing with a gradient.
        sums: sum of each term over the target tokens (unweighted, for the log), `tokens`, and, where measured,
            `agreement`, `student_entropy`, `teacher_entropy`, `mapped_mass` with `measured_tokens`. Rows of tasks add
            the cross-entropy of each task, `task_explain`, and its tokens, `task_explain_tokens`.
    """

    total: Tensor
    sums: dict[str, Tensor]


class Objective(nn.Module):
    """Base of the objectives.

    Attributes:
        embeddings: whether it reads the token embeddings of both models beside their states.
        follows_loss: whether a schedule of it depends on the loss of the steps before.
        statistics: whether to measure agreement and entropies in this pass (they cost a little).
        squared: whether the divergence is multiplied by τ².
        gold_weight: g, the share of cross-entropy on gold tokens.
        of_student: inner states that it reads of the student.
        of_teacher: the same of the teacher.
    """

    of_student: WantedFeatures | None = None
    of_teacher: WantedFeatures | None = None
    embeddings: ClassVar[bool] = False
    follows_loss: bool = False
    statistics: bool = False
    squared: bool = False
    gold_weight: float = 1.0

    @classmethod
    def build(cls, config: Any, student: Any, teacher: Any, cross_tokenizer: CrossTokenizer | None) -> Self:
        """The objective that a recipe names, with whatever it learns made to fit the two models.

        Args:
            config: the section `distil`, of the method's own class.
            student: the student's model.
            teacher: the teacher's model.
            cross_tokenizer: what lies between the two tokenizers; None where the method aligns nothing.
        """
        raise TypeError(f"{cls.__name__} does not say how it is built")

    def forward(self, student: Output, signal: Signal | None, batch: Batch) -> Result:
        """Add up the losses of one batch."""
        steps = run_passes(self.passes(student, signal, batch))
        total = steps[0][1].total
        for _, losses in steps[1:]:
            total = total + losses.total
        return Result(total, self.sums(steps, student, batch))

    @property
    def inner(self) -> tuple[Objective, ...]:
        """The objectives that it is made of, where it only weighs or chooses among others."""
        return ()

    def begin_step(self, step: int, steps: int) -> None:
        """Get ready for an optimiser step, counted from 0 of `steps`."""
        for objective in self.inner:
            objective.begin_step(step, steps)

    def end_step(self, loss: float, step: int, steps: int) -> None:
        """Take note of the loss of the step that was just done, counted from 1; over all processes."""

    def around(self, student: Any, signal: Signal | None, batch: Batch) -> AbstractContextManager[Any]:
        """What the student's forward pass over a batch runs in: by default nothing."""
        return nullcontext()

    def around_answers(self, student: Any, teacher: Any) -> AbstractContextManager[Any]:
        """What the student answers development questions in: by default nothing."""
        return nullcontext()

    @property
    def scheduled(self) -> dict[str, float]:
        """What schedules have set for this step, by its name in the log."""
        return {}

    def progress_state(self) -> dict[str, Any]:
        """What a checkpoint has to hold of it beside its parameters, JSON-able; empty: nothing."""
        return {}

    def load_progress_state(self, state: Mapping[str, Any]) -> None:
        """Go on from `progress_state`."""

    def passes(self, student: Output, signal: Signal | None, batch: Batch) -> Passes:
        """What is added up: each pass with its states, weights and the names of its terms.

        `forward` runs these fused; `inspect` takes them apart and computes them a second time by full logits.
        """
        raise TypeError(f"{type(self).__name__} does not say how to add up its losses")

    def sums(self, steps: Sequence[tuple[Pass, HeadLosses]], student: Output, batch: Batch) -> dict[str, Tensor]:
        """`Result.sums` of the passes that ran."""
        raise TypeError(f"{type(self).__name__} does not say what it logs")


def divergence_of(config: DivergenceConfig) -> Divergence:
    """The divergence that a section names, with its parameters.

    Raises:
        ConfigError: no such divergence, or a parameter that it does not take.
    """
    return divergence(config.divergence, **config.divergence_parameters)


def head_states(output: Signal) -> HeadStates:
    """States and head of a model that writes, for a method that reads more than its logits.

    Raises:
        TypeError: the model chooses among candidates; the gate (`build.check_pair`) stands before that.
    """
    if not isinstance(output, VocabularyOutput):
        raise TypeError("the method reads hidden states under a head, and this model has none")
    return output.states


def gold_weights(weight: float, output: Output, batch: Batch) -> Tensor:
    """`[N]` g: `weight` on the target tokens of gold rows, 0 on those the teacher wrote, 1 where it is not heard."""
    of_gold = batch["gold_rows"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
    gold = weight * _by_token(of_gold.to(output.device, torch.float32), output)
    use_teacher = batch.get("use_teacher")
    return gold if use_teacher is None else torch.where(_by_token(use_teacher, output), gold, 1.0)


def row_weights(output: Output, batch: Batch) -> Tensor | None:
    """`[N]`: the weight of each target token's row, times its own where tokens have one; None where all weigh 1."""
    weights, own = batch.get("weights"), batch.get("token_weights")
    by_row = None if weights is None else _by_token(weights, output)
    if own is None:
        return by_row
    by_token = _of_side(own, output, batch)
    return by_token if by_row is None else by_row * by_token


def _of_side(weights: Tensor, output: Output, batch: Batch) -> Tensor:
    """`[N_s]` weights of the student's tokens; on tokens of another side the mean of the row stands for each."""
    lengths = batch["student"]["target_mask"].sum(1).tolist()
    if tuple(lengths) == tuple(output.lengths):
        return weights.to(output.device)
    return _by_token(torch.stack([row.mean() for row in weights.split(lengths)]), output)


def loss_weights(weight: float, output: Output, batch: Batch) -> tuple[Tensor, Tensor]:
    """Weights of cross-entropy and of the teacher's terms, `[N]` each: w·g and w·(1 − g)·c, with w of the token and its
    row, and c of the trust in the teacher, 1 where nothing is said of it.
    """
    gold = gold_weights(weight, output, batch)
    teacher, trust = 1.0 - gold, batch.get("teacher_weights")
    if trust is not None:
        teacher = teacher * _by_token(trust, output)
    weights = row_weights(output, batch)
    return (gold, teacher) if weights is None else (weights * gold, weights * teacher)


def task_sums(gold: Tensor, output: Output, batch: Batch) -> dict[str, Tensor]:
    """Sum of the cross-entropies `gold` `[N]` of each task, and its target tokens; empty where there are no tasks."""
    tasks = batch.get("tasks", [])
    sums = {}
    for task in dict.fromkeys(tasks):
        mask = _by_token(torch.tensor([other == task for other in tasks]), output)
        sums[f"task_{task}"] = gold[mask].sum()
        sums[f"task_{task}_tokens"] = mask.sum().float()
    return sums


def _by_token(rows: Tensor, output: Output) -> Tensor:
    """`[B]` values of rows to `[N]` values of their target tokens."""
    device = output.device
    return rows.to(device).repeat_interleave(torch.tensor(output.lengths, device=device))


def num_target_tokens(output: Output) -> Tensor:
    """The target tokens of a batch, as a number on the device."""
    return torch.tensor(float(len(output.target_ids)), device=output.device)


def statistics_sums(losses: HeadLosses, student: Output) -> dict[str, Tensor]:
    """Sums of agreement and entropies by their names in the log; nothing where nothing was measured."""
    if losses.agreement is None or losses.student_entropy is None or losses.teacher_entropy is None:
        return {}
    return {
        "agreement": losses.agreement.sum(),
        "student_entropy": losses.student_entropy.sum(),
        "teacher_entropy": losses.teacher_entropy.sum(),
        "measured_tokens": num_target_tokens(student),
    }
