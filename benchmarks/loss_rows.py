"""The contenders of `loss.py`: each function takes the inputs and gives a callable that runs forward and backward."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import kl_div, linear, log_softmax


@dataclass(slots=True)
class Inputs:
    """Hidden states and weights of both heads; the student's carry gradients."""

    student_hidden: Tensor
    student_weight: Tensor
    teacher_hidden: Tensor
    teacher_weight: Tensor
    gold_ids: Tensor

    @classmethod
    def make(cls, tokens: int, columns: int, width: int, teacher_width: int, device: str, dtype: str) -> Inputs:
        """Random inputs whose logits have a standard deviation of 3, about what trained models show."""
        generator = torch.Generator(device).manual_seed(0)

        def normal(*shape: int, spread: float = 1.0) -> Tensor:
            made = torch.empty(*shape, device=device, dtype=getattr(torch, dtype))
            return made.normal_(0, spread, generator=generator)

        return cls(
            normal(tokens, width).requires_grad_(),
            normal(columns, width, spread=3 / math.sqrt(width)).requires_grad_(),
            normal(tokens, teacher_width),
            normal(columns, teacher_width, spread=3 / math.sqrt(teacher_width)),
            torch.randint(0, columns, (tokens,), device=device, generator=generator),
        )

    @property
    def tokens(self) -> int:
        """N."""
        return self.student_hidden.shape[0]


Step = Callable[[], Tensor]


def matrix_products(inputs: Inputs, chunk: int) -> Step:
    """The four products alone: both sides' logits, then the gradients of student hidden states and weight."""

    @torch.no_grad()
    def step() -> Tensor:
        hidden, weight, teacher = inputs.student_hidden, inputs.student_weight, inputs.teacher_hidden
        grad_hidden, grad_weight = torch.empty_like(hidden), torch.zeros_like(weight)
        rows = min(chunk, inputs.tokens)
        student_logits, teacher_logits = hidden.new_empty(2, rows, weight.shape[0])
        for start in range(0, inputs.tokens, rows):
            stop = min(start + rows, inputs.tokens)
            own, other = student_logits[: stop - start], teacher_logits[: stop - start]
            torch.mm(hidden[start:stop], weight.t(), out=own)
            torch.mm(teacher[start:stop], inputs.teacher_weight.t(), out=other)
            torch.mm(own, weight, out=grad_hidden[start:stop])
            grad_weight.addmm_(own.t(), hidden[start:stop])
        return grad_hidden[0, 0]

    return step


def plain_kl(inputs: Inputs) -> Step:
    """Full logits and autograd."""

    def step() -> Tensor:
        with torch.no_grad():
            teacher = log_softmax(linear(inputs.teacher_hidden, inputs.teacher_weight).float(), -1)
        student = log_softmax(linear(inputs.student_hidden, inputs.student_weight).float(), -1)
        return kl_div(student, teacher, reduction="batchmean", log_target=True)

    return step


def trl_chunked(inputs: Inputs, beta: float) -> Step:
    """The chunked divergence of TRL's DistillationTrainer."""
    from trl.trainer.distillation_trainer import _chunked_divergence_loss

    mask = torch.ones(1, inputs.tokens, device=inputs.student_hidden.device)

    def step() -> Tensor:
        hidden, teacher = inputs.student_hidden[None], inputs.teacher_hidden[None]
        weights = inputs.student_weight, inputs.teacher_weight
        return _chunked_divergence_loss(hidden, teacher, *weights, mask, beta)[0]

    return step


def trl_gkd(inputs: Inputs, beta: float) -> Step:
    """The full-logits divergence of TRL's GKDTrainer."""
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    def step() -> Tensor:
        with torch.no_grad():
            teacher = linear(inputs.teacher_hidden, inputs.teacher_weight)[None]
        student = linear(inputs.student_hidden, inputs.student_weight)[None]
        return GKDTrainer.generalized_jsd_loss(student, teacher, beta=beta)

    return step


def liger(inputs: Inputs, beta: float) -> Step:
    """Liger's chunked divergence, compiled; without its hard loss, which it computes all the same."""
    from liger_kernel.chunked_loss import LigerFusedLinearJSDLoss

    loss = LigerFusedLinearJSDLoss(weight_hard_loss=0.0, weight_soft_loss=1.0, beta=beta)

    def step() -> Tensor:
        sides = inputs.student_hidden, inputs.student_weight, inputs.teacher_hidden, inputs.teacher_weight
        return loss(*sides, inputs.gold_ids)

    return step


def ours(inputs: Inputs, name: str, gold: bool = False) -> Step:
    """`understudy.losses.fused_head`."""
    from understudy.losses import fused_head

    weights = torch.ones(inputs.tokens, device=inputs.student_hidden.device)
    options = {"gold_ids": inputs.gold_ids, "gold_weights": weights} if gold else {}

    def step() -> Tensor:
        sides = inputs.student_hidden, inputs.student_weight, inputs.teacher_hidden, inputs.teacher_weight
        return fused_head(*sides, divergence=name, **options).total / inputs.tokens

    return step


DIVERGENCES = ("forward_kl", "reverse_kl", "js", "generalized_js", "skew_forward_kl", "skew_reverse_kl")
DIVERGENCES += ("total_variation", "adaptive_kl")

ROWS: dict[str, Callable[[Inputs], Step]] = {
    "torch, full logits: forward KL": plain_kl,
    "TRL chunked: forward KL": functools.partial(trl_chunked, beta=0.0),
    "TRL chunked: JS": functools.partial(trl_chunked, beta=0.5),
    "TRL GKD: JS": functools.partial(trl_gkd, beta=0.5),
    "Liger compiled: JS": functools.partial(liger, beta=0.5),
    **{f"understudy: {name}": functools.partial(ours, name=name) for name in DIVERGENCES},
    "understudy: forward_kl and gold": functools.partial(ours, name="forward_kl", gold=True),
}
