"""What a model's config says of it before a weight is read: its kind, and what its decoder begins with."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from transformers import (
    MODEL_FOR_CAUSAL_LM_MAPPING,
    MODEL_FOR_MASKED_LM_MAPPING,
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    GenerationConfig,
    PreTrainedConfig,
)

from understudy.errors import ModelError
from understudy.recipe import ModelConfig


def decoder_facts(config: ModelConfig, source: str) -> dict[str, Any]:
    """What a template must know of an encoder–decoder, by its config alone."""
    try:
        architecture = architecture_of(config, source)
    except (OSError, ValueError, KeyError):
        return {}  # What is missing is named when the weights are loaded.
    if not architecture.is_encoder_decoder:
        return {}
    start = getattr(architecture, "decoder_start_token_id", None)
    if start is None:
        with suppress(OSError, ValueError):
            start = GenerationConfig.from_pretrained(
                source, revision=revision_of(config, source)
            ).decoder_start_token_id
    return {"encoder_decoder": True, "start_id": start}


def architecture_of(config: ModelConfig, source: str) -> PreTrainedConfig:
    """The config of a model, read without its weights.

    Raises:
        OSError, ValueError, KeyError: there is none that can be read.
    """
    return AutoConfig.from_pretrained(
        source, revision=revision_of(config, source), trust_remote_code=config.trust_remote_code
    )


def auto_class(architecture: PreTrainedConfig, name: str) -> Any:
    """The auto class that opens an architecture as a model that writes text.

    Raises:
        ModelError: it only reads (BERT and kin). `transformers` would open it as a language model whose positions all
            see each other, so that it learns to copy what it should foresee.
    """
    if architecture.is_encoder_decoder:
        return AutoModelForSeq2SeqLM
    kind = type(architecture)
    reads = kind in MODEL_FOR_MASKED_LM_MAPPING and (
        kind not in MODEL_FOR_CAUSAL_LM_MAPPING or not getattr(architecture, "is_decoder", False)
    )
    if reads:
        raise ModelError(
            f"{name} ({architecture.model_type}) is an encoder: it reads text and writes none",
            hint="take a causal model (Llama, Qwen, GPT-2 …) or an encoder–decoder (T5, BART …)",
        )
    return AutoModelForCausalLM


def revision_of(config: ModelConfig, source: str) -> str:
    """The revision to read; folders of earlier stages and other sources have none of the recipe's."""
    return config.revision or "main" if source == config.model else "main"
