"""Dual-space objectives (DSKD): each side's states are also judged in the other's output space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from torch import Tensor

from understudy.losses import CrossModelAttention, DualSpace, HeadLosses, Pass, Passes, TokenViews
from understudy.losses.divergences import Divergence
from understudy.losses.dskd import dual_space_losses
from understudy.models.head import base_model
from understudy.models.output import Output, VocabularyOutput
from understudy.recipe.methods import DskdCmaConfig, DskdConfig
from understudy.teachers.signals import Signal
from understudy.tokens.align import CrossTokenizer
from understudy.training.objectives.base import (
    Objective,
    divergence_of,
    head_states,
    loss_weights,
    num_target_tokens,
    statistics_sums,
    task_sums,
)
from understudy.types import Batch


class DualSpaceObjective(Objective):
    """DSKD for one vocabulary (arXiv 2406.17328): each side's states are also judged in the other's output space.

    L = Σ_n g_n · CE_n + (1 − g_n) · (L_stu + L_tea + L_proj)_n, see `losses.dskd`.

    Args:
        spaces: the projectors.
        divergence: D of L_stu.
        temperature: τ of the two divergences; there is no τ².
        gold_weight: g.
    """

    def __init__(
        self, spaces: DualSpace | CrossModelAttention, divergence: Divergence, *, temperature: float, gold_weight: float
    ) -> None:
        super().__init__()
        self.spaces = spaces
        self.divergence = divergence
        self.temperature = temperature
        self.gold_weight = gold_weight

    @classmethod
    def build(cls, config: DskdConfig, student: Any, teacher: Any, cross_tokenizer: CrossTokenizer | None) -> Self:
        """See the base class."""
        spaces = DualSpace(_width(student), _width(teacher))
        return cls(spaces, divergence_of(config), temperature=config.temperature, gold_weight=config.gold_weight)

    def passes(self, student: Output, signal: Signal | None, batch: Batch) -> Passes:
        """See the class."""
        assert signal is not None
        assert isinstance(self.spaces, DualSpace)
        gold, teacher_weights = loss_weights(self.gold_weight, student, batch)
        return self.spaces.passes(
            head_states(student),
            head_states(signal),
            student.target_ids,
            divergence=self.divergence,
            temperature=self.temperature,
            weights=teacher_weights,
            gold_weights=gold,
            statistics=self.statistics,
        )

    def sums(self, steps: Sequence[tuple[Pass, HeadLosses]], student: Output, batch: Batch) -> dict[str, Tensor]:
        """See the base class."""
        losses = dual_space_losses(steps)
        gold = losses.student.gold
        assert gold is not None
        # The dual-space terms are logged as they enter the sum: weighted by 1 − g.
        sums = {**losses.sums, "tokens": num_target_tokens(student), "gold": gold.sum()}
        return sums | statistics_sums(losses.student, student) | task_sums(gold, student, batch)


class CrossModelObjective(DualSpaceObjective):
    """DSKD with cross-model attention (arXiv 2406.17328), for two vocabularies; see `losses.dskd`.

    L = Σ_s g_s · CE_s + (1 − g_s) · (L_stu + L_proj)_s + Σ_t (1 − g_t) · L_tea,t: the last sum runs over the teacher's
    target tokens. Arguments as in `DualSpaceObjective`; `spaces` holds projectors and attention.
    """

    embeddings: ClassVar[bool] = True

    @classmethod
    def build(cls, config: DskdCmaConfig, student: Any, teacher: Any, cross_tokenizer: CrossTokenizer | None) -> Self:
        """See the base class."""
        spaces = CrossModelAttention(
            _width(student),
            _width(teacher),
            _embedding_width(student),
            _embedding_width(teacher),
            published=config.published,
        )
        return cls(spaces, divergence_of(config), temperature=config.temperature, gold_weight=config.gold_weight)

    def passes(self, student: Output, signal: Signal | None, batch: Batch) -> Passes:
        """See the class."""
        assert isinstance(signal, VocabularyOutput)
        assert isinstance(self.spaces, CrossModelAttention)
        gold, teacher_weights = loss_weights(self.gold_weight, student, batch)
        return self.spaces.passes(
            _views(student),
            _views(signal),
            student.target_ids,
            divergence=self.divergence,
            temperature=self.temperature,
            weights=teacher_weights,
            teacher_weights=loss_weights(self.gold_weight, signal, batch)[1],
            gold_weights=gold,
            statistics=self.statistics,
        )


def _width(model: Any) -> int:
    """Width of the states that enter a model's head."""
    return base_model(model).get_output_embeddings().weight.shape[1]


def _embedding_width(model: Any) -> int:
    """Width of a model's token embeddings."""
    return base_model(model).get_input_embeddings().weight.shape[1]


def _views(output: Output) -> TokenViews:
    assert isinstance(output, VocabularyOutput)
    assert output.input_embeddings is not None
    assert output.target_embeddings is not None
    embeddings = output.input_embeddings, output.target_embeddings
    return TokenViews(output.states, *embeddings, output.lengths, output.deviations)
