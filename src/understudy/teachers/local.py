"""A teacher that lives in the same process."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import nn

from understudy.models.forward import forward
from understudy.models.head import base_model
from understudy.models.inner_states import WantedFeatures
from understudy.models.kinds import kind_of
from understudy.models.output import Output
from understudy.types import Batch, Gives


class LocalTeacher:
    """A frozen model that answers with its last hidden states and its head, never with logits in full.

    Args:
        model: the teacher; put into evaluation mode and frozen.
        embeddings: also hand over token embeddings (cross-model attention).

    Attributes:
        features: inner states that it hands over too, for an objective that compares them.
    """

    can_give: ClassVar[Gives] = Gives.STATES | Gives.EMBEDDINGS
    """What a model of this process that writes can give, before one is loaded."""

    def __init__(self, model: nn.Module, *, embeddings: bool = False) -> None:
        self.model = model.eval().requires_grad_(False)
        self.embeddings = embeddings
        self.features: WantedFeatures | None = None

    @property
    def gives(self) -> Gives:
        """What its kind gives; embeddings only where they are handed over."""
        gives = kind_of(base_model(self.model).config).gives
        return gives ^ Gives.EMBEDDINGS if Gives.EMBEDDINGS in gives and not self.embeddings else gives

    def signal(self, batch: Batch) -> Output:
        """What the teacher says of the target tokens of a batch, as constants."""
        tokens = batch["teacher"]  # pyright: ignore[reportTypedDictNotRequiredAccess]
        with torch.no_grad():
            return forward(self.model, tokens, embeddings=self.embeddings, features=self.features)
