"""A forward pass that stops before the head: last hidden states, and the head that would turn them into logits.

The logits of a whole batch, `[B, S, V]`, are the largest tensor of distillation and nearly all of it is thrown
away. Here they exist only when somebody asks (`Head.logits`). What lies between hidden state and logits – bias,
softcap, scale, an adapter on the head – is read off the model once, and `probe` checks at load that nothing was missed.

Of an encoder–decoder the states are the decoder's.

Legend: `B` rows, `S` positions, `N` target tokens, `d` width, `V` vocabulary (see `understudy.types`).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from understudy.errors import ModelError
from understudy.losses.heads import Head, HeadStates
from understudy.models.kinds import kind_of
from understudy.types import Tokens


@dataclass(frozen=True)
class Output:
    """What a model says of the target tokens of a batch.

    Attributes:
        hidden: `[N, d]`, the last hidden states that predict the target tokens.
        head: turns them into logits.
        target_ids: `[N]`, the target tokens in this model's vocabulary.
        lengths: target tokens of each row, `B` integers that add up to `N`.
        input_embeddings: `[N, d_e]`, embeddings of the tokens at the predicting positions (detached), or None.
        target_embeddings: `[N, d_e]`, embeddings of the target tokens (detached), or None.
    """

    hidden: Tensor
    head: Head
    target_ids: Tensor
    lengths: tuple[int, ...]
    input_embeddings: Tensor | None = None
    target_embeddings: Tensor | None = None

    @property
    def states(self) -> HeadStates:
        """States and head as the losses take them; the product runs in the dtype of the states."""
        return HeadStates(self.hidden, dataclasses.replace(self.head, weight=self.head.weight.to(self.hidden.dtype)))


def forward(model: nn.Module, tokens: Tokens, *, embeddings: bool = False) -> Output:
    """Run a language model up to its head and keep the states that predict target tokens.

    Args:
        model: a `PreTrainedModel` or a `PeftModel` around one.
        tokens: what it eats.
        embeddings: also gather the token embeddings (cross-model attention needs them).

    Returns:
        The states and the head; nothing of size `[N, V]`.
    """
    base = base_model(model)
    kind = kind_of(base.config)
    states = kind.states(base, tokens["inputs"])
    mask = tokens["target_mask"]
    lengths = tuple(mask.sum(dim=1).tolist())
    inner, outer = None, None
    if embeddings:
        with torch.no_grad():
            inner, outer = kind.embedded(base, tokens["inputs"], mask, tokens["target_ids"])
    return Output(states[mask], head_of(model), tokens["target_ids"], lengths, inner, outer)


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
    own = getattr(getattr(layer, "base_layer", layer), "bias", None)
    # BART and kin keep theirs apart, as a constant.
    final_bias = getattr(base, "final_logits_bias", None)
    if final_bias is None:
        return own
    return final_bias[0] if own is None else own + final_bias[0]


@torch.no_grad()
def probe(model: PreTrainedModel, inputs: dict[str, Tensor], *, name: str = "model") -> float:
    """Assert that `head(hidden)` is what the model itself computes, on a short real input.

    Args:
        model: the model, as it will be trained (adapters in place).
        inputs: `input_ids` and `attention_mask` `[1, S]`, and an encoder–decoder's `decoder_input_ids` and mask.
        name: how to call the model in the message.

    Returns:
        The largest difference, relative to the largest logit.

    Raises:
        ModelError: they differ: something between hidden state and logits is unknown to `head_of`.
    """
    training = model.training
    try:
        if any(parameter.requires_grad for parameter in model.parameters()):
            # Dropout on the head shows itself in training alone.
            head_of(model.train())
        model.eval()
        expected = model(**inputs, use_cache=False).logits.float()
        base = base_model(model)
        logits = head_of(model).logits(kind_of(base.config).states(base, inputs)).float()
    finally:
        model.train(training)
    if logits.shape != expected.shape:
        raise ModelError(f"{name}: the head gives {tuple(logits.shape)}, the model {tuple(expected.shape)}")
    gap = ((logits - expected).abs().max() / expected.abs().max().clamp_min(1e-6)).item()
    tolerance = 1e-4 if expected.dtype == torch.float32 and next(model.parameters()).dtype == torch.float32 else 3e-2
    if not gap <= tolerance:
        raise ModelError(
            f"{name}: head(hidden) differs from the model's own logits by {gap:.2%}",
            hint="this architecture does something between hidden state and logits that understudy does not know",
        )
    return gap
