"""Sides that are no head: stored probabilities, the likeliest few, a sample, scored candidates.

Each is a `LogitSource` and can stand where a teacher's `HeadStates` stand in `head_losses`. All are constants but
`CandidateLogits`, which can stand on the student's side too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from understudy.losses.divergences import forward_kl
from understudy.losses.logit_comparisons import LogitComparison
from understudy.losses.sides import LogitSide, Report, floor
from understudy.losses.tail_comparisons import Sampled, with_tail


@dataclass(frozen=True, slots=True)
class LogProbabilities:
    """Stored log-probabilities `[N, V]`, natural logarithm, −∞ where there is no probability."""

    logp: Tensor

    @property
    def tokens(self) -> int:
        """N."""
        return self.logp.shape[0]

    @property
    def columns(self) -> int:
        """V."""
        return self.logp.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of what is stored."""
        return self.logp.dtype

    @property
    def device(self) -> torch.device:
        """Where they lie."""
        return self.logp.device

    @property
    def graph(self) -> tuple[Tensor | None, ...]:
        """Nothing: what is stored has no gradient."""
        return ()

    def tempered(self, temperature: float) -> LogProbabilities:
        """The same with the logits divided by `temperature`."""
        return LogProbabilities((self.logp / temperature).log_softmax(-1))

    def rows(self, which: Tensor) -> LogProbabilities:
        """The same over some of the tokens."""
        return LogProbabilities(self.logp[which])

    def constant(self) -> LogProbabilities:
        """The same; it never has a gradient."""
        return self

    def side(self, columns: int, temperature: float, exact: torch.dtype, report: Report) -> LogitSide:
        """See `LogitSource`."""
        return _StoredSide(self.logp.detach(), columns, exact, report)

    def comparison(self, divergence: Callable[[Tensor, Tensor], Tensor] | LogitComparison) -> None:
        """See `LogitSource`: columns are compared one by one."""
        return


@dataclass(frozen=True, slots=True)
class CandidateLogits:
    """Logits over candidates of each target's own row – positions of a context, options – of student or teacher.

    Every target has C columns, of which `mask` says which stand for a candidate; the others have no probability. The
    logits are there, so nothing is projected: gradients reach them as they are.

    Args:
        logits: `[N, C]`.
        mask: `[N, C]` bool.
    """

    logits: Tensor
    mask: Tensor

    @property
    def tokens(self) -> int:
        """N."""
        return self.logits.shape[0]

    @property
    def columns(self) -> int:
        """C."""
        return self.logits.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the logits."""
        return self.logits.dtype

    @property
    def device(self) -> torch.device:
        """Of the logits."""
        return self.logits.device

    @property
    def graph(self) -> tuple[Tensor | None, ...]:
        """The logits."""
        return (self.logits,)

    def rows(self, which: Tensor) -> CandidateLogits:
        """The same over some of the targets."""
        return CandidateLogits(self.logits[which], self.mask[which])

    def constant(self) -> CandidateLogits:
        """The same without gradients."""
        return CandidateLogits(self.logits.detach(), self.mask)

    def masked(self) -> Tensor:
        """`[N, C]` the logits, −∞ where there is no candidate; with their graph."""
        return self.logits.masked_fill(~self.mask, -torch.inf)

    def side(self, columns: int, temperature: float, exact: torch.dtype, report: Report) -> LogitSide:
        """See `LogitSource`."""
        # A low temperature must not make −∞ of the number that stands for no probability.
        lowest = floor(exact) * min(1.0, temperature)
        return _StoredSide(self.masked().detach(), columns, exact, report, lowest)

    def comparison(self, divergence: Callable[[Tensor, Tensor], Tensor] | LogitComparison) -> None:
        """See `LogitSource`: candidates are compared one by one."""
        return


@dataclass(frozen=True, slots=True)
class TopKProbabilities:
    """The likeliest K tokens of each position, and all other tokens as one bucket.

    The student is put into the same K + 1 buckets, so only a divergence that takes a tail will do (`traits`). K = V
    leaves the bucket empty and is the divergence itself. What the others carry together at another temperature does
    not follow from what they carry at this one, so both sides are compared at this one alone.

    Args:
        ids: `[N, K]` tokens, different within a row.
        logp: `[N, K]` their log-probabilities at `temperature`.
        tail: `[N]` log-probability of all others together; −∞: none.
        temperature: what the logits had been divided by.
        present: `[N, K]` bool, which of the tokens stand for themselves, where not all do: the others belong to the
            tail, and those that stand for themselves need not be the likeliest.
    """

    ids: Tensor
    logp: Tensor
    tail: Tensor
    temperature: float = 1.0
    present: Tensor | None = None

    @property
    def tokens(self) -> int:
        """N."""
        return self.ids.shape[0]

    @property
    def columns(self) -> int:
        """K + 1."""
        return self.ids.shape[1] + 1

    @property
    def dtype(self) -> torch.dtype:
        """Of what is stored."""
        return self.logp.dtype

    def rows(self, which: Tensor) -> TopKProbabilities:
        """The same over some of the tokens."""
        present = None if self.present is None else self.present[which]
        return TopKProbabilities(self.ids[which], self.logp[which], self.tail[which], self.temperature, present)

    def constant(self) -> TopKProbabilities:
        """The same; it never has a gradient."""
        return self

    def side(self, columns: int, temperature: float, exact: torch.dtype, report: Report) -> LogitSide:
        """See `LogitSource`.

        Raises:
            ValueError: a temperature other than its own, or the teacher's cross-entropy is asked for.
        """
        _check_stored(self.temperature, temperature, report)
        # Of the whole vocabulary neither entropy nor likeliest token is known; the pass then has no such figures.
        return _TemperedSide(torch.cat([self.logp, self.tail[:, None]], -1).detach(), columns, exact, Report())

    def comparison(self, divergence: Callable[[Tensor, Tensor], Tensor] | LogitComparison) -> LogitComparison:
        """See `LogitSource`.

        Raises:
            ValueError: the divergence, or the comparison of two vocabularies, does not take a tail as one bucket.
        """
        return with_tail(divergence, self.ids, self.present)


@dataclass(frozen=True, slots=True)
class SampledProbabilities:
    """A few weighted tokens of each position whose expectation is the teacher's distribution.

    Only forward KL has then the right gradient on average: it alone is linear in the teacher up to H(p), which is
    stored (`tail_comparisons.Sampled`).

    Args:
        ids: `[N, K]` tokens; one that was drawn twice stands there twice.
        weights: `[N, K]` w with E Σ_j w_j δ(id_j) = p at `temperature`; 0 on places that are not used.
        entropy: `[N]` H(p) in nats.
        temperature: what the logits had been divided by.
    """

    ids: Tensor
    weights: Tensor
    entropy: Tensor
    temperature: float = 1.0

    @property
    def tokens(self) -> int:
        """N."""
        return self.ids.shape[0]

    @property
    def columns(self) -> int:
        """K."""
        return self.ids.shape[1]

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights."""
        return self.weights.dtype

    def rows(self, which: Tensor) -> SampledProbabilities:
        """The same over some of the tokens."""
        return SampledProbabilities(self.ids[which], self.weights[which], self.entropy[which], self.temperature)

    def constant(self) -> SampledProbabilities:
        """The same; it never has a gradient."""
        return self

    def side(self, columns: int, temperature: float, exact: torch.dtype, report: Report) -> LogitSide:
        """See `LogitSource`.

        Raises:
            ValueError: a temperature other than its own, or the teacher's cross-entropy is asked for.
        """
        _check_stored(self.temperature, temperature, report)
        return _TemperedSide(self.weights.detach().log(), columns, exact, Report())

    def comparison(self, divergence: Callable[[Tensor, Tensor], Tensor] | LogitComparison) -> Sampled:
        """See `LogitSource`.

        Raises:
            ValueError: the divergence is not forward KL.
        """
        if divergence is not forward_kl:
            raise ValueError("sampled targets give the right gradient on average for forward KL alone")
        return Sampled(self.ids, self.weights, self.entropy)


def _check_stored(stored: float, temperature: float, report: Report) -> None:
    if temperature != stored:
        raise ValueError(f"these probabilities stand at temperature {stored:g}, not {temperature:g}")
    if report.gold_ids is not None:
        raise ValueError("a few tokens have no cross-entropy of the teacher")


class _StoredSide(LogitSide):
    """Logits or log-probabilities that lie there, copied a chunk at a time."""

    def __init__(
        self, logits: Tensor, columns: int, exact: torch.dtype, report: Report, lowest: float | None = None
    ) -> None:
        super().__init__(logits.shape[0], columns, exact, logits.device, report)
        self.stored = logits
        self.lowest = floor(exact) if lowest is None else lowest

    def project(self, start: int, stop: int) -> Tensor:
        """See the base class; a copy, for the pass writes into it."""
        chunk = self.stored[start:stop, : self.columns].to(self.exact, copy=True)
        return chunk.clamp_min_(self.lowest)

    def gradient(self, wanted: Sequence[bool]) -> _StoredGradient:
        """Of the logits."""
        return _StoredGradient(torch.zeros_like(self.stored, dtype=self.exact))


class _TemperedSide(_StoredSide):
    """Log-probabilities that stand at the temperature of the pass already."""

    tempered = True


class _StoredGradient:
    """The gradient of logits that lie there."""

    def __init__(self, logits: Tensor) -> None:
        self.tensors: list[Tensor | None] = [logits]
        self.logits = logits

    def add(self, gradient: Tensor, start: int, stop: int, rows: Tensor) -> None:
        """See `SideGradient`."""
        torch.mul(gradient, rows[:, None], out=self.logits[start:stop, : gradient.shape[1]])
