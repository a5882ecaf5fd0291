"""Low-rank adapters: whether a model can have them, how it gets them, and how they become part of its weights."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from understudy.errors import ModelError
from understudy.models.kinds import kind_of
from understudy.models.load import first_line, fresh_model, is_quantized, resolve
from understudy.recipe import LoraConfig, ModelConfig


def add_lora(model: PreTrainedModel, config: LoraConfig) -> Any:
    """Wrap a model so that only low-rank adapters are trained (by `peft`).

    Raises:
        ModelError: the model has no such layers, or none so wide that an adapter of that rank made sense.
    """
    from peft import LoraConfig as PeftLoraConfig
    from peft import get_peft_model, prepare_model_for_kbit_training

    _check_targets(model, config)
    if config.quantize_4bit:
        model = prepare_model_for_kbit_training(model)
    peft_config = PeftLoraConfig(
        r=config.r,
        lora_alpha=config.lora_alpha if config.lora_alpha is not None else 2 * config.r,  # pyright: ignore
        lora_dropout=config.dropout,
        target_modules=config.target_modules,
        task_type=kind_of(model.config).peft_task,
        ensure_weight_tying=False,
    )
    try:
        with _ties_are_ours():
            return get_peft_model(model, peft_config)
    except ValueError as error:
        hint = f"layers that take one: {_layers_in_words(model)}"
        raise ModelError(f"lora.target_modules: {first_line(error)}", hint=hint) from error


def check_lora(config: ModelConfig, lora: LoraConfig) -> None:
    """Whether a model can be given such adapters, by its config alone: nothing is loaded, all is done without memory.

    Raises:
        ModelError: see `add_lora`.
    """
    source = resolve(config.model)
    try:
        with torch.device("meta"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = fresh_model(config, source, seed=0)
    except (OSError, ValueError, KeyError, NotImplementedError, RuntimeError):
        return  # What cannot be built like this is judged when the weights are there.
    add_lora(model, lora.model_copy(update={"quantize_4bit": False}))


def _check_targets(model: PreTrainedModel, config: LoraConfig) -> None:
    names = [name for name, _ in model.named_modules() if name]
    targets = config.target_modules
    if targets == "all-linear":
        unknown_names, adapted = [], set(_linear_layers(model))
    elif isinstance(targets, str):
        adapted = {name for name in names if _matches(targets, name)}
        unknown_names = [] if adapted else [targets]
    else:
        matching = {target: {n for n in names if n == target or n.endswith(f".{target}")} for target in targets}
        unknown_names = [target for target, layers in matching.items() if not layers]
        adapted = set().union(*matching.values())
    if unknown_names or not adapted:
        which = ", ".join(map(repr, unknown_names))
        raise ModelError(
            f"lora.target_modules: {f'the model has no layer {which}' if which else 'no layer is named'}",
            hint=f"it has {_layers_in_words(model)}; all-linear takes all but the head",
        )
    layers = [getattr(layer, "weight", None) for name, layer in model.named_modules() if name in adapted]
    widths = [max(weight.shape) for weight in layers if isinstance(weight, torch.Tensor)]
    if widths and config.r > max(widths) and not is_quantized(model):
        raise ModelError(
            f"lora.r {config.r:,}: the widest layer that it would adapt has {max(widths):,} columns",
            hint="a rank is meant to be far below them: 8 to 64 are common",
        )


def _matches(pattern: str, name: str) -> bool:
    try:
        return re.fullmatch(pattern, name) is not None
    except re.error as error:
        raise ModelError(
            f"lora.target_modules: {pattern!r} is no regular expression: {error}",
            hint="write the names of layers as a list, or all-linear",
        ) from error


def _linear_layers(model: PreTrainedModel) -> list[str]:
    """Names of the linear layers of a model, without its head."""
    head = model.get_output_embeddings()
    kinds = (torch.nn.Linear, Conv1D)
    return [name for name, module in model.named_modules() if isinstance(module, kinds) and module is not head]


def _layers_in_words(model: PreTrainedModel) -> str:
    return ", ".join(dict.fromkeys(name.rpartition(".")[2] for name in _linear_layers(model)))


def merged(model: Any, reload: Callable[[], PreTrainedModel] | None = None) -> PreTrainedModel:
    """The model with its adapters merged into its weights; a tie that an adapter on either side cut is undone first.

    Args:
        model: a model, with or without adapters.
        reload: loads the base in full precision; adapters that were trained over four-bit weights are merged into it,
            for a merge into the four bits would round them away.
    """
    if not hasattr(model, "merge_and_unload"):
        return model
    if is_quantized(model.get_base_model()) and reload is not None:
        model = _moved(model, reload())
    base = model.get_base_model()
    tied = base.config.tie_word_embeddings
    layers = [base.get_output_embeddings(), base.get_input_embeddings()]
    head, embedding = (getattr(layer, "base_layer", layer) for layer in layers)
    adapted = any(layer is not getattr(layer, "base_layer", layer) for layer in layers)
    if head is not None and head.weight is embedding.weight and adapted:
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)
        base.config.tie_word_embeddings = False
        base.config.get_text_config().tie_word_embeddings = False
    with _ties_are_ours():
        merged_model = model.merge_and_unload()
    # Where the field says more than that, it stays: a head of its own is saved and read again in any case.
    if kind_of(base.config).keeps_ties:
        base.config.tie_word_embeddings = tied
    return merged_model


def _moved(model: Any, base: PreTrainedModel) -> Any:
    """The adapters of `model` on another base."""
    from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict

    with _ties_are_ours():
        onto = PeftModel(base, model.peft_config["default"])
        set_peft_model_state_dict(onto, get_peft_model_state_dict(model))
    return onto


@contextmanager
def _ties_are_ours() -> Iterator[None]:
    """Keep peft quiet on tied weights: `head_of` honours an adapter on a tied head, and `merged` unties it."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*[Tt]ie.*|.*tied.*", category=UserWarning)
        # peft still asks the model by a name that transformers is about to drop.
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.* is deprecated", category=FutureWarning)
        yield
