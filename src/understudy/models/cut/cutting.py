"""From a teacher and what stays of it to a student."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from understudy.errors import ModelError
from understudy.models.cut.choice import Kept
from understudy.models.cut.widths import CHANNELS, KEYS, NEURONS, QUERIES, axes_of, head_width, taken
from understudy.models.stacks import stacks_of


def cut_model(model: Any, kept: Kept) -> Any:
    """A model of its own that has what stays of another, in the same dtype.

    Every weight of the student is one of the teacher's, or the part of one along the channels, heads and neurons that
    stay; nothing is rescaled.

    Raises:
        ModelError: the architecture does not take the shape.
    """
    student, weights = empty_student(model, kept), model.state_dict()
    parts = {new: _part(name, weights[name], model, kept) for name, new in _names(weights, kept).items()}
    try:
        student.load_state_dict(parts, strict=True)
    except RuntimeError as error:
        raise ModelError(
            f"{type(model).__name__} does not take this shape: {str(error).splitlines()[-1].strip()}",
            hint="keep other blocks, or take a student of its own: student.model",
        ) from error
    if hasattr(model, "generation_config"):
        student.generation_config = copy.deepcopy(model.generation_config)
    return student.to(device=model.device, dtype=model.dtype).eval()


def cut_shape(model: Any, kept: Kept, seed: int) -> Any:
    """A model of the shape of what stays, with random weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return empty_student(model, kept).to(device=model.device, dtype=model.dtype).eval()


def empty_student(model: Any, kept: Kept) -> Any:
    """A model of the shape of what stays."""
    try:
        return type(model)(_config(model, kept))
    except (ValueError, TypeError, KeyError) as error:
        raise ModelError(
            f"{type(model).__name__} does not take this shape: {str(error).splitlines()[0]}",
            hint="keep other blocks, or take a student of its own: student.model",
        ) from error


def _config(model: Any, kept: Kept) -> Any:
    config = copy.deepcopy(model.config)
    for stack in stacks_of(model):
        blocks = kept.blocks[stack.path]
        for name, value in list(vars(config).items()):
            if isinstance(value, list) and len(value) == len(stack.blocks) and "layer" in name:
                setattr(config, name, [value[n] for n in blocks])
        setattr(config, stack.field, len(blocks))
    if kept.channels is not None or kept.heads:
        config.head_dim = head_width(model)
    if kept.channels is not None:
        config.hidden_size = len(kept.channels)
    if kept.heads:
        queries, keys = kept.heads[0]
        config.num_attention_heads, config.num_key_value_heads = len(queries), len(keys)
    if kept.neurons:
        config.intermediate_size = len(kept.neurons[0])
    return config


def _names(weights: Iterable[str], kept: Kept) -> dict[str, str]:
    """Name of a weight of the teacher → its name in the student; those of blocks that go are left out."""
    return {name: new for name in weights if (new := _new_name(name, kept))}


def _new_name(name: str, kept: Kept) -> str:
    """What a weight is called in the student; empty where its block goes."""
    for path, blocks in kept.blocks.items():
        if name.startswith(f"{path}."):
            number, _, rest = name.removeprefix(f"{path}.").partition(".")
            return f"{path}.{blocks.index(int(number))}.{rest}" if int(number) in blocks else ""
    return name


def _part(name: str, weight: Tensor, model: Any, kept: Kept) -> Tensor:
    """What stays of a weight."""
    if kept.channels is None and not kept.heads and not kept.neurons:
        return weight
    [(path, blocks)] = kept.blocks.items()
    indices: dict[str, Tensor | None] = {CHANNELS: kept.channels}
    if name.startswith(f"{path}."):
        place = blocks.index(int(name.removeprefix(f"{path}.").partition(".")[0]))
        if kept.heads:
            width = head_width(model)
            indices[QUERIES], indices[KEYS] = (_of_heads(heads, width) for heads in kept.heads[place])
        if kept.neurons:
            indices[NEURONS] = kept.neurons[place]
    axes = axes_of(name)
    assert axes is not None, f"{name} was not checked"
    return taken(weight, axes, indices)


def _of_heads(heads: Tensor, width: int) -> Tensor:
    """The rows of some heads, each `width` wide."""
    return (heads[:, None] * width + torch.arange(width, device=heads.device)).flatten()
