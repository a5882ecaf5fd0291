"""The section of several teachers: who else is heard beside `teacher`, on which rows, and how much each counts."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from understudy import bounds
from understudy.recipe.endpoint import TRANSPORT_FIELDS, EndpointConfig, Section, TransportConfig
from understudy.recipe.methods import METHODS, MethodConfig, why_foreign
from understudy.recipe.training import Dtype, ModelConfig, TrainConfig

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


class OtherTeacherConfig(TransportConfig, Voice):
    """A further teacher, ready as it is. Without `distil` it has the vocabulary of `teacher`, reads the same tokens
    and is part of the mean; with it, it may have any, reads tokens of its own, and its loss is added.
    """

    model: str | None = None
    """A hub id, a folder or a GGUF file."""
    cache: str | None = None
    """In place of a model: a folder that `understudy cache` wrote of a teacher."""
    distil: dict[str, Any] | None = None
    """By which method the student learns from it, with that method's options: `{method: uld, loss_temperature: 1}`.
    Steps, rates and `gold_weight` are those of the recipe's own `distil`."""
    kind: str | None = None
    """As `teacher.kind`; default: what its config tells."""
    labels: tuple[str, ...] = ()
    """As `teacher.labels`."""
    tokenizer: str | None = None
    """With `distil`: a tokenizer that does not lie beside the model; a cache has none. With `base_url` it is needed."""
    k: int = Field(default=20, gt=0, le=bounds.TOP_K)
    """Of a server: log-probabilities of how many tokens it is asked for at each position."""
    tail: Literal["bucket", "renormalise"] = "bucket"
    """Of a server: as `teacher.tail`; in a mean it is `bucket`."""
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

    @model_validator(mode="after")
    def _served(self) -> Self:
        """What a server can be asked for, and what needs one."""
        fields = [name for name in (*TRANSPORT_FIELDS, "k", "tail") if name in self.model_fields_set]
        if not self.remote:
            if changed := [name for name in fields if getattr(self, name) != _default(name)]:
                raise ValueError(f"{changed[0]} is of a teacher on a server: it needs base_url")
            return self
        if self.model is None or self.tokenizer is None:
            raise ValueError("a teacher on a server needs model, its name there, and tokenizer, a folder or a hub id")
        if self.dtype != "auto":
            raise ValueError("dtype is for a model that is loaded here, and base_url names one on a server")
        if self.distil is None and self.tail != "bucket":
            raise ValueError("tail: renormalise changes what a teacher says, and a mean is of what teachers say")
        return self

    @model_validator(mode="after")
    def _own_tokens(self) -> Self:
        """A tokenizer where it reads tokens of its own, and only there."""
        if self.distil is None and self.tokenizer is not None and not self.remote:
            raise ValueError("tokenizer: a teacher that is part of the mean reads the tokens of `teacher`")
        if self.distil is not None and self.cache is not None and self.tokenizer is None:
            raise ValueError("a cache with a method of its own needs the tokenizer that it was written with")
        return self

    @field_validator("distil")
    @classmethod
    def _method_of_its_own(cls, section: dict[str, Any] | None) -> dict[str, Any] | None:
        """A method, and nothing but its options."""
        if section is None:
            return None
        method = section.get("method")
        if method not in METHODS:
            raise ValueError(f"distil.method: one of {', '.join(METHODS)}")
        for name in section:
            if name in TrainConfig.model_fields or name == "gold_weight":
                raise ValueError(f"distil.{name} is that of the recipe's own section distil")
            if name not in METHODS[method].model_fields and (reason := why_foreign(method, name)):
                raise ValueError(f"distil.{name} {reason}")
        try:
            METHODS[method].model_validate(section)
        except ValidationError as error:
            fault = error.errors()[0]
            place = ".".join(str(part) for part in fault["loc"])
            raise ValueError(f"distil.{place}: {fault['msg']}") from error
        return section

    def read_by(self, distil: MethodConfig) -> MethodConfig:
        """The method by which the student learns from it: its own options, all else as the arm's own section says."""
        assert self.distil is not None, "it is part of the mean"
        common = {name: getattr(distil, name) for name in (*TrainConfig.model_fields, "gold_weight")}
        # A server speaks at temperature 1: so does the loss, unless the recipe names another.
        common |= {"loss_temperature": 1.0} if self.remote else {}
        return METHODS[self.distil["method"]].model_validate({**common, **self.distil})

    @property
    def remote(self) -> bool:
        """Whether it is asked over HTTP."""
        return self.base_url is not None

    @property
    def endpoint(self) -> EndpointConfig:
        """The server as whoever answers in text."""
        assert self.model is not None
        return EndpointConfig(model=self.model, **{name: getattr(self, name) for name in TRANSPORT_FIELDS})

    @property
    def as_first(self) -> dict[str, Any]:
        """The section `teacher` in which it would be the only one."""
        if not self.remote:
            return self.loaded_as.model_dump()
        return self.model_dump(include={"model", "tokenizer", "k", "tail", *TRANSPORT_FIELDS})

    @property
    def loaded_as(self) -> ModelConfig:
        """The section of its model; of a cache or a server, that of its tokenizer alone."""
        model = self.model if self.model is not None and not self.remote else self.tokenizer
        assert model is not None
        return ModelConfig(
            model=model,
            tokenizer=self.tokenizer if self.model is not None and not self.remote else None,
            kind=self.kind,
            labels=self.labels,
            dtype=self.dtype,
            revision=self.revision,
            trust_remote_code=self.trust_remote_code,
        )


class TeachersConfig(Voice):
    """Several teachers, of one vocabulary heard as one, of others by a loss of their own (`understudy docs teachers`).
    `weight` and `where` are those of `teacher`, which also writes the answers.
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

    @property
    def averaged(self) -> dict[str, OtherTeacherConfig]:
        """The further teachers that are part of the mean."""
        return {name: other for name, other in self.others.items() if other.distil is None}

    @property
    def added(self) -> dict[str, OtherTeacherConfig]:
        """The further teachers whose loss is added."""
        return {name: other for name, other in self.others.items() if other.distil is not None}

    @property
    def parts(self) -> dict[str, tuple[int, ...]]:
        """The parts of the loss: what is learned of `teacher` and its mean, then of each that is added; places in
        `voices`.
        """
        places = {name: place for place, name in enumerate(self.voices)}
        first = (places[FIRST], *(places[name] for name in self.averaged))
        return {FIRST: first, **{name: (places[name],) for name in self.added}}

    def methods(self, distil: MethodConfig) -> dict[str, MethodConfig]:
        """By which method each that is added is read.

        Args:
            distil: the section of the arm.
        """
        return {name: other.read_by(distil) for name, other in self.added.items()}

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

    def why_not(self, targets: str) -> str:
        """Why what a cache or a server keeps of a teacher has no place in this mean; empty where it has one.

        Args:
            targets: `states`, `topk` or `sampled`.
        """
        if targets == "sampled":
            return "a sample has no entropy of a mean, which its loss is counted from; take topk or states"
        if targets == "topk" and self.mean == "log_probabilities":
            return (
                "the mean of log-probabilities needs the probability of each token, and of all but the likeliest only "
                "their sum is known; take teachers.mean: probabilities, or states"
            )
        if targets == "topk" and self.by_confidence:
            return (
                "teachers.by_confidence needs the entropy of each teacher, and that of all but its likeliest tokens is "
                "not known; leave it out, or take states"
            )
        return ""

    def words(self) -> str:
        """Who is heard, with which weights and by which methods, in a sentence's part."""
        named = {
            name: f"{name} ({voice.weight:g}{_where_in_words(voice.where)})" for name, voice in self.voices.items()
        }
        parts = [named[name] for name in (FIRST, *self.averaged)]
        mean = "probabilities" if self.mean == "probabilities" else "log-probabilities"
        confidence = ", each weighed by exp(−entropy) token by token" if self.by_confidence else ""
        first = f"the mean of the {mean} of {', '.join(parts)}{confidence}" if self.averaged else parts[0]
        added = [f"{named[name]} by {(other.distil or {})['method']}" for name, other in self.added.items()]
        return "; added to it the losses of ".join([first, *([", ".join(added)] if added else [])])


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


def _default(name: str) -> Any:
    return OtherTeacherConfig.model_fields[name].get_default(call_default_factory=True)
