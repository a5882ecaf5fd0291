"""The section of the teacher: a model, and what is kept of what it says."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from understudy import bounds
from understudy.recipe.endpoint import Section
from understudy.recipe.training import ModelConfig

CACHE_FILE = "cache.json"
"""What the folder of a cache says of itself: whose it is, and what it keeps."""


class CacheConfig(Section):
    """What the teacher says of the training rows, written to disk once (`understudy docs teachers`)."""

    targets: Literal["topk", "sampled", "states"] = "topk"
    """`topk`: the likeliest tokens and the mass of all others. `sampled`: a head and a sample of the tail, right on
    average for forward KL. `states`: hidden states, for methods of two spaces or two vocabularies."""
    k: int = Field(default=50, gt=0, le=bounds.TOP_K)
    """Likeliest tokens of a position (`topk`, `sampled`)."""
    draws: int = Field(default=50, gt=0, le=bounds.TOP_K)
    """Tokens drawn from the tail (`sampled`)."""
    bits: Literal[8, 12, 16, 32] = 8
    """Bits of a probability (`topk`, `sampled`); 32 keeps it as it is."""
    dtype: Literal["float32", "bfloat16", "int8"] = "bfloat16"
    """Of hidden states (`states`)."""
    temperatures: tuple[float, ...] = ()
    """Loss temperatures that the targets can be read at; default: those of the recipe's arms. Every further one costs
    two bytes a token, and with `sampled` a sample of its own."""
    folder: str | None = None
    """A folder that several runs share; default: within the run folder."""

    @field_validator("temperatures", mode="before")
    @classmethod
    def _one(cls, value: Any) -> Any:
        """One number stands for a list of it."""
        return (value,) if isinstance(value, int | float) else value

    @model_validator(mode="after")
    def _temperatures(self) -> Self:
        """Temperatures that are there, each once."""
        for temperature in self.temperatures:
            if not 0 < temperature <= bounds.TEMPERATURE:
                raise ValueError(f"temperatures: {temperature:g} is not between 0 and {bounds.TEMPERATURE:g}")
        if len(set(self.temperatures)) < len(self.temperatures):
            raise ValueError("temperatures names one twice")
        return self


class TeacherConfig(ModelConfig):
    """The large model, and what is done to it before distillation."""

    cache: CacheConfig | None = None
    """Write what it says of the training rows to disk once, and train from there."""
