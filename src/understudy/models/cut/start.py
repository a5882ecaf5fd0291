"""How well a student begins: its perplexity on real answers, and how often it would write its teacher's token."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

from understudy.models.cut.importance import Rows, logits_of
from understudy.models.forward import forward


@dataclass(frozen=True)
class Start:
    """How a student begins.

    Attributes:
        perplexity: exp of the mean −log q(target) over the target tokens.
        teacher_perplexity: the teacher's on the same tokens.
        agreement: share of the target tokens at which both find the same token likeliest.
        tokens: number of target tokens.
    """

    perplexity: float
    teacher_perplexity: float
    agreement: float
    tokens: int


def start_of(student: Any, teacher: Any, rows: Rows) -> Start:
    """Measure a student beside its teacher on rows with answers, a row each."""
    losses, same, tokens = [0.0, 0.0], 0, 0
    with torch.no_grad():
        for row in rows:
            outputs = [forward(model, row) for model in (student, teacher)]
            logits = [logits_of(output) for output in outputs]
            targets = outputs[0].target_ids
            for n, side in enumerate(logits):
                losses[n] += float(torch.nn.functional.cross_entropy(side, targets, reduction="sum"))
            same += int((logits[0].argmax(-1) == logits[1].argmax(-1)).sum())
            tokens += len(targets)
    perplexities = [math.exp(min(loss / tokens, 700.0)) for loss in losses]
    return Start(perplexities[0], perplexities[1], same / tokens, tokens)
