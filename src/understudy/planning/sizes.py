"""How large models are, by their configs alone: built on the `meta` device, where weights have shapes and no memory."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import torch

from understudy.errors import ModelError
from understudy.models.adapters import add_lora
from understudy.models.cut import choose, cut_shape
from understudy.models.load import first_line, fresh_model, resolve
from understudy.recipe import LoraConfig, ModelConfig, StudentConfig


@dataclass(frozen=True)
class ModelSize:
    """What a model is made of.

    Attributes:
        parameters: each once, where two layers share them.
        trained: of them, or of the adapters, those that training changes.
        matrix: parameters that every token is multiplied by: without embedding tables, with the head.
        layers: blocks of its stacks.
        width: of the hidden state.
        inner: neurons of a block's feed-forward layer.
        kv_width: numbers that one block keeps of a token for keys and values together.
        vocabulary: rows of the head; 0 where it has none.
    """

    parameters: int
    trained: int
    matrix: int
    layers: int
    width: int
    inner: int
    kv_width: int
    vocabulary: int


def size_of(config: ModelConfig, lora: LoraConfig | None) -> ModelSize:
    """The size of a model as a training has it; no weight is loaded.

    Raises:
        ModelError: its config cannot be read, or nothing can be built of it.
    """
    model = shape_of(config)
    architecture = model.config.get_text_config() if hasattr(model.config, "get_text_config") else model.config
    plain = {id(p): p.numel() for p in model.parameters()}
    tables = {id(m.weight): m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    head: Any = model.get_output_embeddings() if hasattr(model, "get_output_embeddings") else None
    vocabulary = 0 if head is None else head.weight.shape[0]
    again = head.weight.numel() if head is not None and id(head.weight) in tables else 0
    matrix = sum(plain.values()) - sum(tables.values()) + again
    layers, width = _first(architecture, "num_hidden_layers", "num_layers", "n_layer"), _width(architecture)
    trained = sum(plain.values())
    if lora is not None:
        adapted = add_lora(model, lora.model_copy(update={"quantize_4bit": False}))
        trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    heads = _first(architecture, "num_attention_heads", "n_head") or 1
    groups = _first(architecture, "num_key_value_heads") or heads
    inner = _first(architecture, "intermediate_size", "d_ff", "n_inner", "ffn_dim") or 4 * width
    return ModelSize(
        parameters=sum(plain.values()),
        trained=trained,
        matrix=matrix,
        layers=layers,
        width=width,
        inner=inner,
        kv_width=2 * groups * (_first(architecture, "head_dim", "d_kv") or width // heads),
        vocabulary=vocabulary,
    )


def shape_of(config: ModelConfig) -> Any:
    """A model without weights, cut to its shape where it is cut from its teacher.

    Raises:
        ModelError: its config cannot be read, or nothing can be built of it.
    """
    source = resolve(config.model)
    try:
        with torch.device("meta"), warnings.catch_warnings():
            # Of weights that are not there, nothing is drawn.
            warnings.simplefilter("ignore")
            model = _built(config, source)
    except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError) as error:
        raise ModelError(
            f"cannot read the architecture of {source}: {first_line(error)}",
            hint="a plan needs the model's config.json here, or a hub that can be reached",
        ) from error
    model.config.architectures = [type(model).__name__]
    return model


def _built(config: ModelConfig, source: str) -> Any:
    own = config.model_copy(update={"config": config.config if config.init == "fresh" else {}})
    model = fresh_model(own, source, seed=0)
    cut = config.from_teacher if isinstance(config, StudentConfig) else None
    return model if cut is None else cut_shape(model, choose(model, cut, ()), 0)


def _width(architecture: Any) -> int:
    return _first(architecture, "hidden_size", "d_model", "n_embd") or 1


def _first(architecture: Any, *names: str) -> int:
    """The first of some fields that a config has as a number, 0 where it has none."""
    values = (getattr(architecture, name, None) for name in names)
    return next((value for value in values if isinstance(value, int) and value > 0), 0)
