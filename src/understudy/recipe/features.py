"""The section `features` of a recipe: what the student learns of the teacher's inner states, beside its answers."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from understudy import bounds
from understudy.recipe.endpoint import Section

Relation = Literal["query", "key", "value"]
Block = Annotated[int, Field(ge=1, le=bounds.ARCHITECTURE)]
"""A block of a model, counted from 1."""


class InputConfig(Section):
    """Hidden states of the teacher as a further input of the student, which is weaned off them."""

    layer: int | None = Field(default=None, gt=0, le=bounds.ARCHITECTURE)
    """The teacher's block whose hidden states are read, counted from 1; default: the last."""
    start: float = Field(default=1.0, ge=0, le=1)
    """Share of the rows of the first step that are read with them."""
    end: float = Field(default=0.0, ge=0, le=1)
    """The same from `until` on. At 0 the student answers alone. Above 0 it is not weaned: it is measured with its
    teacher's states, and needs the teacher wherever it runs."""
    until: float = Field(default=0.7, gt=0, le=1)
    """Share of the steps after which the share has come to `end`."""
    shape: Literal["linear", "cosine"] = "linear"
    """In between: a straight line, or half a cosine, flat at both ends."""


class FeaturesConfig(Section):
    """What a student has of the inner states of a teacher that reads the same tokens: losses between them
    (`understudy docs encoders`), or an input (`understudy docs context`).
    """

    hidden: float = Field(default=1.0, ge=0, le=bounds.FACTOR)
    """Weight of the loss between hidden states behind the blocks of `layers`."""
    hidden_loss: Literal["mse", "cosine", "cka"] = "mse"
    """`mse`: squared distance, a mean over channels; `cosine`: 1 − cosine; `cka`: 1 − linear CKA of a text's positions.
    The first two learn a projection where widths differ."""
    layers: dict[Block, Block] = Field(default_factory=dict)
    """Which block of the student learns from which of the teacher's, counted from 1: `{1: 2, 2: 4}`; default: each
    from one, evenly spaced, the last from the last."""
    embedding: float = Field(default=0.0, ge=0, le=bounds.FACTOR)
    """Weight of the same loss, as `mse` or `cosine`, between what the first blocks read: the embeddings."""
    relation: float = Field(default=0.0, ge=0, le=bounds.FACTOR)
    """Weight of the loss between attention relations (MiniLM): KL of softmax(x·xᵀ/√d) of queries, keys and values."""
    relations: tuple[Relation, ...] = ("query", "key", "value")
    """Which of the three."""
    relation_heads: int | None = Field(default=None, gt=0, le=bounds.ARCHITECTURE)
    """Into how many heads each is cut, on both sides; default: the teacher's heads where the widths allow it."""
    relation_layer: int | None = Field(default=None, gt=0, le=bounds.ARCHITECTURE)
    """The teacher's block whose relations the student's last block learns, counted from 1; default: the last."""
    sentence: float = Field(default=0.0, ge=0, le=bounds.FACTOR)
    """Weight of the loss between vectors of queries and passages, of models of `kind: embed`, whatever their tokens;
    alone with `hidden: 0`."""
    sentence_loss: Literal["mse", "cosine"] = "cosine"
    """`cosine`: 1 − cosine; `mse`: squared distance, a mean over the teacher's channels. A projection is learned where
    widths differ."""
    input: InputConfig | None = None
    """Read the teacher's hidden states beside the embeddings of the tokens; alone with `hidden: 0`."""

    @model_validator(mode="after")
    def _something(self) -> Self:
        """Something has to be learned."""
        if not (self.reads_states or self.sentence):
            raise ValueError("features: give hidden, embedding, relation or sentence a weight, or input")
        if self.relation and (not self.relations or len(set(self.relations)) < len(self.relations)):
            raise ValueError("features.relations: name query, key or value, each once")
        return self

    @property
    def reads_states(self) -> bool:
        """Whether it compares or reads states of tokens, which both models then have to cut alike."""
        return bool(self.hidden or self.embedding or self.relation or self.input)
