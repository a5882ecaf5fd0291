"""The head of a language model, read off the model once: weight, bias, softcap, scale and an adapter on it."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from understudy.errors import ModelError
from understudy.losses.heads import Head


def base_model(model: nn.Module) -> Any:
    """The language model inside its adapter wrapper, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model  # pyright: ignore[reportCallIssue]


def head_of(model: nn.Module) -> Head:
    """Read the head off a model: weight, bias, softcap, scale and any adapter on it.

    Raises:
        ModelError: the model has no linear head, or an adapter with dropout sits on it (its effect cannot be written
            as one weight).
    """
    base = base_model(model)
    layer = base.get_output_embeddings()
    if layer is None:
        hint = "use a causal model or an encoder–decoder"
        raise ModelError(f"{type(base).__name__} has no language-model head", hint=hint)
    config = base.config.get_text_config(decoder=True)
    softcap = getattr(config, "final_logit_softcapping", None)
    scale = float(getattr(config, "logit_scale", None) or 1.0) / float(getattr(config, "logits_scaling", None) or 1.0)
    scale *= _decoder_scale(base)
    return Head(_effective_weight(layer), _bias(base, layer), float(softcap) if softcap else None, scale)


# Which field of its config says that an encoder–decoder scales its states before the head.
_SCALES = {
    "t5": "scale_decoder_outputs",
    "longt5": "scale_decoder_outputs",
    "umt5": "tie_word_embeddings",
    "switch_transformers": "tie_word_embeddings",
}


def _decoder_scale(base: Any) -> float:
    """T5's factor d^(−1/2) between states and head; T5 v1.1 has none."""
    field = _SCALES.get(base.config.model_type)
    return base.config.d_model**-0.5 if field and getattr(base.config, field, False) else 1.0


def _effective_weight(layer: Any) -> Tensor:
    if hasattr(layer, "modules_to_save"):
        layer = layer.modules_to_save[
            layer.active_adapter[0] if isinstance(layer.active_adapter, list) else layer.active_adapter
        ]
    if not hasattr(layer, "lora_A"):
        return layer.weight
    weight = layer.base_layer.weight
    if layer.disable_adapters or layer.merged:
        return weight
    for name in layer.active_adapters:
        if name not in layer.lora_A:
            continue
        dropout = layer.lora_dropout[name]
        if layer.training and getattr(dropout, "p", 0.0) > 0:
            raise ModelError(
                "an adapter with dropout sits on the head, and its effect is no single matrix",
                hint="set lora.dropout to 0 or leave the head out of lora.target_modules",
            )
        if getattr(layer, "use_dora", {}).get(name):
            raise ModelError("DoRA on the head is not supported", hint="leave the head out of the adapter's targets")
        delta = layer.lora_B[name].weight @ layer.lora_A[name].weight
        weight = weight + (layer.scaling[name] * delta).to(weight.dtype)
    return weight


def _bias(base: Any, layer: Any) -> Tensor | None:
    layer_bias = getattr(getattr(layer, "base_layer", layer), "bias", None)
    # BART and its relatives keep a bias outside the layer, as a buffer that is not trained.
    final_bias = getattr(base, "final_logits_bias", None)
    if final_bias is None:
        return layer_bias
    return final_bias[0] if layer_bias is None else layer_bias + final_bias[0]
