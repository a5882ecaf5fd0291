"""Dual-space distillation, second version (DSKDv2, arXiv 2504.11426): projectors that follow from the two heads.

With W_s and W_t the rows of both heads that the vocabularies share, pinv the pseudo-inverse and all without bias:

```text
z_t→s = h_t P_t2s W_sᵀ     P_t2s starts as W_tᵀ pinv(W_sᵀ) and learns     L_proj = CE(z_t→s, the teacher's argmax)
z_s→t = h_s P_s2t W_tᵀ     P_s2t = sg(W_sᵀ) pinv(W_tᵀ), never learned     L_tea = D(teacher ‖ z_s→t)
L_stu = D(z_s, sg z_t→s) on the tokens where argmax z_t→s is the teacher's argmax
```

At the start z_t→s is as near to the teacher's own logits as the student's head can write, and z_s→t to the student's.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Generator, Sequence

import torch
from torch import Tensor, nn

from understudy.losses.crossvocab import AlignedTokens
from understudy.losses.divergences import Divergence, divergence, forward_kl
from understudy.losses.dskd import DualSpaceLosses, dual_space_losses
from understudy.losses.fused import HeadLosses
from understudy.losses.heads import HeadStates
from understudy.losses.passes import Pass, Passes, run_passes
from understudy.losses.requests import HeadTerms

_ROWS = 8192


class DualSpaceV2(nn.Module):
    """The projectors of DSKDv2.

    Args:
        student: weight `[V_s, d]` of the student's head, as training begins.
        teacher: weight `[V_t, D]` of the teacher's head, which never changes.
        columns: `[2, K]` the shared tokens, the student's columns and the teacher's.
        scale: the teacher's factor on its logits ÷ the student's.
        agreement_threshold: the mask of L_stu falls for examples whose share of right tokens exceeds it.
        published: divide each of the three terms by the tokens that it counts itself, as the authors' code does, and
            multiply by the target tokens, by which whoever calls divides; L_tea then leaves out the tokens whose
            likeliest token the student lacks. The value depends on how a batch was cut.
    """

    to_student_ids: Tensor
    columns: Tensor
    inverse_gram: Tensor

    def __init__(
        self,
        student: Tensor,
        teacher: Tensor,
        columns: Tensor,
        *,
        scale: float = 1.0,
        agreement_threshold: float = 1.0,
        published: bool = False,
    ) -> None:
        super().__init__()
        self.published = published
        self.agreement_threshold, self.scale = agreement_threshold, scale
        student, teacher, columns = student.detach(), teacher.detach(), columns.to(student.device)
        self.teacher_to_student = nn.Linear(teacher.shape[1], student.shape[1], bias=False)
        start = _cross(teacher, student, columns.flip(0)) @ _inverse_gram(student, columns[0])
        exact = self.teacher_to_student.weight.dtype
        self.teacher_to_student.weight.data = (scale * start).t().to(exact).contiguous()
        self.register_buffer("inverse_gram", _inverse_gram(teacher, columns[1]).to(exact), persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        ids = torch.full((len(teacher),), -1, device=columns.device)
        ids[columns[1]] = columns[0]
        self.register_buffer("to_student_ids", ids, persistent=False)
        self._in_step = False
        self._kept_projection: tuple[Tensor, Tensor] | None = None

    def begin_step(self) -> None:
        """Until the next call the student's head stays as it is: P_s2t is computed once for all micro-batches.

        Whoever trains has to say so. A fused optimiser leaves no trace on the tensors that it changes: neither their
        address nor their version is another.
        """
        self._in_step = True
        self._kept_projection = None

    def student_to_teacher(self, student: Tensor, teacher: Tensor) -> Tensor:
        """P_s2t `[d, D]` of the heads as they are; computed at each call, or once a step after `begin_step`."""
        # A head that is put together for each pass (adapters on it) is another tensor each time.
        if self._kept_projection is None or self._kept_projection[0] is not student:
            with torch.no_grad(), torch.autocast(student.device.type, enabled=False):
                exact = self.inverse_gram.dtype
                projection = (
                    _cross(student.detach(), teacher.detach(), self.columns, exact) @ self.inverse_gram / self.scale
                )
            if not self._in_step:
                return projection
            self._kept_projection = student, projection
        return self._kept_projection[1]

    def forward(self, *arguments, **options) -> DualSpaceLosses:
        """The losses of `passes`, whose arguments it takes."""
        return dual_space_losses(run_passes(self.passes(*arguments, **options)))

    def passes(
        self,
        student: HeadStates,
        teacher: HeadStates,
        gold_ids: Tensor,
        partners: Tensor,
        *,
        lengths: Sequence[int] = (),
        divergence: str | Divergence = "forward_kl",
        temperature: float = 2.0,
        weights: Tensor | None = None,
        gold_weights: Tensor | None = None,
        statistics: bool = False,
    ) -> Passes:
        """Σ weights (mask · L_stu + L_tea + L_proj) over the tokens with a partner + Σ gold_weights CE over all.

        Args:
            student: hidden states `[N, d]` and head.
            teacher: hidden states `[N_t, D]` and head; constants.
            gold_ids: `[N]` the student's target tokens.
            partners: `[N]` the teacher's token beside each of the student's, −1 for none.
            lengths: target tokens of each example; needed where the threshold is below 1.
            divergence: D of L_stu and of L_tea.
            temperature: τ of both.
            weights: `[N]` of the three distillation terms; None is 1.
            gold_weights: `[N]` of the student's cross-entropy; None leaves it out.
            statistics: also give likeliest tokens and entropies.
        """
        function = _function(divergence)
        pairs = AlignedTokens.of(partners)
        weights = torch.ones_like(gold_ids, dtype=torch.float32) if weights is None else weights
        paired = weights[pairs.student]
        paired_teacher = teacher.constant().rows(pairs.teacher)
        exact = self.teacher_to_student.weight.dtype
        back = student.hidden[pairs.student].to(exact) @ self.student_to_teacher(
            student.head.weight, teacher.head.weight
        )
        share: Tensor | float = 1.0
        if self.published:
            share = _own_share((yield from self._means_shared(paired_teacher)), len(gold_ids))
        terms = HeadTerms(function, temperature=temperature, token_weights=paired * share, argmax=True)
        step = Pass(teacher.with_hidden(back), paired_teacher, terms, {"divergence": "teacher_space"})
        teacher_space = yield dataclasses.replace(step, weighed=pairs.student, factor=share)
        picked = (
            pairs.teacher if teacher_space.teacher_argmax is None else self.to_student_ids[teacher_space.teacher_argmax]
        )
        carried = student.with_hidden(self.teacher_to_student(paired_teacher.hidden.to(exact)))
        mask = yield from self._mask(carried, picked, pairs, lengths)
        if self.published and mask is not None:
            mask = _own_share(mask, len(gold_ids))
        factor = 1.0 if mask is None else torch.ones_like(weights).index_put((pairs.student,), mask.to(weights.dtype))
        terms = HeadTerms(
            function,
            temperature=temperature,
            token_weights=weights * factor,
            gold_ids=gold_ids,
            gold_weights=gold_weights,
            teacher_gold_ids=picked,
            teacher_gold_weights=paired * share,
            only_where_teacher_right=mask is None,
            statistics=statistics,
        )
        all_pairs = AlignedTokens(pairs.order, pairs.student, torch.arange(len(pairs), device=partners.device))
        near = {"gold": "gold", "divergence": "student_space", "teacher_gold": "projection"}
        yield Pass(student, carried, terms, near, pairs=all_pairs, factor=factor, teacher_gold_factor=share)

    def _means_shared(self, teacher: HeadStates) -> Generator[Pass, HeadLosses, Tensor]:
        """`[M]` 1 where the teacher's likeliest token is one that the student has."""
        num = teacher.hidden.shape[0]
        ids = torch.zeros(num, dtype=torch.long, device=teacher.hidden.device)
        terms = HeadTerms(forward_kl, gold_ids=ids, gold_weights=torch.zeros_like(ids).float(), argmax=True)
        losses = yield Pass(teacher, None, terms, {})
        assert losses.student_argmax is not None
        return (self.to_student_ids[losses.student_argmax] >= 0).float()

    def _mask(
        self, carried: HeadStates, picked: Tensor, pairs: AlignedTokens, lengths: Sequence[int]
    ) -> Generator[Pass, HeadLosses, Tensor | None]:
        """1 for the tokens that L_stu counts, `[M]`; None where it simply counts those that are right."""
        if (self.agreement_threshold >= 1 and not self.published) or not len(pairs):
            return None
        zeros = torch.zeros_like(picked, dtype=torch.float32)
        terms = HeadTerms(forward_kl, gold_ids=picked, gold_weights=zeros, argmax=True)
        losses = yield Pass(carried.constant(), None, terms, {})
        assert losses.student_argmax is not None
        right = (losses.student_argmax == picked).float()
        if self.agreement_threshold >= 1:
            return right
        counts = torch.tensor(lengths, device=picked.device)
        example = torch.arange(len(lengths), device=picked.device).repeat_interleave(counts)[pairs.student]
        sums = torch.zeros(2, len(lengths), device=picked.device)
        sums.index_add_(1, example, torch.stack([right, torch.ones_like(right)]))
        agreement = (sums[0] / sums[1].clamp_min(1))[example]
        return torch.where(agreement <= self.agreement_threshold, right, 1.0)


def _own_share(counted: Tensor, num_tokens: int) -> Tensor:
    """What makes Σ share · values, divided by the target tokens, the mean of the values that are counted (1, not 0)."""
    return counted * (num_tokens / counted.sum().clamp_min(1))


def _function(name: str | Divergence) -> Divergence:
    return divergence(name) if isinstance(name, str) else name


def _cross(first: Tensor, second: Tensor, columns: Tensor, exact: torch.dtype | None = None) -> Tensor:
    """firstᵀ second over the shared tokens, a piece of the vocabulary at a time."""
    exact = exact or _exact(first)
    product = torch.zeros(first.shape[1], second.shape[1], dtype=exact, device=first.device)
    for first_columns, second_columns in zip(columns[0].split(_ROWS), columns[1].split(_ROWS), strict=True):
        product.addmm_(first[first_columns].to(exact).t(), second[second_columns].to(product.device, exact))
    return product


def _inverse_gram(weight: Tensor, columns: Tensor) -> Tensor:
    """pinv(Wᵀ W) of the shared rows; pinv(Wᵀ) is W times it."""
    return torch.linalg.pinv(_cross(weight, weight, torch.stack([columns, columns])), hermitian=True)


def _exact(weight: Tensor) -> torch.dtype:
    return torch.float32 if weight.device.type == "mps" else torch.float64
