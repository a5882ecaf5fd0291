"""Cross-entropy with the given answers: supervised fine-tuning, sequence-level distillation, texts of tasks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from understudy.losses import HeadLosses, HeadTerms, Pass, Passes
from understudy.losses.divergences import forward_kl
from understudy.models.output import Output
from understudy.teachers.signals import Signal
from understudy.training.objectives.base import Objective, num_target_tokens, row_weights, task_sums
from understudy.types import Batch


class CrossEntropy(Objective):
    """Cross-entropy with the given answers: supervised fine-tuning, and sequence-level distillation.

    L = Σ_n w_n · (−log q(gold_n)), natural logarithm; w is the weight of the token's row, 1 where there are no tasks.
    """

    def passes(self, student: Output, signal: Signal | None, batch: Batch) -> Passes:
        """See the class."""
        weights = row_weights(student, batch)
        if weights is None:
            weights = torch.ones_like(student.target_ids, dtype=torch.float32)
        terms = HeadTerms(forward_kl, gold_ids=student.target_ids, gold_weights=weights)
        yield Pass(student.states, None, terms)

    def sums(self, steps: Sequence[tuple[Pass, HeadLosses]], student: Output, batch: Batch) -> dict[str, Tensor]:
        """See the base class."""
        gold = steps[0][1].gold
        assert gold is not None
        return {"gold": gold.sum(), "tokens": num_target_tokens(student)} | task_sums(gold, student, batch)
