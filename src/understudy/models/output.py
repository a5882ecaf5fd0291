"""What a model says of the targets of a batch: states under a head over a vocabulary, or logits of a row's candidates.

Legend: `B` rows, `N` targets, `V` vocabulary, `C` candidates, `d` width (see `understudy.types`).
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from understudy.losses.deviations import Deviations
from understudy.losses.heads import Head, HeadStates
from understudy.losses.sources import CandidateLogits
from understudy.models.inner_states import Features


@dataclass(frozen=True)
class Output(ABC):
    """What a model says of the targets of a batch; a target is one of several candidates.

    Attributes:
        target_ids: `[N]`, which candidate is right: a token of this model's vocabulary, or a position of the row.
        lengths: targets of each row, `B` integers that add up to `N`.
        features: inner states, where they were asked for.
    """

    target_ids: Tensor
    lengths: tuple[int, ...]
    features: Features | None = field(default=None, kw_only=True)

    @property
    @abstractmethod
    def states(self) -> HeadStates | CandidateLogits:
        """What stands on a side of a pass (`losses.passes.Pass`)."""

    @property
    @abstractmethod
    def device(self) -> torch.device:
        """Where it lies."""


@dataclass(frozen=True)
class VocabularyOutput(Output):
    """Of a model that writes: the candidates are its vocabulary, and a head turns states into their logits.

    Attributes:
        hidden: `[N, d]`, the last hidden states that predict the target tokens.
        head: turns them into logits.
        input_embeddings: `[N, d_e]`, embeddings of the tokens at the predicting positions (detached), or None.
        target_embeddings: `[N, d_e]`, embeddings of the target tokens (detached), or None.
        deviations: of states and embeddings over the whole padded batch, or None (DSKD's published ones).
    """

    hidden: Tensor
    head: Head
    input_embeddings: Tensor | None = None
    target_embeddings: Tensor | None = None
    deviations: Deviations | None = None

    @property
    def states(self) -> HeadStates:
        """States and head as the losses take them; the product runs in the dtype of the states."""
        return HeadStates(self.hidden, dataclasses.replace(self.head, weight=self.head.weight.to(self.hidden.dtype)))

    @property
    def device(self) -> torch.device:
        """Of the states."""
        return self.hidden.device


@dataclass(frozen=True)
class CandidateOutput(Output):
    """Of a model that chooses among what each row offers, such as the positions of its context.

    Attributes:
        logits: `[N, C]`.
        mask: `[N, C]` bool, which columns are candidates.
    """

    logits: Tensor
    mask: Tensor

    @property
    def states(self) -> CandidateLogits:
        """Logits and mask as the losses take them."""
        return CandidateLogits(self.logits, self.mask)

    @property
    def device(self) -> torch.device:
        """Of the logits."""
        return self.logits.device


@dataclass(frozen=True)
class EmbeddingOutput(CandidateOutput):
    """Of a model that makes vectors of queries and passages; the candidates are the passages of the batch.

    Attributes:
        vectors: `[M, d]`, of the B queries and of the C passages behind them.
    """

    vectors: Tensor
