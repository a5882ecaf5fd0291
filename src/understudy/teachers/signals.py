"""What a teacher says of the target tokens of a batch, and the contract of whoever says it.

A signal is one of these, from the strongest to the weakest: states with their head (`models.output.Output`), from
which all else follows; log-probabilities of every column; those of the likeliest columns, and what the rest has; a
sample of the columns, right on average. The mean of several teachers is as strong as log-probabilities, or as the
likeliest columns where one of them tells no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from understudy.losses.averaged import Averaged, candidate_mean
from understudy.losses.partial_mean import partial_mean
from understudy.losses.sources import CandidateLogits, LogProbabilities, SampledProbabilities, TopKProbabilities
from understudy.models.output import CandidateOutput, Output, VocabularyOutput
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
    """Log-probabilities of the likeliest tokens; the rest of the vocabulary is one bucket, the tail.

    Attributes:
        ids: `[N, K]` columns of the teacher's vocabulary, each at most once in a row.
        logp: `[N, K]` their natural log-probabilities at `temperature`.
        target_ids: `[N]` the target tokens in the teacher's vocabulary.
        lengths: target tokens of each row, `B` integers that add up to `N`.
        tail: `[N]` log-probability of all other columns together; None: what the K leave of 1.
        temperature: what the logits had been divided by; only at this one can they be compared.
    """

    ids: Tensor
    logp: Tensor
    target_ids: Tensor
    lengths: tuple[int, ...]
    tail: Tensor | None = None
    temperature: float = 1.0

    @property
    def log_tail(self) -> Tensor:
        """`[N]` the tail, or log(1 − Σ_k p_k) where none was given; −∞ where the likeliest carry everything."""
        if self.tail is not None:
            return self.tail
        inside = self.logp.logsumexp(-1).clamp_max(0.0)
        # log(1 − eˣ) without cancellation (Mächler, 2012).
        return torch.where(inside > -0.6931, (-inside.expm1()).log(), (-inside.exp()).log1p())

    @property
    def states(self) -> TopKProbabilities:
        """What stands in a pass where a head stands."""
        return TopKProbabilities(self.ids, self.logp, self.log_tail, self.temperature)


@dataclass(frozen=True)
class Sampled:
    """A few weighted tokens whose expectation is the distribution (`losses.sources.SampledProbabilities`).

    Attributes:
        ids: `[N, K]` columns of the teacher's vocabulary; one that was drawn twice stands there twice.
        weights: `[N, K]` their weights.
        entropy: `[N]` entropy of the whole distribution in nats.
        target_ids: `[N]` the target tokens in the teacher's vocabulary.
        lengths: target tokens of each row, `B` integers that add up to `N`.
        temperature: what the logits had been divided by.
    """

    ids: Tensor
    weights: Tensor
    entropy: Tensor
    target_ids: Tensor
    lengths: tuple[int, ...]
    temperature: float = 1.0

    @property
    def states(self) -> SampledProbabilities:
        """What stands in a pass where a head stands."""
        return SampledProbabilities(self.ids, self.weights, self.entropy, self.temperature)


@dataclass(frozen=True)
class Mean:
    """What several teachers of one vocabulary say together (`losses.averaged`; `losses.partial_mean` where some tell of
    their likeliest tokens alone).

    Attributes:
        outputs: of each teacher, over the same target tokens.
        shares: `[N, T]` what each counts on a token.
        mean: of probabilities or of log-probabilities.
        by_confidence: whether exp(−H) weighs them too.
        partial: whether one of the teachers, heard here or not, tells of its likeliest tokens alone.
    """

    outputs: Sequence[VocabularyOutput | CandidateOutput | TopK]
    shares: Tensor
    mean: Literal["probabilities", "log_probabilities"] = "probabilities"
    by_confidence: bool = False
    partial: bool = False

    @property
    def target_ids(self) -> Tensor:
        """`[N]` the target tokens in the teachers' vocabulary."""
        return self.outputs[0].target_ids

    @property
    def lengths(self) -> tuple[int, ...]:
        """Target tokens of each row."""
        return self.outputs[0].lengths

    @property
    def states(self) -> Averaged | TopKProbabilities | CandidateLogits:
        """What stands in a pass where a head stands."""
        chosen = [output.states for output in self.outputs if isinstance(output, CandidateOutput)]
        if chosen:
            assert len(chosen) == len(self.outputs), "the gate lets pass no teachers of two kinds"
            return candidate_mean(chosen, self.shares, self.mean, by_confidence=self.by_confidence)
        if not self.partial:
            whole = [output.states for output in self.outputs if isinstance(output, VocabularyOutput)]
            return Averaged(whole, self.shares, self.mean, self.by_confidence)
        assert self.mean == "probabilities", "the gate lets pass no other mean of a few tokens"
        assert not self.by_confidence, "the gate lets pass no entropy of a few tokens"
        told = [output.states for output in self.outputs if isinstance(output, VocabularyOutput | TopK)]
        return partial_mean(told, self.shares)


Signal = Output | Logps | TopK | Sampled | Mean


@dataclass(frozen=True)
class Several:
    """What teachers say whose losses are added: no side of one pass, but a signal for each part of a sum.

    Attributes:
        signals: by part; None: nobody of it is heard on a row of the batch, so nobody was asked.
        shares: `[B, P]` what each part counts on a row; those of a row add up to 1.
    """

    signals: Mapping[str, Signal | None]
    shares: Tensor


class Teacher(Protocol):
    """Whatever can say something about a batch: a model of this process, a cache of what one said, a server."""

    @property
    def gives(self) -> Gives:
        """The strongest signal it can give; the gate compares it with what a method reads."""
        ...

    def signal(self, batch: Batch) -> Signal:
        """What it says of the target tokens of a batch, as constants."""
        ...
