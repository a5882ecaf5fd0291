"""The section of several teachers: who else is heard beside `teacher`, on which rows, and how much each counts."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from understudy import bounds
from understudy.recipe.endpoint import Section
from understudy.recipe.training import Dtype, ModelConfig

FIRST = "teacher"
"""What the recipe's own teacher is called among the others."""
OTHERWISE = "otherwise"

Where = dict[str, Any] | Literal["otherwise"] | None


class Voice(Section):
    """How much a teacher counts, and on which rows."""

    weight: float = Field(default=1.0, gt=0, le=bounds.FACTOR)
    """Its weight; those of the teachers that are heard on a row are scaled to 1."""
    where: Where = None
    """Fields of a row and the value (or list of values) that each must have for this teacher to be heard, such as
    `{category: radio}`; `otherwise`: on rows that no other `where` names; default: on all."""

    @field_validator("where")
    @classmethod
    def _names_something(cls, where: Where) -> Where:
        """At least one field."""
        if where == {}:
            raise ValueError("where: name a field and its value, or leave it out")
        return where


class OtherTeacherConfig(Voice):
    """A further teacher, ready as it is: of the vocabulary of `teacher`, and reading the same tokens."""

    model: str | None = None
    """A hub id, a folder or a GGUF file."""
    cache: str | None = None
    """In place of a model: a folder of hidden states that `understudy cache` wrote of a teacher."""
    dtype: Dtype = "auto"
    """Floating-point type of its weights."""
    revision: str | None = None
    """Revision of a hub id."""
    trust_remote_code: bool = False
    """Run code that comes with a hub model. Leave it off unless you have read that code."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        """A model or a cache."""
        if (self.model is None) == (self.cache is None):
            raise ValueError("give one of model and cache")
        return self

    @property
    def loaded_as(self) -> ModelConfig:
        """The section of its model; it has one."""
        assert self.model is not None
        return ModelConfig(
            model=self.model, dtype=self.dtype, revision=self.revision, trust_remote_code=self.trust_remote_code
        )


class TeachersConfig(Voice):
    """Several teachers of one vocabulary, heard as one (`understudy docs teachers`). `weight` and `where` are those of
    `teacher`, which also writes the answers.
    """

    others: dict[str, OtherTeacherConfig] = Field(default_factory=dict)
    """The further teachers, each under a name; without any, `teacher` is heard alone."""
    mean: Literal["probabilities", "log_probabilities"] = "probabilities"
    """Which mean of the distributions is learned: Σ w·p, or Σ w·log p, scaled to add up to 1."""
    by_confidence: bool = False
    """Weigh each teacher on each token by exp(−H) too, with H the entropy of what it says."""

    @field_validator("others")
    @classmethod
    def _named(cls, others: dict[str, OtherTeacherConfig]) -> dict[str, OtherTeacherConfig]:
        """Names of their own."""
        if FIRST in others:
            raise ValueError(f"{FIRST} is the name of the recipe's own: give it another")
        return others

    @property
    def voices(self) -> dict[str, Voice]:
        """Every teacher by name, the recipe's own first."""
        return {FIRST: self, **self.others}

    def shares(self, fields: dict[str, Any]) -> tuple[float, ...]:
        """What each of `voices` counts on a row of these fields; they add up to 1, or are all 0: nobody is heard.

        Args:
            fields: of the row.
        """
        voices = list(self.voices.values())
        named = [isinstance(voice.where, dict) and _fits(voice.where, fields) for voice in voices]
        heard = [
            match or voice.where is None or (voice.where == OTHERWISE and not any(named))
            for voice, match in zip(voices, named, strict=True)
        ]
        weights = [voice.weight if on else 0.0 for voice, on in zip(voices, heard, strict=True)]
        whole = sum(weights)
        return tuple(weight / whole if whole else 0.0 for weight in weights)

    def words(self) -> str:
        """Who is heard, with which weights, in a sentence's part."""
        parts = [f"{name} ({voice.weight:g}{_where_in_words(voice.where)})" for name, voice in self.voices.items()]
        mean = "probabilities" if self.mean == "probabilities" else "log-probabilities"
        confidence = ", each weighed by exp(−entropy) token by token" if self.by_confidence else ""
        return f"the mean of the {mean} of {', '.join(parts)}{confidence}"


def _fits(where: dict[str, Any], fields: dict[str, Any]) -> bool:
    """Whether a row's fields have the values named; numbers are compared as they are written."""
    return all(name in fields and str(fields[name]) in map(str, _listed(value)) for name, value in where.items())


def _where_in_words(where: Where) -> str:
    if where is None:
        return ""
    if isinstance(where, str):
        return " on all other rows"
    named = (f"{name} = {' or '.join(map(str, _listed(value)))}" for name, value in where.items())
    return f" where {', '.join(named)}"


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
