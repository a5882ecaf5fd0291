"""Objectives across two vocabularies whose answers have been aligned (`Batch["alignment"]`).

As in `training.objectives`, they return sums over the student's target tokens, and nothing depends on how a batch was
cut. `aligned` counts the tokens that have a partner; `mapped_mass` sums, over these, the probability that the teacher
puts on tokens that the student has too.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from understudy.losses import Head, HeadLosses, HeadTerms, Pass, Passes
from understudy.losses.crossvocab import AlignedTokens, SpanMerge, TokenSpans
from understudy.losses.divergences import Divergence, forward_kl
from understudy.losses.dskd import dual_space_losses
from understudy.losses.dskd_v2 import DualSpaceV2
from understudy.losses.logit_comparisons import ColumnMap, MappedColumns, SortedL1
from understudy.models.head import head_of
from understudy.models.output import Output
from understudy.recipe.methods import ByteAlignedConfig, DskdV2Config, MinEditConfig, UldConfig
from understudy.teachers.signals import Signal
from understudy.tokens.align import CrossTokenizer
from understudy.tokens.vocabulary import VocabularyMap
from understudy.training.objectives.base import (
    Objective,
    divergence_of,
    head_states,
    loss_weights,
    num_target_tokens,
    task_sums,
)
from understudy.types import Alignment, Batch


class AlignedObjective(Objective):
    """Base: gold cross-entropy on all tokens, and a divergence where the teacher's tokens meet the student's.

    L = Σ_n g_n · CE_n + (1 − g_n) · D_n, with g as in `OutputDivergence`; D is 0 on tokens without a partner unless
    the method says otherwise.

    Args:
        exact: `[V_t]` the student's id that means the same as each of the teacher's; −1 for none.
        temperature: τ of D.
        gold_weight: g.
    """

    exact: Tensor

    def __init__(self, exact: Tensor, *, temperature: float, gold_weight: float) -> None:
        super().__init__()
        self.register_buffer("exact", exact, persistent=False)
        self.temperature = temperature
        self.gold_weight = gold_weight
        self.scale = 1.0

    def passes(self, student: Output, signal: Signal | None, batch: Batch) -> Passes:
        """See the class."""
        assert signal is not None
        gold, teacher_weights = loss_weights(self.gold_weight, student, batch)
        terms = HeadTerms(
            forward_kl,
            temperature=self.temperature,
            token_weights=teacher_weights * self.scale,
            gold_ids=student.target_ids,
            gold_weights=gold,
            statistics=self.statistics,
            shared_columns=self.exact >= 0 if len(self.exact) else None,
        )
        step = self.compared(student, signal, alignment_of(batch), terms)
        yield dataclasses.replace(step, factor=self.scale)

    def compared(self, student: Output, signal: Signal, alignment: Alignment, terms: HeadTerms) -> Pass:
        """The pass over a batch; `terms` lacks nothing but how the two sides are compared."""
        raise TypeError(f"{type(self).__name__} does not say how it compares")

    def sums(self, steps: Sequence[tuple[Pass, HeadLosses]], student: Output, batch: Batch) -> dict[str, Tensor]:
        """See the base class."""
        losses, partners = steps[0][1], alignment_of(batch)["partners"]
        assert losses.gold is not None
        assert losses.divergence is not None
        sums = {"gold": losses.gold.sum(), "divergence": losses.divergence.sum(), "tokens": num_target_tokens(student)}
        sums["aligned"] = (partners >= 0).sum().float()
        sums |= _task_sums(losses.gold, partners, student, batch)
        return sums | aligned_statistics(losses, self.exact)


class MinEdit(AlignedObjective):
    """Divergence from the teacher's logits carried to the student's vocabulary (MinED).

    Positions whose match is one to one and maps to the student's own token take the teacher's mapped logits, all
    others the gold token with all probability: D_n is then −log q_τ(gold) for forward KL.

    Args:
        divergence: of log-probabilities, per token.
        nearest: `[V_t]` the student's id for each of the teacher's; −1 for none.
        student_columns: columns of the student's head.
        exact: as in the base class.
        temperature: τ.
        gold_weight: g.
        scale_by_temperature_squared: the τ² switch.
    """

    def __init__(
        self,
        divergence: Divergence,
        nearest: Tensor,
        student_columns: int,
        exact: Tensor,
        *,
        temperature: float,
        gold_weight: float,
        scale_by_temperature_squared: bool = False,
    ) -> None:
        super().__init__(exact, temperature=temperature, gold_weight=gold_weight)
        self.divergence = divergence
        self.columns = ColumnMap(nearest, student_columns)
        self.squared = scale_by_temperature_squared
        self.scale = temperature**2 if scale_by_temperature_squared else 1.0

    @classmethod
    def build(cls, config: MinEditConfig, student: Any, teacher: Any, cross_tokenizer: CrossTokenizer | None) -> Self:
        """See the base class."""
        student_head, teacher_head = head_of(student), _head_of(teacher)
        nearest = torch.from_numpy(_between(cross_tokenizer).nearest)
        nearest = nearest if teacher_head is None else nearest[: len(teacher_head.weight)]
        return cls(
            divergence_of(config),
            nearest,
            len(student_head.weight),
            _exact(cross_tokenizer, student_head, teacher_head),
            temperature=config.temperature,
            gold_weight=config.gold_weight,
            scale_by_temperature_squared=config.scale_by_temperature_squared,
        )

    def compared(self, student: Output, signal: Signal, alignment: Alignment, terms: HeadTerms) -> Pass:
        """See the class."""
        pairs = _pairs(alignment)
        self.columns.to(student.device)
        gold = pairs.arranged(student.target_ids)
        compared = MappedColumns(self.divergence, self.columns, gold, temperature=self.temperature)
        terms = dataclasses.replace(terms, divergence=compared)
        return Pass(head_states(student), signal.states, terms, pairs=pairs)


class SortedProbabilities(AlignedObjective):
    """Universal logit distillation (ULD, arXiv 2402.12030): D = Σ |q_(i) − p_(i)| of the sorted probabilities.

    The n-th token of the answer stands beside the n-th, whatever they write. The paper's CE + 1.5 D has the proportions
    of a gold weight of 0.4.
    """

    @classmethod
    def build(cls, config: UldConfig, student: Any, teacher: Any, cross_tokenizer: CrossTokenizer | None) -> Self:
        """See the base class."""
        exact = _exact(cross_tokenizer, head_of(student), _head_of(teacher))
        return cls(exact, temperature=config.temperature, gold_weight=config.gold_weight)

    def compared(self, student: Output, signal: Signal, alignment: Alignment, terms: HeadTerms) -> Pass:
        """See the class."""
        terms = dataclasses.replace(terms, divergence=SortedL1(), shared_columns=None)
        return Pass(head_states(student), signal.states, terms, pairs=_pairs(alignment))


class ByteAligned(AlignedObjective):
    """Merged probabilities of token groups that write the same bytes (GOLD), see `losses.crossvocab.merged_losses`.

    Args:
        exact: as in the base class; the shared tokens are those that have a counterpart.
        beta: β of the generalised Jensen–Shannon divergence.
        temperature: τ.
        gold_weight: g.
    """

    def __init__(self, exact: Tensor, *, beta: float, temperature: float, gold_weight: float) -> None:
        super().__init__(exact, temperature=temperature, gold_weight=gold_weight)
        self.beta = beta
        self.register_buffer("columns", shared_columns(exact), persistent=False)

    @classmethod
    def build(
        cls, config: ByteAlignedConfig, student: Any, teacher: Any, cross_tokenizer: CrossTokenizer | None
    ) -> Self:
        """See the base class."""
        exact = _exact(cross_tokenizer, head_of(student), head_of(teacher))
        return cls(exact, beta=config.beta, temperature=config.temperature, gold_weight=config.gold_weight)

    def compared(self, student: Output, signal: Signal, alignment: Alignment, terms: HeadTerms) -> Pass:
        """See the class."""
        assert isinstance(self.columns, Tensor)
        groups = TokenSpans(
            alignment["partners"],
            alignment["student_groups"],  # pyright: ignore[reportTypedDictNotRequiredAccess]
            alignment["teacher_groups"],  # pyright: ignore[reportTypedDictNotRequiredAccess]
            student.target_ids,
            signal.target_ids,
        )
        weight = self.columns.shape[1] / len(self.exact)
        merge = SpanMerge(groups, self.columns, self.beta, weight)
        return Pass(head_states(student), signal.states, terms, pairs=_pairs(alignment), merge=merge)


class DualSpaceV2Objective(Objective):
    """DSKDv2 (arXiv 2504.11426) on the tokens that cover the same text on both sides; see `losses.dskd_v2`.

    L = Σ_n g_n · CE_n + Σ_aligned (1 − g_n) · (L_stu + L_tea + L_proj)_n.

    Args:
        spaces: the projectors.
        divergence: D of L_stu and L_tea.
        temperature: τ of the two; there is no τ².
        gold_weight: g.
    """

    def __init__(self, spaces: DualSpaceV2, divergence: Divergence, *, temperature: float, gold_weight: float) -> None:
        super().__init__()
        self.spaces = spaces
        self.divergence = divergence
        self.temperature = temperature
        self.gold_weight = gold_weight

    @classmethod
    def build(cls, config: DskdV2Config, student: Any, teacher: Any, cross_tokenizer: CrossTokenizer | None) -> Self:
        """See the base class."""
        student_head, teacher_head = head_of(student), head_of(teacher)
        spaces = DualSpaceV2(
            student_head.weight,
            teacher_head.weight,
            shared_columns(_exact(cross_tokenizer, student_head, teacher_head)),
            scale=teacher_head.scale / student_head.scale,
            agreement_threshold=config.agreement_threshold,
            published=config.published,
        )
        return cls(spaces, divergence_of(config), temperature=config.temperature, gold_weight=config.gold_weight)

    def begin_step(self, step: int, steps: int) -> None:
        """See the base class: the student's head is another one than in the step before."""
        self.spaces.begin_step()
        super().begin_step(step, steps)

    def passes(self, student: Output, signal: Signal | None, batch: Batch) -> Passes:
        """See the class."""
        assert signal is not None
        gold, teacher_weights = loss_weights(self.gold_weight, student, batch)
        partners = alignment_of(batch)["partners"]
        yield from self.spaces.passes(
            head_states(student),
            head_states(signal),
            student.target_ids,
            partners,
            lengths=student.lengths,
            divergence=self.divergence,
            temperature=self.temperature,
            weights=teacher_weights,
            gold_weights=gold,
            statistics=self.statistics,
        )

    def sums(self, steps: Sequence[tuple[Pass, HeadLosses]], student: Output, batch: Batch) -> dict[str, Tensor]:
        """See the base class."""
        losses, partners = dual_space_losses(steps), alignment_of(batch)["partners"]
        assert losses.student.gold is not None
        # The dual-space terms are logged as they enter the sum: weighted by 1 − g.
        sums = {**losses.sums, "tokens": num_target_tokens(student), "gold": losses.student.gold.sum()}
        sums["aligned"] = (partners >= 0).sum().float()
        # z_t→s speaks the student's own vocabulary.
        same = torch.arange(len(head_states(student).head.weight), device=partners.device)
        sums |= _task_sums(losses.student.gold, partners, student, batch)
        return sums | aligned_statistics(losses.student, same)


def _between(cross_tokenizer: CrossTokenizer | None) -> VocabularyMap:
    assert cross_tokenizer is not None, "the method needs what lies between the two tokenizers"
    return cross_tokenizer.vocabulary


def _head_of(teacher: Any) -> Head | None:
    """The teacher's head; None of a teacher that tells of its likeliest tokens alone, wherever they come from."""
    return None if teacher is None else head_of(teacher)


def _exact(cross_tokenizer: CrossTokenizer | None, student: Head, teacher: Head | None) -> Tensor:
    """`[V_t]` the student's id of each of the teacher's, for the columns that the two heads have."""
    exact = torch.from_numpy(_between(cross_tokenizer).exact)
    # A tokenizer may know more tokens than the model has columns.
    exact = exact.masked_fill(exact >= len(student.weight), -1)
    return exact if teacher is None else exact[: len(teacher.weight)]


def shared_columns(exact: Tensor) -> Tensor:
    """`[2, K]` the tokens that both vocabularies have: the student's ids and the teacher's."""
    teacher_ids = (exact >= 0).nonzero()[:, 0]
    return torch.stack([exact[teacher_ids], teacher_ids])


def alignment_of(batch: Batch) -> Alignment:
    """The alignment of a batch, which its rows must have been encoded with."""
    assert "alignment" in batch, "the rows were encoded without the cross_tokenizer between the two tokenizers"
    return batch["alignment"]


def aligned_statistics(losses: HeadLosses, exact: Tensor) -> dict[str, Tensor]:
    """Sums over the tokens with a partner, by their names in the log; nothing where nothing was measured."""
    entropy, student_argmax, teacher_argmax = losses.student_entropy, losses.student_argmax, losses.teacher_argmax
    if entropy is None or student_argmax is None or teacher_argmax is None or losses.teacher_entropy is None:
        return {}
    num = len(teacher_argmax)
    sums = {
        "student_entropy": entropy[:num].sum(),
        "teacher_entropy": losses.teacher_entropy.sum(),
        "measured_tokens": entropy.new_tensor(float(num)),
    }
    if len(exact):
        sums["agreement"] = (_mapped(exact, teacher_argmax) == student_argmax[:num]).sum()
    if losses.teacher_shared is not None:
        sums["mapped_mass"] = losses.teacher_shared.sum()
    return sums


def _mapped(exact: Tensor, ids: Tensor) -> Tensor:
    """The student's ids of some of the teacher's; −1 for those that stand behind its tokenizer's last."""
    return torch.where(ids < len(exact), exact[ids.clamp_max(len(exact) - 1)], -1)


def _task_sums(gold: Tensor, partners: Tensor, student: Output, batch: Batch) -> dict[str, Tensor]:
    """`task_sums` of cross-entropies that stand in the order of the pairs."""
    if "tasks" not in batch:
        return {}
    order = AlignedTokens.of(partners).order
    in_order = gold if order is None else torch.empty_like(gold).index_copy_(0, order, gold)
    return task_sums(in_order, student, batch)


def _pairs(alignment: Alignment) -> AlignedTokens:
    return AlignedTokens.of(alignment["partners"])
