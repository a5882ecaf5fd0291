"""Cross-entropy with the given answers: supervised fine-tuning, sequence-level distillation, texts of tasks."""

from __future__ import annotations

import torch

from understudy.losses import HeadTerms, head_losses
from understudy.losses.divergences import forward_kl
from understudy.models.forward import Output
from understudy.training.objectives.base import Objective, Result, count, row_weights, spec, task_sums
from understudy.types import Batch


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
