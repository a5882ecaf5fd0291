"""Log-probabilities of given tokens with their graph, without logits in full: for losses of whole answers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from understudy.losses.heads import HeadStates

CHUNK = 1024
"""Tokens whose logits are there at once."""


def token_logp(states: HeadStates, ids: Tensor, *, chunk: int = CHUNK) -> Tensor:
    """`[N]` natural log-probabilities of target tokens, float32 or the states' float64.

    The logits of a chunk are computed again in the backward pass, so `[chunk, V]` is the most that is held.

    Args:
        states: `[N, d]` states and their head.
        ids: `[N]` tokens.
        chunk: tokens at once.
    """

    def part(hidden: Tensor, wanted: Tensor) -> Tensor:
        logits = states.head.logits(hidden)
        exact = logits if logits.dtype == torch.float64 else logits.float()
        return exact.log_softmax(-1).gather(1, wanted[:, None])[:, 0]

    pieces = zip(states.hidden.split(chunk), ids.split(chunk), strict=True)
    if not torch.is_grad_enabled():
        return torch.cat([part(*piece) for piece in pieces])
    return torch.cat([checkpoint(part, *piece, use_reentrant=False) for piece in pieces])  # pyright: ignore
