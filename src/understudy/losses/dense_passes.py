"""The divergence or cross-entropy of a `Pass` by full logits and plain autograd, for every kind of comparison.

Like `losses.dense` this is written for reading and shares nothing with the fused passes but the description of what is
to be computed: across two vocabularies the columns are carried, sorted and merged here a second time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from understudy.losses.crossvocab import SpanMerge
from understudy.losses.dense import dense_head, head_logits
from understudy.losses.fused import HeadLosses
from understudy.losses.heads import HeadStates
from understudy.losses.logit_comparisons import MappedColumns, SortedL1
from understudy.losses.passes import Pass
from understudy.losses.sides import LogitSource
from understudy.losses.sources import CandidateLogits, LogProbabilities


def dense(step: Pass) -> HeadLosses:
    """The losses of one part of a pass (`Pass.parts`); teacher and gold as constants.

    Of a whole pass only the likeliest tokens are right: its cross-entropies are left out where there is a teacher.
    """
    terms, q = step.terms, _logits(step.student)
    if step.teacher is None:
        return dense_head(q, gold_ids=terms.gold_ids, gold_weights=terms.gold_weights)
    p = _logits(step.teacher).detach()
    weights = torch.ones_like(q[:, 0]) if terms.token_weights is None else terms.token_weights
    student_tokens, teacher_tokens = _side_by_side(step)
    if step.merge is not None:
        return HeadLosses(_merged(q / terms.temperature, p / terms.temperature, step.merge, weights))
    if isinstance(terms.divergence, MappedColumns):
        return HeadLosses(_total(weights, _mapped(step, terms.divergence, q, p)))
    if isinstance(terms.divergence, SortedL1):
        both = ((x / terms.temperature).softmax(-1) for x in (q[student_tokens], p[teacher_tokens]))
        return HeadLosses(_total(weights[student_tokens], _by_rank(*both)))
    assert callable(terms.divergence)
    ids = terms.teacher_gold_ids
    if ids is None and terms.gold_ids is not None:
        ids = terms.gold_ids[student_tokens]
    return dense_head(
        q[student_tokens],
        p[teacher_tokens],
        divergence=terms.divergence,
        temperature=terms.temperature,
        token_weights=weights[student_tokens],
        gold_ids=ids,
        only_where_teacher_right=terms.only_where_teacher_right,
    )


def _logits(states: LogitSource) -> Tensor:
    if isinstance(states, CandidateLogits):
        return states.masked()
    if isinstance(states, LogProbabilities):
        return states.logp
    assert isinstance(states, HeadStates), "the dense side knows heads and candidates"
    head = states.head
    return head_logits(states.hidden, head.weight, head.bias, head.softcap, head.scale)


def _side_by_side(step: Pass) -> tuple[Tensor, Tensor]:
    """The student's tokens that have a teacher, and the teacher's beside them."""
    if step.pairs is not None:
        return step.pairs.student, step.pairs.teacher
    everything = torch.arange(step.student.tokens, device=step.student.device)
    return everything, everything


def _total(weights: Tensor, values: Tensor) -> Tensor:
    counted = weights != 0
    return (weights[counted] * values[counted]).sum()


def _mapped(step: Pass, compared: MappedColumns, q: Tensor, p: Tensor) -> Tensor:
    """MinED `[N]`: the teacher's largest logit for each of the student's columns, else all on the gold token."""
    student_tokens, teacher_tokens = _side_by_side(step)
    function: Callable[[Tensor, Tensor], Tensor] = compared.divergence
    gold, tau = step.terms.gold_ids, step.terms.temperature
    assert gold is not None
    target = torch.full_like(q, -1e5).detach()
    target[torch.arange(len(q), device=q.device), gold] = 0.0
    kept = ((compared.columns.nearest >= 0) & (compared.columns.nearest < q.shape[1])).nonzero()[:, 0]
    places = compared.columns.nearest[kept].expand(len(student_tokens), -1)
    carried = torch.full_like(q[student_tokens], -torch.inf).detach()
    carried = carried.scatter_reduce(1, places, p[teacher_tokens][:, kept].to(q.dtype), "amax")
    target[student_tokens] = carried.masked_fill(carried == -torch.inf, -1e5)
    return function((q / tau).log_softmax(-1), (target / tau).log_softmax(-1))


def _by_rank(q: Tensor, p: Tensor) -> Tensor:
    """Σ_i |q_(i) − p_(i)| over the last axis, the shorter side filled up with 0 (ULD)."""
    width = max(q.shape[-1], p.shape[-1])
    ordered = []
    for values in (q, p):
        filled = torch.cat([values, values.new_zeros(*values.shape[:-1], width - values.shape[-1])], -1)
        ordered.append(filled.sort(-1, descending=True).values)
    return (ordered[0] - ordered[1]).abs().sum(-1)


def _merged(q: Tensor, p: Tensor, merge: SpanMerge, weights: Tensor) -> Tensor:
    """GOLD, group by group: probabilities multiplied, then the shared tokens compared, and the rest by rank."""
    groups, log_q, log_p = merge.groups, q.log_softmax(-1), p.log_softmax(-1)
    total = log_q.new_zeros(())
    for n, partner in enumerate(groups.partners.tolist()):
        if partner < 0 or float(weights[n]) == 0:
            continue
        student_members = [k for k in (groups.student == n).nonzero()[:, 0].tolist() if k != n]
        teacher_members = [k for k in (groups.teacher == n).nonzero()[:, 0].tolist() if k != partner]
        merged_q = log_q[n] + sum((log_q[k, groups.student_ids[k]] for k in student_members), total.new_zeros(()))
        merged_p = log_p[partner] + sum((log_p[k, groups.teacher_ids[k]] for k in teacher_members), total.new_zeros(()))
        total = total + weights[n] * _merged_group(merged_q, merged_p, merge)
    return total


def _merged_group(log_q: Tensor, log_p: Tensor, merge: SpanMerge) -> Tensor:
    """W · generalised JS of the shared tokens + (1 − w) · sorted L1 of the others, of one group."""
    shared = log_q[merge.columns[0]], log_p[merge.columns[1]]
    rest = []
    for values, columns in zip((log_q, log_p), merge.columns, strict=True):
        others = torch.ones_like(values, dtype=torch.bool)
        others[columns] = False
        rest.append(values[others].exp())
    q, p, beta = shared[0].exp(), shared[1].exp(), merge.beta
    if beta == 0:
        value = (p * (shared[1] - shared[0])).sum()
    elif beta == 1:
        value = (q * (shared[0] - shared[1])).sum()
    else:
        m = (beta * p + (1 - beta) * q).clamp_min(torch.finfo(q.dtype).tiny).log()
        value = beta * (p * (shared[1] - m)).sum() + (1 - beta) * (q * (shared[0] - m)).sum()
    return merge.weight * value + (1 - merge.weight) * _by_rank(*rest)
