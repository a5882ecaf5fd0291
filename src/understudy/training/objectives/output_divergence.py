"""Divergence of the output distributions of two models of one vocabulary: what is called KD."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor

from understudy.losses import HeadLosses, HeadTerms, Pass, Passes
from understudy.losses.divergences import Divergence
from understudy.models.output import Output
from understudy.recipe import KdConfig
from understudy.teachers.signals import Signal
from understudy.tokens.align import CrossTokenizer
from understudy.training.objectives.base import (
    Objective,
    divergence_of,
    loss_weights,
    num_target_tokens,
    statistics_sums,
    task_sums,
)
from understudy.types import Batch


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
        self.squared = scale_by_temperature_squared
        self.scale = temperature**2 if scale_by_temperature_squared else 1.0

    @classmethod
    def build(cls, config: KdConfig, student: Any, teacher: Any, cross_tokenizer: CrossTokenizer | None) -> Self:
        """See the base class."""
        return cls(
            divergence_of(config),
            temperature=config.temperature,
            gold_weight=config.gold_weight,
            scale_by_temperature_squared=config.scale_by_temperature_squared,
        )

    def passes(self, student: Output, signal: Signal | None, batch: Batch) -> Passes:
        """See the class."""
        assert signal is not None
        gold, teacher_weights = loss_weights(self.gold_weight, student, batch)
        terms = HeadTerms(
            self.divergence,
            temperature=self.temperature,
            token_weights=teacher_weights * self.scale,
            gold_ids=student.target_ids,
            gold_weights=gold,
            statistics=self.statistics,
        )
        yield Pass(student.states, signal.states, terms, factor=self.scale)

    def sums(self, steps: Sequence[tuple[Pass, HeadLosses]], student: Output, batch: Batch) -> dict[str, Tensor]:
        """See the base class."""
        losses = steps[0][1]
        assert losses.gold is not None
        assert losses.divergence is not None
        sums = {"gold": losses.gold.sum(), "divergence": losses.divergence.sum(), "tokens": num_target_tokens(student)}
        return sums | statistics_sums(losses, student) | task_sums(losses.gold, student, batch)
