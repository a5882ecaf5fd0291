"""Dual-space knowledge distillation: compare in the student's and in the teacher's space (DSKD, arXiv 2406.17328).

Two projectors carry hidden states across, and each side's own output head reads them:

```text
z_t→s = P_t2s(h_t) · sg(W_s)ᵀ     L_stu = D(z_s, sg z_t→s)       L_proj = CE(z_t→s, gold)
z_s→t = P_s2t(h_s) · sg(W_t)ᵀ     L_tea = KL(teacher ‖ z_s→t)
```

The divergences stand at the temperature, without τ²; both cross-entropies stand at temperature 1. Where the
vocabularies differ, cross-model attention first brings one side's target positions to the other's. All tensors
are flat over the target tokens; nothing is averaged: whoever calls gives the weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from understudy.losses.deviations import Deviations
from understudy.losses.divergences import Divergence, divergence, forward_kl
from understudy.losses.fused import HeadLosses
from understudy.losses.heads import HeadStates
from understudy.losses.passes import Pass, Passes, run_passes, weighted_sums
from understudy.losses.requests import HeadTerms


@dataclass(frozen=True, slots=True)
class DualSpaceLosses:
    """What DSKD gives for a batch.

    Attributes:
        total: the weighted sum of all terms; the only part that carries a gradient.
        sums: the weighted sum of each term, without gradient: `student_space` (L_stu), `teacher_space` (L_tea),
            `projection` (L_proj), `gold` (the student's cross-entropy, where it is weighted).
        student: the pass in the student's space: `divergence` is L_stu per token before any mask, `gold` the
            student's cross-entropy, `teacher_gold` L_proj, `teacher_right` whether z_t→s puts gold first.
        teacher: the pass in the teacher's space: `divergence` is L_tea per token.
    """

    total: Tensor
    sums: dict[str, Tensor]
    student: HeadLosses
    teacher: HeadLosses


@dataclass(frozen=True, slots=True)
class TokenViews:
    """One model's target tokens as cross-model attention sees them.

    Attributes:
        states: hidden states `[N, d]` at the target positions, and the head.
        inputs: embeddings `[N, d_e]` of the tokens that stand at those positions.
        targets: embeddings `[N, d_e]` of the tokens to be predicted there.
        lengths: target tokens of each example, in order; they add up to N.
        deviations: of the whole padded batch; of the teacher, where `published` is asked for.
    """

    states: HeadStates
    inputs: Tensor
    targets: Tensor
    lengths: Sequence[int]
    deviations: Deviations | None = None


class DualSpace(nn.Module):
    """DSKD for one vocabulary: row n of student and teacher predicts the same token.

    Args:
        student_width: d.
        teacher_width: D.
    """

    def __init__(self, student_width: int, teacher_width: int) -> None:
        super().__init__()
        self.teacher_to_student = nn.Linear(teacher_width, student_width)
        self.student_to_teacher = nn.Linear(student_width, teacher_width)

    def forward(self, *arguments, **options) -> DualSpaceLosses:
        """The losses of `passes`, whose arguments it takes."""
        return dual_space_losses(run_passes(self.passes(*arguments, **options)))

    def passes(
        self,
        student: HeadStates,
        teacher: HeadStates,
        gold_ids: Tensor,
        *,
        divergence: str | Divergence = "forward_kl",
        temperature: float = 2.0,
        weights: Tensor | None = None,
        gold_weights: Tensor | None = None,
        statistics: bool = False,
    ) -> Passes:
        """Σ weights (L_stu + L_tea + L_proj) + Σ gold_weights CE.

        Args:
            student: hidden states `[N, d]` and head; both may carry gradients.
            teacher: hidden states `[N, D]` and head; taken as constants.
            gold_ids: `[N]`.
            divergence: D of L_stu; L_tea is always forward KL.
            temperature: τ of L_stu and L_tea.
            weights: `[N]` of the three distillation terms; None is 1.
            gold_weights: `[N]` of the student's cross-entropy; None leaves it out.
            statistics: also give likeliest tokens and entropies.
        """
        weights = torch.ones_like(gold_ids, dtype=torch.float32) if weights is None else weights
        in_student = _project(self.teacher_to_student, teacher.hidden.detach(), student)
        in_teacher = _project(self.student_to_teacher, student.hidden, teacher)
        terms = student_terms(divergence, temperature, gold_ids, weights, gold_weights)
        return two_spaces(
            student,
            teacher,
            in_student=in_student,
            in_teacher=in_teacher,
            terms=dataclasses.replace(terms, statistics=statistics),
            teacher_weights=weights,
        )


class CrossModelAttention(nn.Module):
    """DSKD for different vocabularies: attention aligns the target positions of the two token sequences.

    ```text
    Q = P_q([e_in; e_tgt] of the student, sg)        K = N([e_in; e_tgt] of the teacher)
    V_t = P_t2s(N(h_t) + N(e_tgt of the teacher))    V_s = P_s2t(h_s)        A = Q Kᵀ / √(width of K)
    h_t→s = softmax(A) V_t                           h_s→t = softmax(Aᵀ) V_s
    ```

    N(x) = x / std(x) over one example's target positions, in float32, so that no value depends on how a batch was
    cut. `published` takes the authors' own deviations in their place (`Deviations`): over the whole padded batch,
    prompt and padding too. Where the teacher's embeddings are not as wide as its hidden states, N(e_tgt) gets a
    projection of its own.

    Args:
        student_width: d.
        teacher_width: D.
        student_embedding_width: d_e.
        teacher_embedding_width: D_e.
        published: divide by `TokenViews.deviations` of the teacher.
    """

    def __init__(
        self,
        student_width: int,
        teacher_width: int,
        student_embedding_width: int,
        teacher_embedding_width: int,
        *,
        published: bool = False,
    ) -> None:
        super().__init__()
        self.teacher_to_student = nn.Linear(teacher_width, student_width)
        self.student_to_teacher = nn.Linear(student_width, teacher_width)
        self.query = nn.Linear(2 * student_embedding_width, 2 * teacher_embedding_width)
        self.embedding_to_student = None
        if teacher_embedding_width != teacher_width:
            self.embedding_to_student = nn.Linear(teacher_embedding_width, student_width, bias=False)
        self.published = published

    def forward(self, *arguments, **options) -> DualSpaceLosses:
        """The losses of `passes`, whose arguments it takes."""
        return dual_space_losses(run_passes(self.passes(*arguments, **options)))

    def passes(
        self,
        student: TokenViews,
        teacher: TokenViews,
        gold_ids: Tensor,
        *,
        divergence: str | Divergence = "forward_kl",
        temperature: float = 2.0,
        weights: Tensor | None = None,
        teacher_weights: Tensor | None = None,
        gold_weights: Tensor | None = None,
        statistics: bool = False,
    ) -> Passes:
        """Σ weights (right · L_stu + L_proj) + Σ teacher_weights L_tea + Σ gold_weights CE.

        `right` is 1 where the likeliest token of z_t→s is gold. `gold_ids`, `weights` and `gold_weights` go over the
        student's `[S]` target tokens, `teacher_weights` over the teacher's `[T]`; else as in `DualSpace`.

        Raises:
            ValueError: the two sides have different numbers of examples, lengths that do not add up, or no deviations
                where `published` needs them.
        """
        weights = torch.ones_like(gold_ids, dtype=torch.float32) if weights is None else weights
        aligned_teacher, aligned_student = self.align(student, teacher)
        terms = student_terms(divergence, temperature, gold_ids, weights, gold_weights)
        return two_spaces(
            student.states,
            teacher.states,
            in_student=student.states.with_hidden(aligned_teacher),
            in_teacher=teacher.states.with_hidden(aligned_student),
            terms=dataclasses.replace(terms, only_where_teacher_right=True, statistics=statistics),
            teacher_weights=teacher_weights,
            by_teacher=True,
        )

    def align(self, student: TokenViews, teacher: TokenViews) -> tuple[Tensor, Tensor]:
        """h_t→s `[S, d]` and h_s→t `[T, D]`, each example attending within itself."""
        _check_lengths(student, teacher)
        dtype = self.query.weight.dtype
        exact = torch.promote_types(dtype, torch.float32)
        query = self.query(torch.cat([student.inputs, student.targets], -1).detach().to(dtype))
        key, hidden, embedded = self._normalised(teacher)
        if self.embedding_to_student is None:
            teacher_values = self.teacher_to_student(hidden + embedded)
        else:
            teacher_values = self.teacher_to_student(hidden) + self.embedding_to_student(embedded)
        student_values = self.student_to_teacher(student.states.hidden.to(dtype))
        to_student, to_teacher = [], []
        pairs = zip(
            *(x.split(list(student.lengths)) for x in (query, student_values)),
            *(x.split(list(teacher.lengths)) for x in (key, teacher_values)),
            strict=True,
        )
        for row_query, row_student, row_key, row_teacher in pairs:
            scores = (row_query.to(exact) @ row_key.to(exact).t()) / row_key.shape[1] ** 0.5
            to_student.append(scores.softmax(-1).to(row_teacher.dtype) @ row_teacher)
            to_teacher.append(scores.t().softmax(-1).to(row_student.dtype) @ row_student)
        return torch.cat(to_student), torch.cat(to_teacher)

    def _normalised(self, teacher: TokenViews) -> tuple[Tensor, Tensor, Tensor]:
        """N([e_in; e_tgt]), N(h_t) and N(e_tgt) of the teacher."""
        keys = torch.cat([teacher.inputs, teacher.targets], -1)
        values, deviations = (keys, teacher.states.hidden, teacher.targets), teacher.deviations
        if not self.published:
            key, hidden, embedded = (self._by_example(value, teacher.lengths) for value in values)
            return key, hidden, embedded
        if deviations is None:
            raise ValueError("the published deviations go over the whole padded batch: give TokenViews.deviations")
        divisors = deviations.keys, deviations.hidden, deviations.targets
        key, hidden, embedded = (
            (value.detach().float() / divisor.clamp_min(1e-12)).to(self.query.weight.dtype)
            for value, divisor in zip(values, divisors, strict=True)
        )
        return key, hidden, embedded

    def _by_example(self, values: Tensor, lengths: Sequence[int]) -> Tensor:
        pieces = values.detach().float().split(list(lengths))
        scaled = [piece / piece.std().clamp_min(1e-12) if piece.numel() > 1 else piece for piece in pieces]
        return torch.cat(scaled).to(self.query.weight.dtype)


def two_spaces(
    student: HeadStates,
    teacher: HeadStates,
    *,
    in_student: HeadStates,
    in_teacher: HeadStates,
    terms: HeadTerms,
    teacher_weights: Tensor | None,
    by_teacher: bool = False,
) -> Passes:
    """The pass in the student's space and that in the teacher's."""
    near = {"gold": "gold", "divergence": "student_space", "teacher_gold": "projection"}
    yield Pass(student, in_student, terms, near)
    backward = HeadTerms(forward_kl, temperature=terms.temperature, token_weights=teacher_weights)
    yield Pass(in_teacher, teacher.constant(), backward, {"divergence": "teacher_space"}, by_teacher=by_teacher)


def dual_space_losses(steps: Sequence[tuple[Pass, HeadLosses]]) -> DualSpaceLosses:
    """What the passes in both spaces come to, in whatever order they ran."""
    by_space = {name: losses for step, losses in steps for name in step.names.values()}
    sums = {}
    for step, losses in steps:
        sums |= weighted_sums(step, losses)
    student_space, teacher_space = by_space["student_space"], by_space["teacher_space"]
    return DualSpaceLosses(student_space.total + teacher_space.total, sums, student_space, teacher_space)


def student_terms(
    function: str | Divergence, temperature: float, gold_ids: Tensor, weights: Tensor, gold_weights: Tensor | None
) -> HeadTerms:
    """What is computed in the student's space."""
    return HeadTerms(
        divergence=divergence(function) if isinstance(function, str) else function,
        temperature=temperature,
        token_weights=weights,
        gold_ids=gold_ids,
        gold_weights=gold_weights,
        teacher_gold_weights=weights,
    )


def _project(projector: nn.Linear, hidden: Tensor, target: HeadStates) -> HeadStates:
    return target.with_hidden(projector(hidden.to(projector.weight.dtype)))


def _check_lengths(student: TokenViews, teacher: TokenViews) -> None:
    if len(student.lengths) != len(teacher.lengths):
        raise ValueError(f"student has {len(student.lengths)} examples, teacher {len(teacher.lengths)}")
    for side, views in (("student", student), ("teacher", teacher)):
        if sum(views.lengths) != views.states.hidden.shape[0]:
            raise ValueError(f"{side} lengths add up to {sum(views.lengths)}, not {views.states.hidden.shape[0]}")
