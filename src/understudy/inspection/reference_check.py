"""A second opinion on the loss: the heads against the models' own logits, the objective against plain autograd.

The objective says which states meet under which comparison; logits, comparisons and the weight of every token are
worked out here and in `losses.dense_passes` once more.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from understudy.errors import ModelError
from understudy.inspection.inputs import EncodedSample, Inputs, LoadedPair
from understudy.inspection.loss_terms import gradients, norm, terms_of, trained_parameters
from understudy.losses import Pass
from understudy.losses.dense_passes import dense
from understudy.models.forward import forward, probe
from understudy.models.output import Output
from understudy.tokens.collate import move, short_inputs
from understudy.training.objectives.base import Objective
from understudy.types import Batch

DENSE_BYTES = 512 << 20
"""Room for the full logits of the second opinion, with what autograd keeps of them."""


@dataclass(frozen=True)
class ReferenceCheck:
    """The objective's own loss against the same loss by full logits and plain autograd.

    Attributes:
        tokens: target tokens compared.
        objective: the objective's loss per token.
        dense: the other one.
        value_gap: |difference| relative to the dense value.
        gradient_gap: norm of the difference of the gradients relative to the dense gradient.
        tolerance: what rounding alone can explain at this precision.
    """

    tokens: int
    objective: float
    dense: float
    value_gap: float
    gradient_gap: float
    tolerance: float

    @property
    def agrees(self) -> bool:
        """Whether rounding explains the difference; NaN does not agree with anything."""
        return self.value_gap <= self.tolerance and self.gradient_gap <= self.tolerance


def check_reference(loaded: LoadedPair, inputs: Inputs, sample: EncodedSample) -> ReferenceCheck:
    """Compare objective and oracle on as many rows as full logits have room for."""
    objective, module = loaded.module.objective, loaded.module
    batch = move(inputs.collator(_rows_with_room(sample, inputs, loaded)), loaded.device)
    with loaded.mixed():
        signal = loaded.teacher.signal(batch)
        output = forward(module.student, batch["student"], embeddings=objective.embeddings)
        total = objective(output, signal, batch).total
        reference = reference_loss(objective, output, signal, batch)
    student, projectors = trained_parameters(loaded)
    pairs = list(
        zip(gradients(total, [*student, *projectors]), gradients(reference, [*student, *projectors]), strict=True)
    )
    dense_norm = norm([b for _, b in pairs])
    zero = total.new_zeros(())
    difference = norm([(zero if a is None else a) - (zero if b is None else b) for a, b in pairs])
    tokens = len(output.target_ids)
    exact = not loaded.autocast and output.states.dtype in (torch.float32, torch.float64)
    return ReferenceCheck(
        tokens=tokens,
        objective=total.item() / max(1, tokens),
        dense=reference.item() / max(1, tokens),
        value_gap=_relative(abs(total.item() - reference.item()), abs(reference.item())),
        gradient_gap=_relative(difference, dense_norm),
        tolerance=1e-3 if exact else 5e-2,
    )


def reference_loss(objective: Objective, student: Output, signal: Output | None, batch: Batch) -> Tensor:
    """`Result.total` by full logits, plain autograd and weights counted out row by row, with its graph."""
    student_weights = _token_weights(objective.gold_weight, student, batch, alone=signal is None)
    signal_weights = None if signal is None else _token_weights(objective.gold_weight, signal, batch)

    def weigh(step: Pass) -> Pass:
        gold, taught = student_weights
        if step.by_teacher and signal_weights is not None:
            taught = signal_weights[1]
        taught = taught if step.weighed is None else taught[step.weighed]
        paired_weights = student_weights[1] if step.pairs is None else student_weights[1][step.pairs.student]
        paired_weights = paired_weights * step.teacher_gold_factor
        terms = dataclasses.replace(
            step.terms,
            gold_weights=None if step.terms.gold_weights is None else gold,
            token_weights=None if step.teacher is None else taught * step.factor,
            teacher_gold_weights=None if step.terms.teacher_gold_weights is None else paired_weights,
        )
        return dataclasses.replace(step, terms=terms)

    parts = terms_of(objective, student, signal, batch, compute=dense, weigh=weigh)
    return torch.stack(list(parts.values())).sum()


def _token_weights(gold_weight: float, output: Output, batch: Batch, *, alone: bool = False) -> tuple[Tensor, Tensor]:
    """Weight of cross-entropy and of the teacher for each target token, row by row; `alone`: there is no teacher."""
    gold, taught = [], []
    for row, length in enumerate(output.lengths):
        share = gold_weight if batch["gold_rows"][row] else 0.0  # pyright: ignore[reportTypedDictNotRequiredAccess]
        if alone or ("use_teacher" in batch and not batch["use_teacher"][row]):
            share = 1.0
        weight = float(batch["weights"][row]) if "weights" in batch else 1.0
        gold += [weight * share] * length
        taught += [weight * (1.0 - share)] * length
    both = torch.tensor([gold, taught], dtype=torch.float32, device=output.device)
    return both[0], both[1]


def _relative(gap: float, size: float) -> float:
    return gap / size if size else gap


def _rows_with_room(sample: EncodedSample, inputs: Inputs, loaded: LoadedPair) -> list:
    vocabulary = max(len(inputs.student.template.tokenizer), len(inputs.teacher.template.tokenizer))
    room = DENSE_BYTES // (vocabulary * 4 * 16)
    rows, tokens = [], 0
    for row in sample.rows[: len(loaded.batch["ids"])]:
        tokens += max(len(prompted.answer_ids) for prompted in (row.student, row.teacher) if prompted)
        if rows and tokens > room:
            break
        rows.append(row)
    return rows


@dataclass(frozen=True)
class HeadProbe:
    """Whether the head that the losses use is the model's own.

    Attributes:
        gap: largest difference of the logits relative to the largest logit; None where the probe failed.
        fault: what the probe said then.
    """

    gap: float | None
    fault: str = ""


def probe_heads(loaded: LoadedPair, sample: EncodedSample) -> Mapping[str, HeadProbe]:
    """Probe both heads on the first row.

    Raises:
        ModelError: the student's head is not understood, which `run` refuses too.
    """
    row = sample.rows[0]
    assert row.teacher is not None
    student_inputs, teacher_inputs = (move(short_inputs(side), loaded.device) for side in (row.student, row.teacher))
    probes = {"student": HeadProbe(probe(loaded.module.student, student_inputs, name="student"))}
    try:
        probes["teacher"] = HeadProbe(probe(loaded.teacher.model, teacher_inputs, name="teacher"))  # pyright: ignore
    except ModelError as error:
        probes["teacher"] = HeadProbe(None, error.message)
    return probes
