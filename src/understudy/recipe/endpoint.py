"""What all sections have in common, and the section that names a language model which answers in text."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from understudy import bounds


class Section(BaseModel):
    """A part of a recipe: unknown keys are refused, docstrings are the documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False)


TRANSPORT_FIELDS = (
    *("base_url", "api_key_env", "concurrency", "timeout", "max_retries"),
    *("max_calls", "max_total_tokens", "input_price", "output_price", "max_cost"),
)
"""Fields of an endpoint that say where it is, how fast it is asked and what may be spent, not what it answers."""


class EndpointConfig(Section):
    """A language model that answers in text: behind an OpenAI-compatible endpoint, or in this process."""

    model: str
    """The model's name at the endpoint; without `base_url`, a hub id, a folder or an embedded model."""
    base_url: str | None = None
    """The endpoint, for example http://localhost:8000/v1. Default: load `model` in this process."""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; keys never stand in a recipe."""
    temperature: float = Field(default=0.0, ge=0, le=bounds.TEMPERATURE)
    """Sampling temperature."""
    max_tokens: int = Field(default=1024, gt=0, le=bounds.TOKENS)
    """Longest answer in tokens."""
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


class JudgeConfig(EndpointConfig):
    """The language model that judges answers."""

    repeats: int = Field(default=1, gt=0, le=bounds.REPEATS)
    """How often each item is judged: two or more give the judge's own variance (set a temperature above 0)."""
