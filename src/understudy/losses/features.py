"""Distances between inner states of two models over one text. One value a text, so that nothing depends on a batch.

Legend: `M` texts, `S` positions, `d` width of the student, `D` of the teacher, `A` heads. `mask` `[M, S]` says which
positions are there; what stands elsewhere does not count.
"""

from __future__ import annotations

import torch
from torch import Tensor


def mse(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """`[M]`: (1 / S·d) Σ (h − h′)² of a text (Romero et al., 2015; Jiao et al., 2020).

    Args:
        student: `[M, S, d]`, projected to the teacher's width.
        teacher: `[M, S, d]`.
        mask: `[M, S]`.
    """
    return _mean((_exact(student) - _exact(teacher)).square().mean(-1), mask)


def cosine(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """`[M]`: mean over positions of 1 − cos(h, h′) (Sanh et al., 2019); arguments as of `mse`."""
    return _mean(1 - torch.nn.functional.cosine_similarity(_exact(student), _exact(teacher), dim=-1), mask)


def cka(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """`[M]`: 1 − CKA of a text's positions, with a linear kernel (Kornblith et al., 2019).

    CKA(X, Y) = ‖YᵀX‖² / (‖XᵀX‖ ‖YᵀY‖) with X `[S, d]` and Y `[S, D]` centred over the positions; Frobenius norms. It
    knows neither rotation nor scale, so that no projection is needed. A text of a single position tells nothing: 0.

    Args:
        student: `[M, S, d]`.
        teacher: `[M, S, D]`.
        mask: `[M, S]`.
    """
    x, y = (_centred(_exact(states), mask) for states in (student, teacher))
    # ‖YᵀX‖² = ⟨XXᵀ, YYᵀ⟩, and S is as a rule smaller than d.
    own, other = x @ x.mT, y @ y.mT
    shared = (own * other).sum((-1, -2))
    norms = (own.square().sum((-1, -2)) * other.square().sum((-1, -2))).clamp_min(1e-24).sqrt()
    return torch.where(mask.sum(-1) > 1, 1 - shared / norms, 0.0)


def relation(student: Tensor, teacher: Tensor, mask: Tensor, heads: int) -> Tensor:
    """`[M]`: mean over heads and positions of KL(R′ ‖ R), R = softmax(x xᵀ / √(d/A)) (Wang et al., 2020, 2021).

    Args:
        student: `[M, S, d]`, all queries, keys or values of a block side by side.
        teacher: `[M, S, D]`.
        mask: `[M, S]`.
        heads: A, which divides both widths.
    """
    own, other = (_relations(_exact(states), mask, heads) for states in (student, teacher))
    # Where a position is not there both are −∞, and 0 · (−∞ + ∞) is to be 0.
    gap = (other - own).masked_fill(~mask[:, None, None, :], 0.0)
    return _mean((other.exp() * gap).sum(-1).mean(1), mask)


def _relations(states: Tensor, mask: Tensor, heads: int) -> Tensor:
    """`[M, A, S, S]` log R."""
    texts, positions, width = states.shape
    split = states.view(texts, positions, heads, width // heads).transpose(1, 2)
    scores = split @ split.mT / (width // heads) ** 0.5
    return scores.masked_fill(~mask[:, None, None, :], -torch.inf).log_softmax(-1)


def _exact(states: Tensor) -> Tensor:
    """In single precision at least."""
    return states if states.dtype == torch.float64 else states.float()


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """`[M]` means of `[M, S]` over the positions that are there."""
    return values.masked_fill(~mask, 0.0).sum(-1) / mask.sum(-1).clamp_min(1)


def _centred(states: Tensor, mask: Tensor) -> Tensor:
    kept = states.masked_fill(~mask[..., None], 0.0)
    mean = kept.sum(1, keepdim=True) / mask.sum(1).clamp_min(1)[:, None, None]
    return (kept - mean).masked_fill(~mask[..., None], 0.0)
