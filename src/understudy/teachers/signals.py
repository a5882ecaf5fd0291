"""What a teacher says of the target tokens of a batch, and the contract of whoever says it.

A signal is one of three, from the strongest to the weakest: states with their head (`models.output.Output`), from
which all else follows; log-probabilities of every column; those of the likeliest columns, and what the rest has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from understudy.losses.sources import LogProbabilities, TopKProbabilities
from understudy.models.output import Output
from understudy.types import Batch, Gives


@dataclass(frozen=True)
class Logps:
    """Log-probabilities of the whole vocabulary, at temperature 1.

    Attributes:
        logp: `[N, V]` natural log-probabilities.
        target_ids: `[N]` the target tokens in the teacher's vocabulary.
        lengths: target tokens of each row, `B` integers that add up to `N`.
    """

    logp: Tensor
    target_ids: Tensor
    lengths: tuple[int, ...]

    @property
    def states(self) -> LogProbabilities:
        """What stands in a pass where a head stands."""
        return LogProbabilities(self.logp)


@dataclass(frozen=True)
class TopK:
    """Log-probabilities of the likeliest tokens, at temperature 1; the rest of the vocabulary is one bucket, the tail.

    Attributes:
        ids: `[N, K]` columns of the teacher's vocabulary, each at most once in a row.
        logp: `[N, K]` their natural log-probabilities.
        target_ids: `[N]` the target tokens in the teacher's vocabulary.
        lengths: target tokens of each row, `B` integers that add up to `N`.
    """

    ids: Tensor
    logp: Tensor
    target_ids: Tensor
    lengths: tuple[int, ...]

    @property
    def log_tail(self) -> Tensor:
        """`[N]` log(1 − Σ_k p_k): what all other columns carry together; −∞ where the likeliest carry everything."""
        inside = self.logp.logsumexp(-1).clamp_max(0.0)
        # log(1 − eˣ) without cancellation (Mächler, 2012).
        return torch.where(inside > -0.6931, (-inside.expm1()).log(), (-inside.exp()).log1p())

    @property
    def states(self) -> TopKProbabilities:
        """What stands in a pass where a head stands."""
        return TopKProbabilities(self.ids, self.logp, self.log_tail)


Signal = Output | Logps | TopK


class Teacher(Protocol):
    """Whatever can say something about a batch: a model of this process, a cache of what one said, a server."""

    @property
    def gives(self) -> Gives:
        """The strongest signal it can give; the gate compares it with what a method reads."""
        ...

    def signal(self, batch: Batch) -> Signal:
        """What it says of the target tokens of a batch, as constants."""
        ...
