"""Several teachers of one vocabulary as one side of a pass: the mean of what they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from understudy.losses.heads import HeadStates
from understudy.losses.sides import LogitSide, Report, floor
from understudy.losses.sources import CandidateLogits


@dataclass(frozen=True, slots=True)
class Averaged:
    """The mean of several teachers of one vocabulary, taken at temperature 1.

    With w the share of teacher i on a token, times exp(−H_i) with `by_confidence`, scaled to Σ_i w_i = 1:

        probabilities:      p = Σ_i w_i p_i
        log_probabilities:  p ∝ exp Σ_i w_i log p_i

    The arithmetic mean keeps what any of them holds likely, the geometric one what none of them holds unlikely.

    Args:
        teachers: hidden states and head of each, over the same tokens and columns.
        shares: T numbers, or `[N, T]` of each token; not negative, and not all 0.
        mean: which of the two.
        by_confidence: H_i is the entropy of p_i in nats, so that a teacher that knows outweighs one that guesses.
        divisor: τ by which the logarithm of the mean is divided.
    """

    teachers: Sequence[HeadStates]
    shares: Sequence[float] | Tensor
    mean: Literal["probabilities", "log_probabilities"] = "probabilities"
    by_confidence: bool = False
    divisor: float = 1.0

    @property
    def tokens(self) -> int:
        """N."""
        return self.teachers[0].tokens

    @property
    def columns(self) -> int:
        """V."""
        return min(teacher.columns for teacher in self.teachers)

    @property
    def dtype(self) -> torch.dtype:
        """Of the first teacher's states."""
        return self.teachers[0].dtype

    @property
    def device(self) -> torch.device:
        """Of the first teacher's states."""
        return self.teachers[0].device

    @property
    def graph(self) -> tuple[Tensor | None, ...]:
        """Nothing: a mean is a constant."""
        return ()

    def tempered(self, temperature: float) -> Averaged:
        """The same with the logits divided by `temperature`."""
        return dataclasses.replace(self, divisor=self.divisor * temperature)

    def rows(self, which: Tensor) -> Averaged:
        """The same over some of the tokens."""
        shares = self.shares[which] if isinstance(self.shares, Tensor) else self.shares
        return dataclasses.replace(self, teachers=[teacher.rows(which) for teacher in self.teachers], shares=shares)

    def constant(self) -> Averaged:
        """The same without gradients."""
        return dataclasses.replace(self, teachers=[teacher.constant() for teacher in self.teachers])

    def side(self, columns: int, temperature: float, exact: torch.dtype, report: Report) -> LogitSide:
        """See `LogitSource`."""
        sides = [teacher.side(columns, 1.0, exact, Report()) for teacher in self.teachers]
        shares = torch.as_tensor(self.shares, dtype=exact, device=self.device).expand(self.tokens, len(sides))
        shares = shares / shares.sum(-1, keepdim=True)
        return _AveragedSide(self, sides, shares, columns, exact, report)

    def comparison(self, divergence: Any) -> None:
        """See `LogitSource`: columns are compared one by one."""
        return


class _AveragedSide(LogitSide):
    """The logarithm of the mean, up to a number a row, from a side of each teacher."""

    def __init__(
        self,
        source: Averaged,
        sides: Sequence[LogitSide],
        shares: Tensor,
        columns: int,
        exact: torch.dtype,
        report: Report,
    ) -> None:
        super().__init__(sides[0].tokens, columns, exact, sides[0].device, report)
        self.sides, self.shares, self.block = sides, shares, 1
        self.of_probabilities, self.by_confidence = source.mean == "probabilities", source.by_confidence
        self.divisor = source.divisor

    def reserve(self, chunk: int, block: int, *, own_softmax: bool, gradient: bool) -> None:
        """See the base class."""
        super().reserve(chunk, block, own_softmax=own_softmax, gradient=gradient)
        self.block = block
        self.mixture = self.scratch(chunk)
        for side in self.sides:
            side.reserve(chunk, block, own_softmax=False, gradient=False)

    def project(self, start: int, stop: int) -> Tensor:
        """See the base class."""
        mixture = self.mixture[: stop - start].zero_()
        whole = torch.zeros(stop - start, 1, dtype=self.exact, device=self.device)
        for number, side in enumerate(self.sides):
            shares = self.shares[start:stop, number, None]
            pieces = (part.split(self.block) for part in (mixture, whole, shares, side.project(start, stop)))
            for piece, total, share, product in zip(*pieces, strict=True):
                self._add(piece, total, share, side.logits(product))
        mixture.div_(whole)
        logits = mixture.log_() if self.of_probabilities else mixture
        return logits.div_(self.divisor).clamp_min_(floor(self.exact))

    def _add(self, mixture: Tensor, whole: Tensor, share: Tensor, logits: Tensor) -> None:
        """Put one teacher's part of a block into the mixture, and its weight into `whole` `[R, 1]`."""
        logp = logits.log_softmax(-1).clamp_min_(floor(self.exact))
        weight = share
        if self.by_confidence:
            # Σ p log p = −H; 0 · floor is 0.
            weight = share * (logp.exp() * logp).sum(-1, keepdim=True).exp()
        mixture.addcmul_(weight, logp.exp_() if self.of_probabilities else logp)
        whole.add_(weight)


def candidate_mean(
    teachers: Sequence[CandidateLogits],
    shares: Sequence[float] | Tensor,
    mean: Literal["probabilities", "log_probabilities"] = "probabilities",
    *,
    by_confidence: bool = False,
) -> CandidateLogits:
    """The mean of several teachers over the same few candidates, as logits at temperature 1; see `Averaged`.

    Args:
        teachers: logits of each over the same candidates, `[N, C]`.
        shares: T numbers, or `[N, T]` of each target; not negative, and not all 0.
        mean: which of the two.
        by_confidence: whether exp(−H) weighs them too.
    """
    logp = torch.stack([teacher.masked().detach().float().log_softmax(-1) for teacher in teachers], 1)
    logp = logp.clamp_min(floor(logp.dtype))
    weights = torch.as_tensor(shares, dtype=logp.dtype, device=logp.device).expand(logp.shape[:2])
    if by_confidence:
        weights = weights * (logp.exp() * logp).sum(-1).exp()
    weights = (weights / weights.sum(-1, keepdim=True))[..., None]
    if mean == "probabilities":
        mixture = (weights * logp.exp()).sum(1).log().clamp_min(floor(logp.dtype))
    else:
        mixture = (weights * logp).sum(1)
    return CandidateLogits(mixture, teachers[0].mask)
