"""The section of the teacher: a model here or on a server, and what is kept of what it says."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from understudy import bounds
from understudy.recipe.endpoint import TRANSPORT_FIELDS, EndpointConfig, Section, TransportConfig
from understudy.recipe.hint import HintConfig
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


class TeacherConfig(TransportConfig, ModelConfig):
    """The large model, and what is done to it before distillation; with `base_url`, one on a server, ready as it is."""

    k: int = Field(default=20, gt=0, le=bounds.TOP_K)
    """Of a server: log-probabilities of how many tokens it is asked for at each position."""
    tail: Literal["bucket", "renormalise"] = "bucket"
    """Of a server: what becomes of the tokens beyond the likeliest `k`. `bucket`: their mass is one further outcome, so
    the loss temperature is 1. `renormalise`: they are left out and the others scaled to 1, a biased target, at any."""
    cache: CacheConfig | None = None
    """Write what it says of the training rows to disk once, and train from there."""
    hint: HintConfig | None = None
    """What it reads beside the question and the student does not (`understudy docs context`)."""
    from_student: bool = False
    """It is the student itself, as its training begins, frozen: with `hint`, or a student without `context`, the
    student learns what it would say if it read more. Takes the place of `model`, tokenizer and template."""

    @model_validator(mode="after")
    def _served(self) -> Self:
        """What a server can be asked for, and what needs one."""
        if not self.remote:
            fields = [name for name in (*TRANSPORT_FIELDS, "k", "tail") if getattr(self, name) != _default(name)]
            if fields:
                raise ValueError(f"{fields[0]} is of a teacher on a server: it needs base_url")
            return self
        if self.tokenizer is None:
            raise ValueError("a teacher on a server is sent token ids: name its tokenizer, a folder or a hub id")
        if own := [name for name in (*_OF_WEIGHTS, "from_student") if getattr(self, name) != _default(name)]:
            raise ValueError(f"{own[0]} is for a model that is loaded here, and base_url names one on a server")
        return self

    @model_validator(mode="after")
    def _is_the_student(self) -> Self:
        """The student's training is its own."""
        if self.from_student and (trained := [name for name in ("pretrain", "sft") if getattr(self, name)]):
            raise ValueError(f"from_student: the teacher is the student, whose training is student.{trained[0]}")
        return self

    @property
    def remote(self) -> bool:
        """Whether it is asked over HTTP."""
        return self.base_url is not None

    @property
    def described_by(self) -> str:
        """See the base class: of a model on a server nothing but its tokenizer is here."""
        return self.tokenizer if self.remote and self.tokenizer else self.model

    @property
    def endpoint(self) -> EndpointConfig:
        """The server as whoever answers in text."""
        return EndpointConfig(model=self.model, **{name: getattr(self, name) for name in TRANSPORT_FIELDS})

    @property
    def words(self) -> str:
        """What is learned of a server's log-probabilities, in a sentence's part."""
        if self.tail == "bucket":
            return f"its {self.k} likeliest tokens at temperature 1 and the mass of all others"
        return f"its {self.k} likeliest tokens alone, scaled to 1: a biased target, for all others are left out"


_OF_WEIGHTS = ("pretrain", "sft", "init", "config", "dtype", "resize_embeddings", "cache")


def _default(name: str) -> Any:
    return TeacherConfig.model_fields[name].get_default(call_default_factory=True)
