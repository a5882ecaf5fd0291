"""Losses on top of two output heads without ever holding `[tokens, vocabulary]`.

Tokens pass in chunks. Each chunk's logits are computed once per side, and the gradients with respect to hidden
states, weight and bias are taken in the forward pass, so that the backward pass only scales them. One pass serves
the divergence, gold cross-entropy on either side, and the statistics that masks and metrics need.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from understudy.losses.divergences import divergence as by_name
from understudy.losses.fused_pass import HeadPass
from understudy.losses.heads import Head, HeadStates
from understudy.losses.requests import HeadTerms, WantedGradients
from understudy.losses.sides import LearningSource, LogitSource


@dataclass(frozen=True, slots=True)
class HeadLosses:
    """What one pass over the heads gives. `[N]` values are per token, unweighted, in nats and without gradient.

    Where the teacher speaks of the first M tokens only (`HeadTerms.partial`), its own values are `[M]`.

    Attributes:
        total: the weighted sum of all terms, a scalar; the only part that carries a gradient.
        divergence: divergence of student from teacher at the temperature.
        gold: the student's cross-entropy on `gold_ids` at temperature 1 over its whole vocabulary.
        teacher_gold: the same of the teacher.
        teacher_right: bool; whether no logit of the teacher exceeds that of the gold token.
        student_argmax: the student's likeliest token.
        teacher_argmax: the teacher's likeliest token.
        student_entropy: entropy of the student at temperature 1.
        teacher_entropy: entropy of the teacher at temperature 1.
        teacher_shared: probability that the teacher puts on `HeadTerms.shared_columns` at temperature 1.
    """

    total: Tensor
    divergence: Tensor | None = None
    gold: Tensor | None = None
    teacher_gold: Tensor | None = None
    teacher_right: Tensor | None = None
    student_argmax: Tensor | None = None
    teacher_argmax: Tensor | None = None
    student_entropy: Tensor | None = None
    teacher_entropy: Tensor | None = None
    teacher_shared: Tensor | None = None

    @property
    def agreement(self) -> Tensor | None:
        """Whether both sides' likeliest tokens are the same, `[N]` bool; None without statistics."""
        if self.student_argmax is None or self.teacher_argmax is None:
            return None
        return self.student_argmax[: len(self.teacher_argmax)] == self.teacher_argmax


_VALUES = ("divergence", "gold", "teacher_gold", "teacher_right", "student_argmax", "teacher_argmax")
_VALUES += ("student_entropy", "teacher_entropy", "teacher_shared")


def lm_head_divergence(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    *,
    divergence: str | Callable[[Tensor, Tensor], Tensor] = "forward_kl",
    temperature: float = 1.0,
    token_weights: Tensor | None = None,
    **options,
) -> tuple[Tensor, Tensor]:
    """The divergence of a student's head from a teacher's: `(weighted sum, per-token values [N])`.

    The weighted sum carries the gradient; with `gold_ids` and `gold_weights` it includes gold cross-entropy.
    `options` and everything else are those of `fused_head`.
    """
    losses = fused_head(
        student_hidden,
        student_weight,
        teacher_hidden,
        teacher_weight,
        divergence=divergence,
        temperature=temperature,
        token_weights=token_weights,
        **options,
    )
    assert losses.divergence is not None
    return losses.total, losses.divergence


def fused_head(
    student_hidden: Tensor,
    student_weight: Tensor,
    teacher_hidden: Tensor | None = None,
    teacher_weight: Tensor | None = None,
    *,
    divergence: str | Callable[[Tensor, Tensor], Tensor] = "forward_kl",
    temperature: float = 1.0,
    token_weights: Tensor | None = None,
    student_bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    student_softcap: float | None = None,
    teacher_softcap: float | None = None,
    student_scale: float = 1.0,
    teacher_scale: float = 1.0,
    gold_ids: Tensor | None = None,
    gold_weights: Tensor | None = None,
    teacher_gold_weights: Tensor | None = None,
    only_where_teacher_right: bool = False,
    statistics: bool = False,
    chunk_tokens: int | None = None,
) -> HeadLosses:
    """Σ_n w_n D(q_n, p_n) + Σ_n g_n CE(student, gold_n) + Σ_n t_n CE(teacher, gold_n), in one pass.

    Logits are `softcap · tanh(scale · (h Wᵀ + b) / softcap)`, without the cap where it is None. `temperature` divides
    both sides' logits in D and adds no τ²; cross-entropies stand at temperature 1. The divergence treats the
    teacher as a constant: gradients reach `student_hidden`, `student_weight` and `student_bias`, and
    `teacher_hidden` by its own cross-entropy alone. What needs no gradient costs no matrix product.

    Columns that one side lacks (a narrower head, a bias of −∞) are dropped from D before its log-softmax; the
    cross-entropies keep each side's whole vocabulary.

    Args:
        student_hidden: `[N, d]`.
        student_weight: `[V_s, d]`.
        teacher_hidden: `[N, D]`; None for cross-entropy alone.
        teacher_weight: `[V_t, D]`.
        divergence: a name, the outcome of `divergence(name, …)`, or any `(student_logp, teacher_logp) -> [N]`.
        temperature: τ.
        token_weights: w `[N]`; None is 1.
        student_bias: `[V_s]`.
        teacher_bias: `[V_t]`.
        student_softcap: the cap of the student's logits.
        teacher_softcap: the cap of the teacher's logits.
        student_scale: factor of the student's logits.
        teacher_scale: factor of the teacher's logits.
        gold_ids: `[N]` right tokens; a negative id counts nowhere.
        gold_weights: g `[N]`; None reports the cross-entropy and adds nothing.
        teacher_gold_weights: t `[N]`; None leaves the teacher's cross-entropy out.
        only_where_teacher_right: set w_n to 0 where some logit of the teacher exceeds that of the gold token.
        statistics: also give likeliest tokens and entropies; costs about one more softmax a side.
        chunk_tokens: tokens in a chunk; None chooses by vocabulary and device.

    Raises:
        ValueError: shapes that do not fit, or an option that lacks what it needs.
        ConfigError: an unknown divergence.
    """
    terms = HeadTerms(
        divergence=by_name(divergence) if isinstance(divergence, str) else divergence,
        temperature=float(temperature),
        token_weights=token_weights,
        gold_ids=gold_ids,
        gold_weights=gold_weights,
        teacher_gold_weights=teacher_gold_weights,
        only_where_teacher_right=only_where_teacher_right,
        statistics=statistics,
        chunk_tokens=chunk_tokens,
    )
    head = Head(student_weight, student_bias, student_softcap, float(student_scale))
    teacher = None
    if teacher_hidden is not None and teacher_weight is not None:
        other = Head(teacher_weight, teacher_bias, teacher_softcap, float(teacher_scale))
        teacher = HeadStates(teacher_hidden, other)
    elif teacher_hidden is not None or teacher_weight is not None:
        raise ValueError("teacher_hidden and teacher_weight go together")
    return head_losses(HeadStates(student_hidden, head), teacher, terms)


def head_losses(student: LearningSource, teacher: LogitSource | None, terms: HeadTerms) -> HeadLosses:
    """`fused_head` for callers that hold each side as one: `HeadStates`, or another source of logits."""
    _check(terms, student, teacher)
    states = teacher.hidden if isinstance(teacher, HeadStates) else None
    tensors = (*student.graph, states)
    total, *values = _FusedHead.apply(terms, student, teacher, torch.is_grad_enabled(), *tensors)  # type: ignore
    return HeadLosses(total, **dict(zip(_VALUES, values, strict=True)))


def gold_cross_entropy(
    hidden: Tensor,
    weight: Tensor,
    gold_ids: Tensor,
    *,
    weights: Tensor | None = None,
    bias: Tensor | None = None,
    softcap: float | None = None,
    scale: float = 1.0,
    chunk_tokens: int | None = None,
) -> tuple[Tensor, Tensor]:
    """−Σ_n weights_n log q_n(gold_n) without holding `[N, V]`: `(weighted sum, per-token values [N])`.

    Arguments are those of `fused_head`; `weights` None is 1.
    """
    weights = torch.ones_like(gold_ids, dtype=torch.float32) if weights is None else weights
    losses = fused_head(
        hidden,
        weight,
        student_bias=bias,
        student_softcap=softcap,
        student_scale=scale,
        gold_ids=gold_ids,
        gold_weights=weights,
        chunk_tokens=chunk_tokens,
    )
    assert losses.gold is not None
    return losses.total, losses.gold


class _FusedHead(torch.autograd.Function):
    """Takes every gradient in `forward`; `backward` scales them by the gradient of the total."""

    @staticmethod
    def forward(
        ctx,
        terms: HeadTerms,
        student: LearningSource,
        teacher: LogitSource | None,
        grad_enabled: bool,
        *tensors: Tensor | None,
    ):
        *of_student, of_teacher = (grad_enabled and need for need in ctx.needs_input_grad[4:])
        work = HeadPass(terms, student, teacher, WantedGradients(tuple(of_student), of_teacher))
        total = work.run()
        ctx.save_for_backward(*work.gradients)
        ctx.unit, ctx.dtypes = work.plan.unit, [None if tensor is None else tensor.dtype for tensor in tensors]
        values = [work.values.get(name) for name in _VALUES]
        ctx.mark_non_differentiable(*(value for value in values if value is not None))
        return (total, *values)

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient: Tensor, *_):
        factor = gradient if ctx.unit is None else gradient * ctx.unit
        keep, scaled = _keeps_graph(), []
        for saved, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True):
            if saved is None:
                scaled.append(None)
            else:
                # Unless somebody keeps the graph it is used up, and a second copy of a whole weight is saved.
                scaled.append((saved * factor if keep else saved.mul_(factor)).to(dtype))
        return (None, None, None, None, *scaled)


def _keeps_graph() -> bool:
    """Whether the running backward pass may be repeated; true where this torch does not tell."""
    bindings = getattr(torch._C, "_autograd", None)
    return getattr(bindings, "_get_current_graph_task_keep_graph", lambda: True)()


def _check(terms: HeadTerms, student: LearningSource, teacher: LogitSource | None) -> None:
    if terms.temperature <= 0:
        raise ValueError(f"temperature must be positive, not {terms.temperature}")
    if terms.chunk_tokens is not None and terms.chunk_tokens < 1:
        raise ValueError(f"chunk_tokens must be at least 1, not {terms.chunk_tokens}")
    num_tokens = student.tokens
    for name, states in (("student", student), ("teacher", teacher)):
        if isinstance(states, HeadStates):
            _check_head(name, states)
    num_teacher = num_tokens if teacher is None else teacher.tokens
    if num_teacher != num_tokens and not (terms.partial and num_teacher < num_tokens):
        raise ValueError(f"student has {num_tokens} tokens, teacher {num_teacher}; rows must be the same tokens")
    for name in ("gold_ids", "token_weights", "gold_weights", "teacher_gold_weights", "teacher_gold_ids"):
        extra, num = getattr(terms, name), num_teacher if name.startswith("teacher") else num_tokens
        if extra is not None and extra.shape != (num,):
            raise ValueError(f"{name} must be [{num}], not {tuple(extra.shape)}")
    of_teacher = terms.teacher_gold_weights is not None or terms.only_where_teacher_right
    without = terms.gold_ids is None and terms.teacher_gold_ids is None
    if (without and of_teacher) or (terms.gold_ids is None and terms.gold_weights is not None):
        raise ValueError("gold_weights, teacher_gold_weights and only_where_teacher_right need gold_ids")
    if teacher is None and of_teacher:
        raise ValueError("teacher_gold_weights and only_where_teacher_right need a teacher")
    if teacher is None and terms.gold_weights is None:
        raise ValueError("without a teacher there must be gold_ids and gold_weights")
    ids = terms.gold_ids
    # On a GPU this check would wait for the device.
    if ids is not None and ids.device.type == "cpu" and ids.numel() and int(ids.max()) >= student.columns:
        raise ValueError(f"gold id {int(ids.max())} lies outside the student's {student.columns} columns")


def _check_head(name: str, states: HeadStates) -> None:
    hidden, weight, bias = tuple(states.hidden.shape), tuple(states.head.weight.shape), states.head.bias
    if len(hidden) != 2 or len(weight) != 2 or hidden[1] != weight[1]:
        raise ValueError(f"{name}_hidden and {name}_weight must be [N, d] and [V, d], not {hidden} and {weight}")
    if bias is not None and tuple(bias.shape) != weight[:1]:
        raise ValueError(f"{name}_bias must be [{weight[0]}], not {tuple(bias.shape)}")
