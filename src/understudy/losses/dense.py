"""The same losses as `fused_head`, written for reading: full logits, plain autograd.

It is what the fused pass is tested against, and what `inspect` uses on small batches. Everything here is written
by hand and on its own, the head's formula included, which `losses.heads.Head` has too: a fault in what is checked is
not repeated by the check.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from understudy.losses.divergences import divergence as by_name
from understudy.losses.fused import HeadLosses


def head_logits(
    hidden: Tensor, weight: Tensor, bias: Tensor | None = None, softcap: float | None = None, scale: float = 1.0
) -> Tensor:
    """Logits softcap · tanh(scale · (h Wᵀ + b) / softcap), `[N, V]` in float32 or float64; no cap where it is None."""
    logits = torch.nn.functional.linear(hidden, weight, bias)
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32)) * scale
    return softcap * torch.tanh(logits / softcap) if softcap else logits


def dense_head(
    student_logits: Tensor,
    teacher_logits: Tensor | None = None,
    *,
    divergence: str | Callable[[Tensor, Tensor], Tensor] = "forward_kl",
    temperature: float = 1.0,
    token_weights: Tensor | None = None,
    gold_ids: Tensor | None = None,
    gold_weights: Tensor | None = None,
    teacher_gold_weights: Tensor | None = None,
    only_where_teacher_right: bool = False,
) -> HeadLosses:
    """`fused_head` on logits `[N, V_s]` and `[N, V_t]`; arguments and result are described there."""
    function = by_name(divergence) if isinstance(divergence, str) else divergence
    student_logp = student_logits.log_softmax(-1)
    total, values = student_logits.new_zeros(()), {}
    values |= _statistics("student", student_logp)
    if gold_ids is not None:
        gold = _cross_entropy(student_logp, gold_ids)
        values["gold"] = gold.detach()
        total = total if gold_weights is None else total + (gold_weights * gold).sum()
    if teacher_logits is not None:
        teacher_logp = teacher_logits.log_softmax(-1)
        values |= _statistics("teacher", teacher_logp)
        weights = torch.ones_like(student_logits[:, 0]) if token_weights is None else token_weights
        if gold_ids is not None:
            teacher_gold = _cross_entropy(teacher_logp, gold_ids)
            values["teacher_gold"] = teacher_gold.detach()
            values["teacher_right"] = _right(teacher_logits, gold_ids)
            total = total if teacher_gold_weights is None else total + (teacher_gold_weights * teacher_gold).sum()
            weights = weights * values["teacher_right"] if only_where_teacher_right else weights
        divergences = function(*_common(student_logits / temperature, teacher_logits.detach() / temperature))
        values["divergence"] = divergences.detach()
        counted = weights != 0
        total = total + (weights[counted] * divergences[counted]).sum()
    return HeadLosses(total, **values)


def _common(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Log-probabilities over the columns that both sides have."""
    columns = min(student.shape[1], teacher.shape[1])
    student, teacher = student[:, :columns], teacher[:, :columns]
    kept = ~((student == -math.inf) | (teacher == -math.inf)).all(0)
    return student[:, kept].log_softmax(-1), teacher[:, kept].log_softmax(-1)


def _cross_entropy(logp: Tensor, ids: Tensor) -> Tensor:
    present = (ids >= 0) & (ids < logp.shape[1])
    picked = logp.gather(1, torch.where(present, ids, 0)[:, None])[:, 0]
    return -torch.where(present, picked, 0.0)


def _right(logits: Tensor, ids: Tensor) -> Tensor:
    present = (ids >= 0) & (ids < logits.shape[1])
    return (logits.gather(1, torch.where(present, ids, 0)[:, None])[:, 0] >= logits.amax(-1)) & present


def _statistics(side: str, logp: Tensor) -> dict[str, Tensor]:
    entropy = -(logp.exp() * logp.masked_fill(logp == -math.inf, 0.0)).sum(-1)
    return {f"{side}_argmax": logp.argmax(-1), f"{side}_entropy": entropy.detach()}
