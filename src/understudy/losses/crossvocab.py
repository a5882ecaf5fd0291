"""Losses across two vocabularies, where an alignment says which target tokens of the two models belong together.

All of them run through the pass that serves one vocabulary (`losses.fused_pass`): tokens with a partner come first, the
teacher speaks of these alone, and a `LogitComparison` says how two distributions over different columns are compared.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from understudy.losses.averaged import Averaged
from understudy.losses.divergences import forward_kl
from understudy.losses.fused import HeadLosses, head_losses
from understudy.losses.heads import HeadStates
from understudy.losses.logit_comparisons import MergedSpans
from understudy.losses.requests import HeadTerms
from understudy.losses.sides import LogitSource
from understudy.losses.sources import LogProbabilities


@dataclass(frozen=True)
class AlignedTokens:
    """Target tokens side by side.

    Attributes:
        order: `[N]` the student's tokens, those with a partner first; None where all stand so already.
        student: `[M]` the student's tokens that have a partner.
        teacher: `[M]` their partners.
    """

    order: Tensor | None
    student: Tensor
    teacher: Tensor

    @classmethod
    def of(cls, partners: Tensor) -> AlignedTokens:
        """From the partner of each of the student's tokens, `[N]`, −1 for none."""
        paired = partners >= 0
        student = paired.nonzero()[:, 0]
        order = None
        if len(student) < len(partners):
            order = torch.cat([student, (~paired).nonzero()[:, 0]])
        return cls(order, student, partners[student])

    def __len__(self) -> int:
        return len(self.student)

    def arranged(self, values: Tensor) -> Tensor:
        """`[N, …]` values of the student's tokens in the order of the pairs."""
        return values if self.order is None else values[self.order]


def paired_losses(student: HeadStates, teacher: LogitSource, pairs: AlignedTokens, terms: HeadTerms) -> HeadLosses:
    """`head_losses` of tokens that have a partner and of those that have none.

    A token without a partner has its gold cross-entropy and no divergence, unless the comparison says what stands for
    the teacher there. The result goes over the tokens in the order of the pairs; the teacher's values over the pairs.

    Args:
        student: hidden states `[N, d]` and head.
        teacher: hidden states `[N_t, D]` and head, or another source of its logits.
        pairs: who belongs to whom.
        terms: `[N]` tensors in the student's own order; what concerns the teacher over the pairs.
    """
    ordered = {}
    for name in ("token_weights", "gold_ids", "gold_weights"):
        values = getattr(terms, name)
        ordered[name] = None if values is None else pairs.arranged(values)
    terms = dataclasses.replace(terms, partial=True, **ordered)
    student = HeadStates(pairs.arranged(student.hidden), student.head)
    return head_losses(student, teacher.rows(pairs.teacher), terms)


@dataclass(frozen=True)
class TokenSpans:
    """Token groups that write the same bytes on both sides.

    Attributes:
        partners: `[N_s]` the teacher's token beside the one token of the student that stands for its group; else −1.
        student: `[N_s]` that token, for each token of a group; −1 outside.
        teacher: `[N_t]` that token of the *student*, for each of the teacher's tokens of a group.
        student_ids: `[N_s]` the student's target tokens.
        teacher_ids: `[N_t]` the teacher's.
    """

    partners: Tensor
    student: Tensor
    teacher: Tensor
    student_ids: Tensor
    teacher_ids: Tensor


@dataclass(frozen=True, slots=True)
class SpanMerge:
    """How the probabilities of token groups are merged and compared.

    Attributes:
        groups: which tokens go together.
        columns: `[2, K]` the shared tokens, the student's columns and the teacher's.
        beta: β of the generalised Jensen–Shannon divergence.
        weight: share of the shared tokens in D.
    """

    groups: TokenSpans
    columns: Tensor
    beta: float = 0.5
    weight: float = 1.0


def merged_losses(
    student: HeadStates, teacher: HeadStates | LogProbabilities | Averaged, merge: SpanMerge, terms: HeadTerms
) -> HeadLosses:
    """Σ_groups w_n D(merged student, merged teacher) + Σ_n g_n CE, with D as in `MergedSpans` (GOLD).

    The merged probability of a group's token v is q(v) at the token that stands for the group, times the
    probabilities of the target tokens of the rest of the group; all at the temperature.

    Args:
        student: hidden states `[N_s, d]` and head.
        teacher: hidden states `[N_t, D]` and head, stored log-probabilities, or a mean; constants.
        merge: the groups and how they are compared.
        terms: weights and gold; its divergence is not looked at.
    """
    groups = merge.groups
    pairs = AlignedTokens.of(groups.partners)
    place = torch.full_like(groups.partners, -1)
    place[pairs.student] = torch.arange(len(pairs), device=place.device)
    student_rows, teacher_rows = _others(groups)
    student_places, teacher_places = place[groups.student[student_rows]], place[groups.teacher[teacher_rows]]
    tau = terms.temperature
    student_states = student.tempered(tau).rows(student_rows)
    teacher_states = teacher.constant().tempered(tau).rows(teacher_rows)
    with torch.no_grad():
        offsets = (
            _offsets(student_states, groups.student_ids[student_rows], student_places, len(pairs)),
            _offsets(teacher_states, groups.teacher_ids[teacher_rows], teacher_places, len(pairs)),
        )
    widths = student.columns, teacher.columns
    merged = MergedSpans(merge.columns, widths, offsets, beta=merge.beta, weight=merge.weight)
    losses = paired_losses(student, teacher, pairs, dataclasses.replace(terms, divergence=merged))
    if not len(student_rows):
        return losses
    # The offsets entered as constants; what they pass on to the tokens behind them is linear in their slopes.
    slopes = merged.slopes if terms.token_weights is None else merged.slopes * terms.token_weights[pairs.student]
    rest = head_losses(
        student_states,
        None,
        HeadTerms(
            forward_kl,
            gold_ids=groups.student_ids[student_rows],
            gold_weights=-slopes[student_places].to(offsets[0].dtype),
        ),
    )
    return dataclasses.replace(losses, total=losses.total + (rest.total - rest.total.detach()))


def _others(groups: TokenSpans) -> tuple[Tensor, Tensor]:
    """The tokens of groups, student's and teacher's, that do not stand for their group."""
    positions = torch.arange(len(groups.student), device=groups.student.device)
    student_others = (groups.student >= 0) & (groups.student != positions)
    beside = groups.partners[groups.teacher.clamp_min(0)]
    teacher_others = (groups.teacher >= 0) & (beside != torch.arange(len(beside), device=beside.device))
    return student_others.nonzero()[:, 0], teacher_others.nonzero()[:, 0]


def _offsets(head: HeadStates | LogProbabilities | Averaged, ids: Tensor, places: Tensor, count: int) -> Tensor:
    """Log-probability of some target tokens, added up at the pair of their group, `[count]`."""
    exact = torch.promote_types(head.dtype, torch.float32)
    sums = torch.zeros(count, dtype=exact, device=head.device)
    if len(ids):
        zeros = torch.zeros_like(ids, dtype=exact)
        gold = head_losses(head, None, HeadTerms(forward_kl, gold_ids=ids, gold_weights=zeros)).gold
        assert gold is not None
        sums.index_add_(0, places, -gold.to(exact))
    return sums
