"""What a model's config says of it before a weight is read: its kind, and what its template must know."""

from __future__ import annotations

from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from understudy.models.kinds import KINDS, ModelKind, kind_of
from understudy.models.sources import revision_of
from understudy.recipe import ModelConfig


def template_fields(config: ModelConfig, source: str) -> dict[str, Any]:
    """What a template must know of a model's kind, by the model's config alone."""
    try:
        architecture = architecture_of(config, source)
    except (OSError, ValueError, KeyError):
        return {}  # What is missing is named when the weights are loaded.
    return kind_of(architecture).template_fields(config, architecture, source)


def kind_at(config: ModelConfig, source: str) -> ModelKind:
    """The kind of a model, by its config alone; causal where none can be read, as its weights will tell."""
    try:
        return kind_of(architecture_of(config, source))
    except (OSError, ValueError, KeyError):
        return KINDS["causal"]


def architecture_of(config: ModelConfig, source: str) -> PreTrainedConfig:
    """The config of a model, read without its weights.

    Raises:
        OSError, ValueError, KeyError: there is none that can be read.
    """
    return AutoConfig.from_pretrained(
        source, revision=revision_of(config, source), trust_remote_code=config.trust_remote_code
    )


def auto_class(architecture: PreTrainedConfig, name: str) -> Any:
    """The auto class that opens an architecture, by its kind.

    Raises:
        ModelError: no kind can open it.
    """
    return kind_of(architecture).auto_class(architecture, name)
