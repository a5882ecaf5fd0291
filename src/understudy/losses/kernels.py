"""Value and gradient of each named divergence on a block of logits, in place.

A kernel gets a `Block` and returns the values `[R]`. Where the block wants a gradient, it leaves ∂value/∂z of the
student's logits in `block.student`, divided by the number that `Kernel.factor` gives, so that a constant costs no
pass over `[R, V]`. `block.teacher`, `block.p` and `block.spare` may be overwritten; `block.q` stays.

With z the student's logits and q their softmax, any value f(q) has ∂f/∂z = q ∘ (g − Σ q g), g = ∂f/∂q; whatever is
constant over a row of g cancels.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from understudy.losses import divergences
from understudy.losses.divergences import head_weight, teacher_head


@dataclass(slots=True)
class Block:
    """Some rows of both heads' logits with their softmax; all `[R, V]` but the log-sums `[R]`.

    `missing` `[V]` marks columns that one side lacks; None: neither does.
    """

    student: Tensor
    teacher: Tensor
    q: Tensor
    p: Tensor
    student_lse: Tensor
    teacher_lse: Tensor
    spare: Tensor
    wants_gradient: bool = False
    missing: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Kernel:
    """How to compute a divergence on a block, and the constant that its gradient still lacks."""

    run: Callable[[Block], Tensor]
    factor: float = 1.0


def kernel_of(divergence: Callable[..., Tensor]) -> Kernel | None:
    """The in-place kernel of a divergence, or None for a callable that has none (the user's own)."""
    function, parameters = divergence, {}
    if isinstance(divergence, functools.partial) and not divergence.args:
        function, parameters = divergence.func, divergence.keywords
    build = _BUILD.get(function)
    return build(**parameters) if build else None


def _forward_kl(block: Block) -> Tensor:
    gap = block.teacher.sub_(block.student)
    value = gap.mul_(block.p).sum(-1) - block.teacher_lse + block.student_lse
    if block.wants_gradient:
        torch.sub(block.q, block.p, out=block.student)
    return value


def _reverse_kl(block: Block) -> Tensor:
    ratio = block.student.sub_(block.teacher)
    mean = torch.mul(block.q, ratio, out=block.teacher).sum(-1)
    if block.wants_gradient:
        ratio.sub_(mean[:, None]).mul_(block.q)
    return mean - block.student_lse + block.teacher_lse


def _generalized_js(block: Block, beta: float) -> Tensor:
    log_mixture = _floored(torch.lerp(block.q, block.p, beta, out=block.spare)).log_()
    teacher = block.teacher.sub_(log_mixture).mul_(block.p).sum(-1) - block.teacher_lse
    ratio = block.student.sub_(log_mixture)
    mean = torch.mul(block.q, ratio, out=block.teacher).sum(-1)
    if block.wants_gradient:
        ratio.sub_(mean[:, None]).mul_(block.q)
    return beta * teacher + (1 - beta) * (mean - block.student_lse)


def _skew_forward_kl(block: Block, skew: float) -> Tensor:
    mixture = _floored(torch.lerp(block.q, block.p, skew, out=block.spare))
    log_mixture = torch.log(mixture, out=block.student)
    value = block.teacher.sub_(log_mixture).mul_(block.p).sum(-1) - block.teacher_lse
    if block.wants_gradient:
        _through_softmax(block, torch.div(block.p, mixture, out=block.student))
    return value


def _skew_reverse_kl(block: Block, skew: float) -> Tensor:
    mixture = _floored(torch.lerp(block.p, block.q, skew, out=block.spare))
    ratio = block.student.sub_(torch.log(mixture, out=block.teacher))
    value = torch.mul(block.q, ratio, out=block.teacher).sum(-1) - block.student_lse
    if block.wants_gradient:
        share = torch.div(block.q, mixture, out=block.teacher)
        _through_softmax(block, ratio.sub_(share, alpha=skew))
    return value


def _total_variation(block: Block) -> Tensor:
    gap = torch.sub(block.q, block.p, out=block.teacher)
    sign = torch.sign(gap, out=block.student)
    value = 0.5 * gap.mul_(sign).sum(-1)
    if block.wants_gradient:
        _through_softmax(block, sign)
    return value


def _adaptive_kl(block: Block, head_mass: float) -> Tensor:
    gap = torch.sub(block.q, block.p, out=block.spare).abs_()
    weight = head_weight(gap, teacher_head(block.p, head_mass))
    ratio = block.student.sub_(block.teacher)
    forward = block.student_lse - block.teacher_lse - torch.mul(block.p, ratio, out=block.spare).sum(-1)
    mean = torch.mul(block.q, ratio, out=block.spare).sum(-1)
    reverse = mean - block.student_lse + block.teacher_lse
    if block.wants_gradient:
        rest = 1 - weight
        gradient = ratio.mul_(rest[:, None]).add_((weight - rest * mean)[:, None]).mul_(block.q)
        gradient.sub_(block.p.mul_(weight[:, None]))
    return weight * forward + (1 - weight) * reverse


def _through_softmax(block: Block, gradient: Tensor) -> None:
    """`gradient` (in `block.student`) ← q ∘ (gradient − Σ q gradient); `block.teacher` is used up."""
    mean = torch.mul(block.q, gradient, out=block.teacher).sum(-1, keepdim=True)
    gradient.sub_(mean).mul_(block.q)


def _floored(mixture: Tensor) -> Tensor:
    """Keep log(0) out of a sum in which its weight is 0."""
    return mixture.clamp_min_(torch.finfo(mixture.dtype).tiny)


def _build_generalized_js(beta: float = 0.5) -> Kernel:
    if beta in (0, 1):
        return Kernel(_forward_kl if beta == 0 else _reverse_kl)
    return Kernel(functools.partial(_generalized_js, beta=beta), 1 - beta)


def _build_skew_forward_kl(skew: float = 0.1) -> Kernel:
    if skew == 0:
        return Kernel(_forward_kl)
    return Kernel(functools.partial(_skew_forward_kl, skew=skew), skew - 1)


def _build_skew_reverse_kl(skew: float = 0.1) -> Kernel:
    return Kernel(_reverse_kl) if skew == 0 else Kernel(functools.partial(_skew_reverse_kl, skew=skew))


_BUILD: dict[Callable[..., Tensor], Callable[..., Kernel]] = {
    divergences.forward_kl: lambda: Kernel(_forward_kl),
    divergences.reverse_kl: lambda: Kernel(_reverse_kl),
    divergences.js: _build_generalized_js,
    divergences.generalized_js: _build_generalized_js,
    divergences.skew_forward_kl: _build_skew_forward_kl,
    divergences.skew_reverse_kl: _build_skew_reverse_kl,
    divergences.adaptive_kl: lambda head_mass=0.5: Kernel(functools.partial(_adaptive_kl, head_mass=head_mass)),
    divergences.total_variation: lambda: Kernel(_total_variation, 0.5),
}
