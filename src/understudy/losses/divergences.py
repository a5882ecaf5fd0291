"""Divergences between two distributions over a vocabulary, token by token.

A divergence is a callable `(student_logp, teacher_logp) -> value`: natural log-probabilities `[N, V]` to `[N]` in
nats. It knows no temperature, mask, weight or model. Below, p is the teacher's distribution and q the student's.

A column at −∞ carries no probability (0 · log 0 = 0). Where a divergence is infinite, because one side gives
probability to a column that the other rules out, the value is +∞ and the gradient is that of the finite part,
never NaN.
"""

from __future__ import annotations

import functools
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from understudy.errors import ConfigError, unknown
from understudy.extensions import claim

Divergence = Callable[[Tensor, Tensor], Tensor]
_Function = TypeVar("_Function", bound=Callable[..., Tensor])


@dataclass(frozen=True, slots=True)
class Traits:
    """What a divergence allows a teacher to be. Unknown is False.

    Attributes:
        linear_in_teacher: D(q, E p̂) = E D(q, p̂) up to a term without q, so that sampled targets p̂ give the right
            gradient on average.
        takes_tail: tokens may be put into one bucket: the value falls or stays, and stays where both sides agree on
            the proportions within it. So a teacher may tell its likeliest tokens and the sum of the rest.
    """

    linear_in_teacher: bool = False
    takes_tail: bool = False


_TRAITS: dict[Callable[..., Tensor], Traits] = {}


def declare(*, linear_in_teacher: bool = False, takes_tail: bool = False) -> Callable[[_Function], _Function]:
    """Say beside a divergence what it allows, see `Traits`; whatever its parameters are."""

    def keep(function: _Function) -> _Function:
        _TRAITS[function] = Traits(linear_in_teacher, takes_tail)
        return function

    return keep


def traits(divergence: Callable[..., Tensor]) -> Traits:
    """What a divergence allows, with or without parameters set; nothing for one that declares nothing."""
    return _TRAITS.get(getattr(divergence, "func", divergence), Traits())


@declare(linear_in_teacher=True, takes_tail=True)
def forward_kl(student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
    """KL(p‖q) = Σ p (log p − log q): the student covers whatever the teacher may say."""
    return _kl(teacher_logp, student_logp)


@declare(takes_tail=True)
def reverse_kl(student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
    """KL(q‖p) = Σ q (log q − log p): the student stays where the teacher is likely."""
    return _kl(student_logp, teacher_logp)


@declare(takes_tail=True)
def js(student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
    """Jensen–Shannon: ½ KL(p‖m) + ½ KL(q‖m), m = ½ (p + q); symmetric, at most log 2."""
    return generalized_js(student_logp, teacher_logp, beta=0.5)


@declare(takes_tail=True)
def generalized_js(student_logp: Tensor, teacher_logp: Tensor, *, beta: float = 0.5) -> Tensor:
    """β KL(p‖m) + (1−β) KL(q‖m) with m = β p + (1−β) q (GKD, arXiv 2306.13649).

    By convention β = 0 is forward KL and β = 1 reverse KL, the limits of the formula divided by β and 1−β.
    """
    if beta == 0:
        return forward_kl(student_logp, teacher_logp)
    if beta == 1:
        return reverse_kl(student_logp, teacher_logp)
    mixture = _log_mixture(teacher_logp, student_logp, beta)
    return beta * _kl(teacher_logp, mixture) + (1 - beta) * _kl(student_logp, mixture)


@declare(takes_tail=True)
def skew_forward_kl(student_logp: Tensor, teacher_logp: Tensor, *, skew: float = 0.1) -> Tensor:
    """KL(p‖ skew·p + (1−skew)·q) (DistiLLM, arXiv 2402.03898); skew = 0 is forward KL."""
    return _kl(teacher_logp, _log_mixture(teacher_logp, student_logp, skew))


@declare(takes_tail=True)
def skew_reverse_kl(student_logp: Tensor, teacher_logp: Tensor, *, skew: float = 0.1) -> Tensor:
    """KL(q‖ skew·q + (1−skew)·p) (DistiLLM, arXiv 2402.03898); skew = 0 is reverse KL."""
    return _kl(student_logp, _log_mixture(student_logp, teacher_logp, skew))


@declare()
def adaptive_kl(student_logp: Tensor, teacher_logp: Tensor, *, head_mass: float = 0.5) -> Tensor:
    """g_h/(g_h+g_t) KL(p‖q) + g_t/(g_h+g_t) KL(q‖p) (AKL, arXiv 2404.02657).

    The head is the fewest tokens whose teacher mass reaches `head_mass`; g_h and g_t are Σ|p − q| over head and
    tail, taken without gradient. Where the two distributions agree (0/0) the weights are ½.
    """
    with torch.no_grad():
        p = teacher_logp.exp()
        gap = (p - student_logp.exp()).abs()
        weight = head_weight(gap, teacher_head(p, head_mass))
    return weight * forward_kl(student_logp, teacher_logp) + (1 - weight) * reverse_kl(student_logp, teacher_logp)


@declare(takes_tail=True)
def total_variation(student_logp: Tensor, teacher_logp: Tensor) -> Tensor:
    """½ Σ |p − q|, between 0 and 1."""
    return 0.5 * (teacher_logp.exp() - student_logp.exp()).abs().sum(-1)


DIVERGENCES: dict[str, Callable[..., Tensor]] = {
    "forward_kl": forward_kl,
    "reverse_kl": reverse_kl,
    "js": js,
    "generalized_js": generalized_js,
    "skew_forward_kl": skew_forward_kl,
    "skew_reverse_kl": skew_reverse_kl,
    "adaptive_kl": adaptive_kl,
    "total_variation": total_variation,
}

_SORT_ENTRIES = 1 << 18
_RANGES = {"beta": ("[0, 1]", 0.0, 1.0), "skew": ("[0, 1)", 0.0, math.nextafter(1.0, 0.0))}
_RANGES["head_mass"] = ("(0, 1)", math.nextafter(0.0, 1.0), math.nextafter(1.0, 0.0))


def divergence(name: str, **parameters: float) -> Divergence:
    """The divergence of that name with its parameters set.

    Raises:
        ConfigError: no such divergence, a parameter that it does not take, or a value out of range.
    """
    if name not in DIVERGENCES:
        raise unknown("divergence", name, DIVERGENCES)
    function = DIVERGENCES[name]
    known = list(inspect.signature(function).parameters)[2:]
    for key, value in parameters.items():
        if key not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ConfigError(f"divergence {name!r} has no parameter {key!r}", hint=takes)
        if function.__module__ == __name__:
            _check_range(name, key, value)
    return functools.partial(function, **parameters) if parameters else function


def register(name: str, function: Divergence) -> None:
    """Make `function` known as `name`, so that recipes can use it; they name its file in `extensions`.

    `function` maps `[N, V]` log-probabilities of student and teacher to `[N]` values. Row n may depend on row n
    alone, and it must be differentiable in its first argument.

    Raises:
        ConfigError: the name is taken.
    """
    claim("divergence", name, DIVERGENCES)
    DIVERGENCES[name] = function


def teacher_head(p: Tensor, head_mass: float) -> Tensor:
    """The fewest columns whose probability reaches `head_mass`, `[N, V]` bool; of equals the first ones enter."""
    if p.numel() == 0:
        return torch.zeros_like(p, dtype=torch.bool)
    # Sorting needs several copies, so on a CPU it takes a few rows at a time.
    rows = max(1, _SORT_ENTRIES // p.shape[1]) if p.device.type == "cpu" else len(p)
    return torch.cat([_head(piece, head_mass) for piece in p.split(rows)])


def _head(p: Tensor, head_mass: float) -> Tensor:
    ordered = _descending(p)
    before = ordered.cumsum(-1).sub_(ordered)
    size = (before < head_mass).sum(-1, keepdim=True).clamp_min(1)
    threshold = ordered.gather(-1, size - 1)
    head = p >= threshold
    if bool((head.sum(-1, keepdim=True) > size).any()):
        tied = p == threshold
        room = size - (p > threshold).sum(-1, keepdim=True)
        head &= ~tied | (tied.cumsum(-1) <= room)
    return head


def head_weight(gap: Tensor, head: Tensor) -> Tensor:
    """g_h/(g_h+g_t) `[N]` from the gaps, which are used up, and the head, both `[N, V]`; ½ where there is no gap."""
    whole = gap.sum(-1)
    share = gap.mul_(head).sum(-1) / whole
    return torch.where(whole > 0, share, 0.5)


def _descending(p: Tensor) -> Tensor:
    if p.device.type != "cpu" or p.dtype not in (torch.float32, torch.float64):
        return p.sort(-1, descending=True).values
    # NumPy sorts plain values with vector instructions, some fifteen times faster than torch on a CPU.
    negated = (-p.detach()).numpy()
    negated.sort(-1, kind=None)
    return torch.from_numpy(np.negative(negated, out=negated))


def _kl(logp: Tensor, logq: Tensor) -> Tensor:
    """Σ exp(logp) (logp − logq) with 0 · log 0 = 0 and no NaN in the gradient."""
    absent = logp == -math.inf
    unreachable = (logq == -math.inf) & ~absent
    hole = absent | unreachable
    logp, logq = logp.masked_fill(hole, 0.0), logq.masked_fill(hole, 0.0)
    value = (logp.exp() * (logp - logq)).sum(-1)
    return value + torch.zeros_like(value).masked_fill(unreachable.any(-1), math.inf)


def _log_mixture(logp: Tensor, logq: Tensor, share: float) -> Tensor:
    """log(share·p + (1−share)·q); 0, to be left out of every sum, where both are −∞."""
    if share == 0:
        return logq
    nowhere = (logp == -math.inf) & (logq == -math.inf)
    logp, logq = logp.masked_fill(nowhere, 0.0), logq.masked_fill(nowhere, 0.0)
    return torch.logaddexp(logp + math.log(share), logq + math.log1p(-share))


def _check_range(name: str, key: str, value: float) -> None:
    interval, low, high = _RANGES[key]
    if not low <= value <= high:
        raise ConfigError(f"divergence {name!r}: {key} must lie in {interval}, not {value}")
