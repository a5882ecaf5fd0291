"""The section of the student: a model of its own, or one cut from its teacher."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from understudy import bounds
from understudy.recipe.endpoint import Section
from understudy.recipe.training import ModelConfig

By = Literal["position", "influence", "block", "loss"]


class CutConfig(Section):
    """How a student is cut from its teacher (`understudy docs students`)."""

    layers: Annotated[int, Field(gt=0, le=bounds.ARCHITECTURE)] | tuple[int, ...] | None = None
    """How many blocks stay (of an encoder–decoder on either side), or which: a list, counted from 0."""
    width: int | None = Field(default=None, gt=0, le=bounds.ARCHITECTURE)
    """Channels of the hidden state that stay."""
    heads: int | None = Field(default=None, gt=0, le=bounds.ARCHITECTURE)
    """Attention heads of a block that stay; with grouped heads a multiple of the heads a group has."""
    mlp: int | None = Field(default=None, gt=0, le=bounds.ARCHITECTURE)
    """Neurons of a block's feed-forward layer that stay."""
    by: By = "position"
    """Which blocks stay, where `layers` is a number: evenly spaced; those that change the hidden state most; all but
    one run of blocks that changes it least; or what is left when block after block goes whose loss is felt least."""
    rows: int = Field(default=64, gt=0, le=bounds.ROWS)
    """Training rows on which importance is measured."""

    @field_validator("layers")
    @classmethod
    def _some(cls, layers: int | tuple[int, ...] | None) -> int | tuple[int, ...] | None:
        """At least one block, in the teacher's order, each once."""
        if isinstance(layers, tuple) and (not layers or list(layers) != sorted({n for n in layers if n >= 0})):
            raise ValueError("layers: name blocks from 0 on, in ascending order, each once")
        return layers

    @model_validator(mode="after")
    def _cuts(self) -> Self:
        """Something has to go."""
        if self.layers is self.width is self.heads is self.mlp is None:
            raise ValueError("from_teacher: say what stays: layers, width, heads or mlp")
        return self


class StudentConfig(ModelConfig):
    """The small model, and what is done to it before distillation."""

    from_teacher: CutConfig | None = None
    """Cut it from the teacher, after the teacher's own training. Takes the place of `model`, tokenizer and template;
    with `init: fresh` only the shape is taken."""
    context: bool = True
    """Whether it reads the context of a row that has one. Without it the teacher alone does, and what the student
    answers it has to know (`understudy docs context`)."""


TAKEN = ("model", "tokenizer", "kind", "embedding", "chat_template", "revision", "trust_remote_code")
"""What a student that is cut from its teacher has from it."""
OF_ITSELF = (*TAKEN, "init", "config", "dtype", "resize_embeddings")
"""What a teacher that is its student has from that."""


def is_cut(model: ModelConfig) -> bool:
    """Whether a model's weights are cut from the teacher's, by a stage of their own."""
    return isinstance(model, StudentConfig) and model.from_teacher is not None and model.init != "fresh"
