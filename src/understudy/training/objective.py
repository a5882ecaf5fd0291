"""Objectives: which losses are added up, with which weights, at which temperature. The only place that does so.

An objective returns *sums* over target tokens; the trainer divides once, by the target tokens of the whole step.
So neither accumulation nor the number of processes can change a value.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Flag, auto

import torch
from torch import Tensor, nn

from understudy.losses import (
    CrossModelAttention,
    DualSpace,
    DualSpaceLosses,
    HeadLosses,
    HeadSpec,
    HeadTerms,
    TokenViews,
    head_losses,
)
from understudy.losses.divergences import Divergence, forward_kl
from understudy.models.forward import Output
from understudy.types import Batch


class Need(Flag):
    """What an objective needs of the two models."""

    NOTHING = 0
    HIDDEN = auto()
    EMBEDDINGS = auto()
    SAME_VOCABULARY = auto()
    ALIGNMENT = auto()


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
        needs: what it needs, compared with what the models can give before any weight is loaded.
        statistics: whether to measure agreement and entropies in this pass (they cost a little).
    """

    needs = Need.NOTHING
    statistics: bool = False

    def forward(self, student: Output, signal: Output | None, batch: Batch) -> Result:
        """Add up the losses of one batch."""
        raise TypeError(f"{type(self).__name__} does not say how to add up its losses")


class CrossEntropy(Objective):
    """Cross-entropy with the given answers: supervised fine-tuning, and sequence-level distillation.

    L = Σ_n w_n · (−log q(gold_n)), natural logarithm; w is the weight of the token's row, 1 where there are no tasks.
    """

    def forward(self, student: Output, signal: Output | None, batch: Batch) -> Result:
        """See the class."""
        weights = row_weights(student, batch)
        if weights is None:
            weights = torch.ones_like(student.target_ids, dtype=torch.float32)
        terms = HeadTerms(forward_kl, gold_ids=student.target_ids, gold_weights=weights)
        losses = head_losses(spec(student), None, terms)
        assert losses.gold is not None
        sums = {"gold": losses.gold.sum(), "tokens": count(student)}
        return Result(losses.total, sums | task_sums(losses.gold, student, batch))


class OutputDivergence(Objective):
    """Divergence of the output distributions beside gold cross-entropy: what is called KD.

    L = Σ_n g_n · CE_n + (1 − g_n) · D(p_τ, q_τ)_n, with g_n the gold weight where token n is gold and 0 where the
    teacher wrote it (there is no gold to weigh); D times τ² if asked for (Hinton et al., 2015). Rows of tasks weigh
    each token by its row's weight, and g is 1 on counterfactual rows, where the teacher is not heard.

    Args:
        divergence: of log-probabilities, per token.
        temperature: τ, divides the logits of both sides.
        gold_weight: g.
        scale_by_temperature_squared: the τ² switch.
    """

    needs = Need.HIDDEN | Need.SAME_VOCABULARY

    def __init__(
        self,
        divergence: Divergence,
        *,
        temperature: float = 1.0,
        gold_weight: float = 0.5,
        scale_by_temperature_squared: bool = False,
    ) -> None:
        super().__init__()
        self.divergence = divergence
        self.temperature = temperature
        self.gold_weight = gold_weight
        self.scale = temperature**2 if scale_by_temperature_squared else 1.0

    def forward(self, student: Output, signal: Output | None, batch: Batch) -> Result:
        """See the class."""
        assert signal is not None
        gold, heard = shares(self.gold_weight, student, batch)
        terms = HeadTerms(
            self.divergence,
            temperature=self.temperature,
            token_weights=heard * self.scale,
            gold_ids=student.target_ids,
            gold_weights=gold,
            statistics=self.statistics,
        )
        losses = head_losses(spec(student), spec(signal), terms)
        assert losses.gold is not None
        assert losses.divergence is not None
        sums = {"gold": losses.gold.sum(), "divergence": losses.divergence.sum(), "tokens": count(student)}
        return Result(losses.total, sums | _statistics(losses, student) | task_sums(losses.gold, student, batch))


class DualSpaceObjective(Objective):
    """DSKD for one vocabulary (arXiv 2406.17328): each side's states are also judged in the other's output space.

    L = Σ_n g_n · CE_n + (1 − g_n) · (L_stu + L_tea + L_proj)_n, see `losses.dskd`.

    Args:
        spaces: the projectors.
        divergence: D of L_stu.
        temperature: τ of the two divergences; there is no τ².
        gold_weight: g.
    """

    needs = Need.HIDDEN | Need.SAME_VOCABULARY

    def __init__(
        self, spaces: DualSpace | CrossModelAttention, divergence: Divergence, *, temperature: float, gold_weight: float
    ) -> None:
        super().__init__()
        self.spaces = spaces
        self.divergence = divergence
        self.temperature = temperature
        self.gold_weight = gold_weight

    def forward(self, student: Output, signal: Output | None, batch: Batch) -> Result:
        """See the class."""
        assert signal is not None
        losses = self.losses(student, signal, batch)
        gold = losses.student.gold
        assert gold is not None
        # The dual-space terms are logged as they enter the sum: weighted by 1 − g.
        sums = {**losses.sums, "tokens": count(student), "gold": gold.sum()}
        return Result(losses.total, sums | _statistics(losses.student, student) | task_sums(gold, student, batch))

    def losses(self, student: Output, signal: Output, batch: Batch) -> DualSpaceLosses:
        """The terms in both spaces."""
        gold, heard = shares(self.gold_weight, student, batch)
        return self.spaces(
            spec(student),
            spec(signal),
            student.target_ids,
            divergence=self.divergence,
            temperature=self.temperature,
            weights=heard,
            gold_weights=gold,
            statistics=self.statistics,
        )


class CrossModelObjective(DualSpaceObjective):
    """DSKD with cross-model attention (arXiv 2406.17328), for two vocabularies; see `losses.dskd`.

    L = Σ_s g_s · CE_s + (1 − g_s) · (L_stu + L_proj)_s + Σ_t (1 − g_t) · L_tea,t: the last sum runs over the teacher's
    target tokens. Arguments as in `DualSpaceObjective`; `spaces` holds projectors and attention.
    """

    needs = Need.HIDDEN | Need.EMBEDDINGS

    def losses(self, student: Output, signal: Output, batch: Batch) -> DualSpaceLosses:
        """The terms in both spaces."""
        gold, heard = shares(self.gold_weight, student, batch)
        return self.spaces(
            _views(student),
            _views(signal),
            student.target_ids,
            divergence=self.divergence,
            temperature=self.temperature,
            weights=heard,
            teacher_weights=shares(self.gold_weight, signal, batch)[1],
            gold_weights=gold,
            statistics=self.statistics,
        )


def gold_weights(weight: float, output: Output, batch: Batch) -> Tensor:
    """`[N]` g: `weight` on the target tokens of gold rows, 0 on those the teacher wrote, 1 where it is not heard."""
    of_gold = batch["gold_rows"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
    gold = weight * _by_token(of_gold.to(output.hidden.device, torch.float32), output)
    heard = batch.get("divergence_rows")
    return gold if heard is None else torch.where(_by_token(heard, output), gold, 1.0)


def row_weights(output: Output, batch: Batch) -> Tensor | None:
    """`[N]`: the weight of each target token's row; None where all weigh 1."""
    weights = batch.get("weights")
    return None if weights is None else _by_token(weights, output)


def shares(weight: float, output: Output, batch: Batch) -> tuple[Tensor, Tensor]:
    """Weights of cross-entropy and of the teacher's terms, `[N]` each: w·g and w·(1 − g), with w of the token's row."""
    gold = gold_weights(weight, output, batch)
    weights = row_weights(output, batch)
    return (gold, 1.0 - gold) if weights is None else (weights * gold, weights * (1.0 - gold))


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
    device = output.hidden.device
    return rows.to(device).repeat_interleave(torch.tensor(output.lengths, device=device))


def spec(output: Output) -> HeadSpec:
    """States and head as the losses take them; the product runs in the dtype of the states."""
    head = output.head
    return HeadSpec(output.hidden, head.weight.to(output.hidden.dtype), head.bias, head.softcap, head.scale)


def _views(output: Output) -> TokenViews:
    assert output.input_embeddings is not None
    assert output.target_embeddings is not None
    return TokenViews(spec(output), output.input_embeddings, output.target_embeddings, output.lengths)


def count(output: Output) -> Tensor:
    """The target tokens of a batch, as a number on the device."""
    return torch.tensor(float(len(output.target_ids)), device=output.hidden.device)


def _statistics(losses: HeadLosses, student: Output) -> dict[str, Tensor]:
    if losses.agreement is None or losses.student_entropy is None or losses.teacher_entropy is None:
        return {}
    return {
        "agreement": losses.agreement.sum(),
        "student_entropy": losses.student_entropy.sum(),
        "teacher_entropy": losses.teacher_entropy.sum(),
        "measured_tokens": count(student),
    }
