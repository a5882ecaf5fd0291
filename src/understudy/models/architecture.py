"""What a model's config says of it before a weight is read: its architecture and its kind."""

from __future__ import annotations

from transformers import AutoConfig, PreTrainedConfig

from understudy.models.kinds import KINDS, ModelKind, kind_named, kind_of
from understudy.models.sources import pretrained
from understudy.recipe import ModelConfig


def kind_at(config: ModelConfig, source: str) -> ModelKind:
    """The kind of a model: the recipe's, else by its config; causal where none can be read, as its weights will tell.

    Raises:
        ConfigError: the recipe names a kind that there is not.
    """
    if config.kind is not None:
        return kind_named(config.kind)
    try:
        return kind_of(architecture_of(config, source))
    except (OSError, ValueError, KeyError):
        return KINDS["causal"]


def architecture_of(config: ModelConfig, source: str) -> PreTrainedConfig:
    """The config of a model, read without its weights.

    Raises:
        OSError, ValueError, KeyError: there is none that can be read.
        ModelError: it is a GGUF file's, and what reads one is not installed.
    """
    with pretrained(config, source) as (name, arguments):
        return AutoConfig.from_pretrained(name, **arguments)
