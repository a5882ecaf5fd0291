"""A second opinion on the loss: the heads against the models' own logits, the objective against plain autograd."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from understudy.errors import ModelError
from understudy.inspection.inputs import EncodedSample, Inputs, LoadedPair
from understudy.inspection.loss_terms import gradients, norm, take_apart, trained
from understudy.losses import HeadLosses, HeadSpec, HeadTerms
from understudy.losses.dense import dense_head, head_logits
from understudy.models.forward import forward, probe
from understudy.tokens.collate import move, short_inputs

DENSE_BYTES = 512 << 20
"""Room for the full logits of the second opinion, with what autograd keeps of them."""


def dense_losses(student: HeadSpec, teacher: HeadSpec | None, terms: HeadTerms) -> HeadLosses:
    """`head_losses` by full logits and plain autograd."""
    given = {field.name: getattr(terms, field.name) for field in dataclasses.fields(terms)}
    unused = ("statistics", "argmax", "shared_columns", "partial", "teacher_gold_ids", "chunk_tokens")
    arguments = {name: value for name, value in given.items() if name not in unused}
    return dense_head(_logits(student), None if teacher is None else _logits(teacher), **arguments)


def _logits(head: HeadSpec) -> Tensor:
    return head_logits(head.hidden, head.weight, head.bias, head.softcap, head.scale)


@dataclass(frozen=True)
class SecondOpinion:
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


def second_opinion(live: LoadedPair, texts: Inputs, sample: EncodedSample) -> SecondOpinion | None:
    """Compare objective and oracle on as many rows as full logits have room for; None for an unknown objective."""
    objective, module = live.module.objective, live.module
    batch = move(texts.collator(_few(sample, texts, live)), live.device)
    with live.mixed():
        signal = live.teacher.signal(batch)
        output = forward(module.student, batch["student"], embeddings=objective.embeddings)
        total = objective(output, signal, batch).total
        parts = take_apart(objective, output, signal, batch, dense_losses)
    if not parts:
        return None
    dense = torch.stack(list(parts.values())).sum()
    student, own = trained(live)
    pairs = list(zip(gradients(total, [*student, *own]), gradients(dense, [*student, *own]), strict=True))
    size = norm([b for _, b in pairs])
    zero = total.new_zeros(())
    apart = norm([(zero if a is None else a) - (zero if b is None else b) for a, b in pairs])
    tokens = len(output.target_ids)
    exact = not live.autocast and output.hidden.dtype in (torch.float32, torch.float64)
    return SecondOpinion(
        tokens=tokens,
        objective=total.item() / max(1, tokens),
        dense=dense.item() / max(1, tokens),
        value_gap=_relative(abs(total.item() - dense.item()), abs(dense.item())),
        gradient_gap=_relative(apart, size),
        tolerance=1e-3 if exact else 5e-2,
    )


def _relative(gap: float, size: float) -> float:
    return gap / size if size else gap


def _few(sample: EncodedSample, texts: Inputs, live: LoadedPair) -> list:
    vocabulary = max(len(texts.student.template.tokenizer), len(texts.teacher.template.tokenizer))
    room = DENSE_BYTES // (vocabulary * 4 * 16)
    rows, tokens = [], 0
    for row in sample.rows[: len(live.batch["ids"])]:
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


def probe_heads(live: LoadedPair, sample: EncodedSample) -> Mapping[str, HeadProbe]:
    """Probe both heads on the first row.

    Raises:
        ModelError: the student's head is not understood, which `run` refuses too.
    """
    row = sample.rows[0]
    assert row.teacher is not None
    ours, theirs = (move(short_inputs(side), live.device) for side in (row.student, row.teacher))
    found = {"student": HeadProbe(probe(live.module.student, ours, name="student"))}
    try:
        found["teacher"] = HeadProbe(probe(live.teacher.model, theirs, name="teacher"))  # pyright: ignore
    except ModelError as error:
        found["teacher"] = HeadProbe(None, error.message)
    return found
