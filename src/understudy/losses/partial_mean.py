"""The mean of several teachers of one vocabulary of which some tell of a few tokens and the mass of all others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from understudy.losses.heads import HeadStates
from understudy.losses.sources import TopKProbabilities

PartialSource = HeadStates | TopKProbabilities
WHOLE = 256
"""Tokens that stand for themselves where every teacher that is heard knows all: a fixed number, whatever others of the
batch hear, for nothing in a loss depends on how a batch was cut."""
_CHUNK_TOKENS = 256


def partial_mean(teachers: Sequence[PartialSource], shares: Tensor) -> TopKProbabilities:
    """Σ_i w_i p_i on the finest buckets that every teacher heard on a token can fill.

    A teacher that tells of the tokens I_i alone can fill their buckets and one for all others; the sum over a set of
    tokens is known of the mean where it is of each. So those of ∩ I_i stand for themselves, all others are one bucket:

        P(v) = Σ_i w_i p_i(v)  for v ∈ ∩ I_i,        P(rest) = Σ_i w_i (1 − Σ_{v ∈ ∩ I_i} p_i(v)).

    Nothing of it is guessed: summing over tokens is linear, so the mean of the bucketed is the bucketed mean. As with
    one such teacher, a divergence that takes a tail is never larger than that of the whole mean. Where none of those
    that are heard on a token leaves any out, the likeliest `WHOLE` of the mean stand for themselves.

    Args:
        teachers: over the same tokens, at temperature 1; those with states know every token.
        shares: `[N, T]` of each token; not negative, and not all 0.

    Raises:
        ValueError: probabilities at another temperature than 1.
    """
    for teacher in teachers:
        if isinstance(teacher, TopKProbabilities) and (teacher.temperature != 1 or teacher.present is not None):
            raise ValueError("a mean is taken at temperature 1, of the likeliest tokens of each teacher")
    shares = shares / shares.sum(-1, keepdim=True)
    pieces = list(_pieces(teachers, shares))
    ids, logp, tail, present = (torch.cat(parts) for parts in zip(*pieces, strict=True))
    return TopKProbabilities(ids, logp, tail, 1.0, present)


def _pieces(teachers: Sequence[PartialSource], shares: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor, Tensor]]:
    """Ids, log-probabilities, tail and presence of some tokens at a time."""
    everything = torch.arange(len(shares), device=shares.device)
    for which in everything.split(_CHUNK_TOKENS) or (everything,):
        sides = [_side(teacher, which) for teacher in teachers]
        yield _mean(sides, shares[which])


def _mean(sides: Sequence[_Whole | _Few], shares: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    shares = shares.to(torch.promote_types(sides[0].dtype, torch.float32))
    ids, present = _slots(sides, shares)
    head, tail = torch.zeros_like(ids, dtype=shares.dtype), torch.zeros_like(shares[:, 0])
    for number, side in enumerate(sides):
        own, rest = side.on(ids, present)
        head += shares[:, number, None] * own
        tail += shares[:, number] * rest
    return ids, head.log(), tail.log(), present


def _slots(sides: Sequence[_Whole | _Few], shares: Tensor) -> tuple[Tensor, Tensor]:
    """`[R, K]` different tokens of each row, and which of them every teacher that is heard there tells of."""
    whole = [(number, side) for number, side in enumerate(sides) if isinstance(side, _Whole)]
    few = [side.ids.shape[1] for side in sides if isinstance(side, _Few)]
    width = max([min(WHOLE, side.p.shape[1]) for _, side in whole] + few)
    ids = torch.arange(width, device=shares.device).repeat(len(shares), 1)
    present = ids < WHOLE
    if whole:
        columns = min(side.p.shape[1] for _, side in whole)
        mixed = torch.stack([shares[:, number, None] * side.p[:, :columns] for number, side in whole]).sum(0)
        ids = mixed.topk(width).indices
    # From the last to the first, so that the first teacher that is heard decides.
    for number, side in reversed(list(enumerate(sides))):
        if isinstance(side, _Few):
            heard = shares[:, number] > 0
            own, real = side.padded(width)
            ids, present = torch.where(heard[:, None], own, ids), torch.where(heard[:, None], real, present)
    for number, side in enumerate(sides):
        present = present & (side.knows(ids) | (shares[:, number, None] == 0))
    return ids, present


class _Whole:
    """Some rows of a teacher that knows every token.

    Args:
        p: `[R, V]` its probabilities.
    """

    def __init__(self, p: Tensor) -> None:
        self.p, self.dtype = p, p.dtype

    def knows(self, ids: Tensor) -> Tensor:
        """Which of some tokens it has."""
        return ids < self.p.shape[1]

    def on(self, ids: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """Its probabilities of tokens that stand for themselves, 0 of others, and that of all others together."""
        places = ids.clamp_max(self.p.shape[1] - 1)
        own = self.p.gather(1, places).masked_fill(~present, 0.0)
        # A sum over the others alone: 1 − Σ p would lose them where the tokens have nearly everything.
        taken = torch.zeros_like(self.p).scatter_add_(1, places, present.to(self.dtype)) > 0
        return own, self.p.masked_fill(taken, 0.0).sum(-1)


class _Few:
    """Some rows of a teacher that tells of a few tokens.

    Args:
        ids: `[R, K]`.
        p: `[R, K]` their probabilities.
        tail: `[R]` what all others have together.
    """

    def __init__(self, ids: Tensor, p: Tensor, tail: Tensor) -> None:
        self.ids, self.p, self.tail, self.dtype = ids, p, tail, p.dtype

    def padded(self, width: int) -> tuple[Tensor, Tensor]:
        """Its tokens and, up to `width`, others that it does not tell of; and which are its own."""
        missing = width - self.ids.shape[1]
        others = torch.arange(width, device=self.ids.device).expand(len(self.ids), -1)
        # Of `width` tokens it tells of K at most, so enough are left.
        first = self.knows(others).int().argsort(dim=-1, stable=True)[:, :missing]
        real = torch.ones_like(self.ids, dtype=torch.bool)
        return torch.cat([self.ids, first], -1), torch.cat([real, torch.zeros_like(first, dtype=torch.bool)], -1)

    def knows(self, ids: Tensor) -> Tensor:
        """Which of some tokens it tells of."""
        return (ids[:, :, None] == self.ids[:, None]).any(-1)

    def on(self, ids: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """As `_Whole.on`."""
        same = (ids[:, :, None] == self.ids[:, None]) & present[:, :, None]
        own = (same * self.p[:, None]).sum(-1)
        return own, self.tail + self.p.masked_fill(same.any(1), 0.0).sum(-1)


def _side(teacher: PartialSource, which: Tensor) -> _Whole | _Few:
    rows = teacher.rows(which)
    if isinstance(rows, TopKProbabilities):
        return _Few(rows.ids, rows.logp.exp(), rows.tail.exp())
    logits = rows.head.logits(rows.hidden)
    return _Whole(logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(-1))
