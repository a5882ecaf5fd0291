"""What all sections have in common, and the sections of language models that are reached over HTTP."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from understudy import bounds


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, docstrings are the documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


class TransportConfig(Section):
    """Where a language model is, how fast it is asked and what may be spent: nothing of what it says."""

    base_url: str | None = None
    """The endpoint, for example http://localhost:8000/v1. Default: load `model` in this process."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; keys never stand in a recipe."""
    concurrency: int = Field(default=8, gt=0, le=bounds.AT_ONCE)
    """Requests under way at once."""
    timeout: float = Field(default=60.0, gt=0, le=bounds.SECONDS)
    """Seconds until an unanswered request is given up and tried again."""
    max_retries: int = Field(default=6, ge=0, le=bounds.RETRIES)
    """How often a request is tried again after 429, 5xx or a timeout; a broken answer is asked for twice more."""
    max_calls: int | None = Field(default=None, gt=0, le=bounds.CALLS)
    """Budget in calls of a run, its restarts included; what is left is listed as missing."""
    max_total_tokens: int | None = Field(default=None, gt=0, le=bounds.BUDGET_TOKENS)
    """Budget in tokens of a run, its restarts included, read and written."""
    input_price: float | None = Field(default=None, ge=0, le=bounds.MONEY)
    """Price of a million tokens read, in any currency; every text then carries its cost."""
    output_price: float | None = Field(default=None, ge=0, le=bounds.MONEY)
    """Price of a million tokens written."""
    max_cost: float | None = Field(default=None, gt=0, le=bounds.MONEY)
    """Budget in money of a run, its restarts included, by the two prices."""


TRANSPORT_FIELDS = tuple(TransportConfig.model_fields)
"""Fields of an endpoint that cannot change what it answers."""


class AnsweringConfig(Section):
    """Which language model answers in text, and how it is sampled."""

    model: str
    """The model's name at the endpoint; without `base_url`, a hub id, a folder or an embedded model."""
    temperature: float = Field(default=0.0, ge=0, le=bounds.TEMPERATURE)
    """Sampling temperature."""
    max_tokens: int = Field(default=1024, gt=0, le=bounds.TOKENS)
    """Longest answer in tokens."""


class EndpointConfig(TransportConfig, AnsweringConfig):
    """A language model that answers in text: behind an OpenAI-compatible endpoint, or in this process."""


class JudgeConfig(EndpointConfig):
    """The language model that judges answers."""

    repeats: int = Field(default=1, gt=0, le=bounds.REPEATS)
    """How often each item is judged: two or more give the judge's own variance (set a temperature above 0)."""
