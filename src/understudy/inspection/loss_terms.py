"""The loss of one real micro-batch, taken apart: each term with its value and its gradient.

An objective says itself which passes it sums (`Objective.passes`); `terms_of` computes each term of these alone. Run
fused this gives the gradient of each term; run dense it gives `reference_check` what the objective is compared with.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from understudy.inspection.inputs import LoadedPair
from understudy.losses import HeadLosses, HeadTerms, Pass, head_losses, run_passes
from understudy.losses.divergences import forward_kl
from understudy.losses.passes import fused
from understudy.models.forward import forward
from understudy.models.output import Output
from understudy.training.objectives.base import Objective, gold_weights
from understudy.types import Batch


def terms_of(
    objective: Objective,
    student: Output,
    signal: Output | None,
    batch: Batch,
    *,
    compute: Callable[[Pass], HeadLosses] = fused,
    weigh: Callable[[Pass], Pass] = lambda step: step,
) -> dict[str, Tensor]:
    """Each term of an objective as it enters the sum, weights included; together they are `Result.total`.

    Args:
        objective: the objective; its `passes` say what it sums.
        student: the student's output, with its graph.
        signal: the teacher's.
        batch: the batch.
        compute: how a pass over one term is computed, fused or dense.
        weigh: puts other weights into a pass.

    Returns:
        The terms by the names that `metrics.jsonl` uses.
    """
    terms: dict[str, Tensor] = {}

    def compute_terms(step: Pass) -> HeadLosses:
        terms.update({name: compute(part).total for name, part in weigh(step).parts().items()})
        with torch.no_grad():
            # A later pass may need the statistics of this one, as its mask does in DSKDv2.
            return compute(step)

    run_passes(objective.passes(student, signal, batch), compute_terms)
    return terms


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
        terms: each term by itself.
        total: the objective's own loss per token, with its gradient norms.
        student_gold: nats that the gold answers cost the student, per answer.
        teacher_gold: the same of the teacher, in its own tokens.
        kl: KL(teacher ‖ student) per token at temperature 1; None across vocabularies.
        agreement: share of target tokens where both put the same token first; None across vocabularies.
        taught_share: share of the student's target tokens on which the teacher has any weight.
    """

    tokens: int
    terms: tuple[LossTerm, ...]
    total: LossTerm
    student_gold: float
    teacher_gold: float
    kl: float | None
    agreement: float | None
    taught_share: float


def measure_losses(loaded: LoadedPair) -> Losses:
    """One forward pass of both models and a backward pass for each term."""
    objective, batch = loaded.module.objective, loaded.batch
    loaded.module.train()
    with loaded.mixed():
        signal = loaded.teacher.signal(batch)
        output = forward(loaded.module.student, batch["student"], embeddings=objective.embeddings)
        result = objective(output, signal, batch)
        parts = terms_of(objective, output, signal, batch)
    tokens = len(output.target_ids)
    student, projectors = trained_parameters(loaded)

    def measured_term(name: str, value: Tensor) -> LossTerm:
        logged = result.sums[name].item() / max(1, tokens) if name in result.sums else None
        norms = gradient_norms(value / max(1, tokens), student, projectors)
        return LossTerm(name, logged, value.item() / max(1, tokens), *norms)

    terms = tuple(measured_term(name, value) for name, value in parts.items())
    total = measured_term("total", result.total)
    return Losses(tokens, terms, total, **_summary_values(objective, output, signal, batch, loaded.by_position))


def _summary_values(
    objective: Objective, output: Output, signal: Output, batch: Batch, by_position: bool
) -> dict[str, Any]:
    with torch.no_grad():
        kl = agreement = None
        if by_position:
            both = head_losses(output.states, signal.states, HeadTerms(forward_kl, statistics=True))
            assert both.divergence is not None
            assert both.agreement is not None
            kl, agreement = both.divergence.mean().item(), both.agreement.float().mean().item()
        weight = objective.gold_weight
        return {
            "student_gold": _gold_per_answer(output),
            "teacher_gold": _gold_per_answer(signal),
            "kl": kl,
            "agreement": agreement,
            "taught_share": (gold_weights(weight, output, batch) < 1).float().mean().item(),
        }


def _gold_per_answer(output: Output) -> float:
    """Per answer, not per token: two vocabularies cut the same answer into different numbers of tokens."""
    ones = torch.ones_like(output.target_ids, dtype=torch.float32)
    losses = head_losses(output.states, None, HeadTerms(forward_kl, gold_ids=output.target_ids, gold_weights=ones))
    return losses.total.item() / max(1, len(output.lengths))


def trained_parameters(loaded: LoadedPair) -> tuple[list[Tensor], list[Tensor]]:
    """Trained parameters of the student, and those of the objective."""
    student = [p for p in loaded.module.student.parameters() if p.requires_grad]
    return student, [p for p in loaded.module.objective.parameters() if p.requires_grad]


def gradient_norms(value: Tensor, student: Sequence[Tensor], objective: Sequence[Tensor]) -> tuple[float, float | None]:
    """Norm of ∂value on the student's parameters and on the objective's own (None where it has none)."""
    all_gradients = gradients(value, [*student, *objective])
    norms = [norm(all_gradients[: len(student)]), norm(all_gradients[len(student) :])]
    return norms[0], norms[1] if objective else None


def gradients(value: Tensor, parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """∂value, None where it does not depend on a parameter; the graph is kept."""
    if not value.requires_grad or not parameters:
        return [None] * len(parameters)
    return list(torch.autograd.grad(value, list(parameters), retain_graph=True, allow_unused=True))


def norm(tensors: Sequence[Tensor | None]) -> float:
    """Euclidean norm over all of them, absent ones counting as 0."""
    return math.sqrt(sum(g.detach().double().square().sum().item() for g in tensors if g is not None))
