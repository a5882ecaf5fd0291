"""The loss of one real micro-batch, taken apart: each term with its value and its gradient.

`take_apart` writes the objectives out once more, each term by itself. With the fused heads this gives the gradient of
each term; with full logits it gives `second` the oracle that the objective itself is compared with.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from understudy.inspection.inputs import LoadedPair
from understudy.losses import CrossModelAttention, HeadLosses, HeadSpec, HeadTerms, TokenViews, head_losses
from understudy.losses.divergences import forward_kl
from understudy.models.forward import Output, forward
from understudy.training.objectives.base import Objective, gold_weights, spec
from understudy.training.objectives.dual_space import CrossModelObjective, DualSpaceObjective
from understudy.training.objectives.output_divergence import OutputDivergence
from understudy.types import Batch

Heads = Callable[[HeadSpec, HeadSpec | None, HeadTerms], HeadLosses]


def take_apart(
    objective: Objective, student: Output, signal: Output, batch: Batch, heads: Heads = head_losses
) -> dict[str, Tensor]:
    """Each term of an objective as it enters the sum, weights included; together they are `Result.total`.

    Args:
        objective: the objective.
        student: the student's output, with its graph.
        signal: the teacher's.
        batch: the batch.
        heads: how two heads are compared, fused or dense.

    Returns:
        The terms by the names that `metrics.jsonl` uses; empty for an objective that is not known here.
    """
    if not isinstance(objective, OutputDivergence | DualSpaceObjective | CrossModelObjective):
        return {}
    gold = gold_weights(objective.gold_weight, student, batch)
    own, ids = spec(student), student.target_ids
    terms = {"gold": heads(own, None, HeadTerms(forward_kl, gold_ids=ids, gold_weights=gold)).total}
    if isinstance(objective, OutputDivergence):
        compared = HeadTerms(
            objective.divergence, temperature=objective.temperature, token_weights=(1 - gold) * objective.scale
        )
        return {**terms, "divergence": heads(own, spec(signal), compared).total}
    return terms | _dual_terms(objective, student, signal, batch, heads)


def _dual_terms(
    objective: DualSpaceObjective | CrossModelObjective, student: Output, signal: Output, batch: Batch, heads: Heads
) -> dict[str, Tensor]:
    own, other, spaces = spec(student), spec(signal), objective.spaces
    weights = 1 - gold_weights(objective.gold_weight, student, batch)
    backward = 1 - gold_weights(objective.gold_weight, signal, batch)
    if isinstance(spaces, CrossModelAttention):
        to_student, to_teacher = spaces.align(_views(student), _views(signal))
    else:
        dtype = spaces.teacher_to_student.weight.dtype
        to_student = spaces.teacher_to_student(other.hidden.to(dtype))
        to_teacher = spaces.student_to_teacher(own.hidden.to(dtype))
    in_student, in_teacher = _read_by(own, to_student), _read_by(other, to_teacher)
    tau, masked = objective.temperature, isinstance(objective, CrossModelObjective)
    ids = student.target_ids
    near = HeadTerms(
        objective.divergence,
        temperature=tau,
        token_weights=weights,
        gold_ids=ids if masked else None,
        only_where_teacher_right=masked,
    )
    return {
        "student_space": heads(own, in_student, near).total,
        "teacher_space": heads(in_teacher, other, HeadTerms(forward_kl, temperature=tau, token_weights=backward)).total,
        "projection": heads(in_student, None, HeadTerms(forward_kl, gold_ids=ids, gold_weights=weights)).total,
    }


def _views(output: Output) -> TokenViews:
    assert output.input_embeddings is not None
    assert output.target_embeddings is not None
    return TokenViews(spec(output), output.input_embeddings, output.target_embeddings, output.lengths)


def _read_by(head: HeadSpec, hidden: Tensor) -> HeadSpec:
    """Other states under the same head, the head a constant."""
    bias = None if head.bias is None else head.bias.detach()
    return dataclasses.replace(head, hidden=hidden.to(head.hidden.dtype), weight=head.weight.detach(), bias=bias)


@dataclass(frozen=True)
class LossTerm:
    """One loss term of the micro-batch.

    Attributes:
        name: as in `metrics.jsonl`.
        logged: value per target token as `metrics.jsonl` will log it; None where it is not logged.
        entering: value per target token as it enters the loss, weights included.
        student_gradient: norm of its gradient on the student's trained parameters.
        objective_gradient: norm of its gradient on the objective's own parameters; None where it has none.
    """

    name: str
    logged: float | None
    entering: float
    student_gradient: float
    objective_gradient: float | None


@dataclass(frozen=True)
class Losses:
    """The losses of one micro-batch.

    Attributes:
        tokens: target tokens of the student.
        terms: each term by itself; empty for an objective that inspection cannot take apart.
        total: the objective's own loss per token, with its gradient norms.
        student_gold: nats that the gold answers cost the student, per answer.
        teacher_gold: the same of the teacher, in its own tokens.
        kl: KL(teacher ‖ student) per token at temperature 1; None across vocabularies.
        agreement: share of target tokens where both put the same token first; None across vocabularies.
        heard: share of the student's target tokens on which the teacher has any weight.
    """

    tokens: int
    terms: tuple[LossTerm, ...]
    total: LossTerm
    student_gold: float
    teacher_gold: float
    kl: float | None
    agreement: float | None
    heard: float


def measure_losses(live: LoadedPair) -> Losses:
    """One forward pass of both models and a backward pass for each term."""
    objective, batch = live.module.objective, live.batch
    live.module.train()
    with live.mixed():
        signal = live.teacher.signal(batch)
        output = forward(live.module.student, batch["student"], embeddings=objective.embeddings)
        result = objective(output, signal, batch)
        parts = take_apart(objective, output, signal, batch)
    tokens = len(output.target_ids)
    student, own = trained(live)

    def reading(name: str, value: Tensor) -> LossTerm:
        logged = result.sums[name].item() / max(1, tokens) if name in result.sums else None
        norms = gradient_norms(value / max(1, tokens), student, own)
        return LossTerm(name, logged, value.item() / max(1, tokens), *norms)

    terms = tuple(reading(name, value) for name, value in parts.items())
    total = reading("total", result.total)
    return Losses(tokens, terms, total, **_readings(objective, output, signal, batch, live.by_position))


def _readings(objective: Objective, output: Output, signal: Output, batch: Batch, by_position: bool) -> dict[str, Any]:
    with torch.no_grad():
        kl = agreement = None
        if by_position:
            both = head_losses(spec(output), spec(signal), HeadTerms(forward_kl, statistics=True))
            assert both.divergence is not None
            assert both.agreement is not None
            kl, agreement = both.divergence.mean().item(), both.agreement.float().mean().item()
        weight = getattr(objective, "gold_weight", 0.0)
        return {
            "student_gold": _gold_per_answer(output),
            "teacher_gold": _gold_per_answer(signal),
            "kl": kl,
            "agreement": agreement,
            "heard": (gold_weights(weight, output, batch) < 1).float().mean().item(),
        }


def _gold_per_answer(output: Output) -> float:
    """Per answer, not per token: two vocabularies cut the same answer into different numbers of tokens."""
    ones = torch.ones_like(output.target_ids, dtype=torch.float32)
    losses = head_losses(spec(output), None, HeadTerms(forward_kl, gold_ids=output.target_ids, gold_weights=ones))
    return losses.total.item() / max(1, len(output.lengths))


def trained(live: LoadedPair) -> tuple[list[Tensor], list[Tensor]]:
    """Trained parameters of the student, and those of the objective."""
    student = [p for p in live.module.student.parameters() if p.requires_grad]
    return student, [p for p in live.module.objective.parameters() if p.requires_grad]


def gradient_norms(value: Tensor, student: Sequence[Tensor], own: Sequence[Tensor]) -> tuple[float, float | None]:
    """Norm of ∂value on the student's parameters and on the objective's own (None where it has none)."""
    found = gradients(value, [*student, *own])
    norms = [norm(found[: len(student)]), norm(found[len(student) :])]
    return norms[0], norms[1] if own else None


def gradients(value: Tensor, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """∂value, None where it does not depend on a parameter; the graph is kept."""
    if not value.requires_grad or not parameters:
        return [None] * len(parameters)
    return list(torch.autograd.grad(value, list(parameters), retain_graph=True, allow_unused=True))


def norm(found: Sequence[Tensor | None]) -> float:
    """Euclidean norm over all of them, absent ones counting as 0."""
    return math.sqrt(sum(g.detach().double().square().sum().item() for g in found if g is not None))
