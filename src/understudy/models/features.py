"""Inner states of a model, taken on their way: what its blocks read and give, and their queries, keys and values.

Hooks take them while the kind of the model runs it as ever, so that nothing here knows of kinds or architectures.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from torch import nn

from understudy.errors import ModelError
from understudy.models.head import base_model
from understudy.models.inner_states import Features, WantedFeatures
from understudy.models.stacks import Stack, stacks_of

_NAMES = {
    "query": ("query", "q_proj", "q_lin", "query_proj"),
    "key": ("key", "k_proj", "k_lin", "key_proj"),
    "value": ("value", "v_proj", "v_lin", "value_proj"),
}


def stack_of(model: Any) -> Stack:
    """The blocks of a model that has one stack of them.

    Raises:
        ModelError: it has two, or none that can be told.
    """
    stacks = stacks_of(base_model(model))
    if len(stacks) > 1:
        raise ModelError(
            "features are those of a model with one stack of blocks, and this one has an encoder and a decoder",
            hint="leave out `features`, or take a causal model or an encoder",
        )
    return stacks[0]


def projection_of(block: nn.Module, what: str) -> Any:
    """The layer of a block that makes its queries, keys or values.

    Raises:
        ModelError: none has a name that is known (GPT-2 makes all three at once).
    """
    for name, module in block.named_modules():
        if name.rpartition(".")[2] in _NAMES[what]:
            return module
    raise ModelError(
        f"{type(block).__name__} has no layer of its own for each {what}, so its attention relations cannot be taken",
        hint="set features.relation: 0, or take models built as BERT or Llama are",
    )


@contextlib.contextmanager
def taking(model: Any, wanted: WantedFeatures) -> Iterator[Features]:
    """Take what is wanted of every forward pass inside; of several, of the last."""
    taken, blocks = Features(), stack_of(model).blocks
    handles = []
    for layer in wanted.layers:
        if layer == 0:
            handles.append(blocks[0].register_forward_pre_hook(_read_by(taken, layer), with_kwargs=True))
        else:
            handles.append(blocks[layer - 1].register_forward_hook(_given_by(taken.hidden, layer)))
    for name in wanted.relations:
        layer = projection_of(blocks[wanted.relation_layer - 1], name)
        handles.append(layer.register_forward_hook(_given_by(taken.relations, name)))
    try:
        yield taken
    finally:
        for handle in handles:
            handle.remove()


def _read_by(taken: Features, layer: int) -> Any:
    def hook(module: Any, arguments: tuple, named: dict[str, Any]) -> None:
        taken.hidden[layer] = arguments[0] if arguments else named["hidden_states"]

    return hook


def _given_by(taken: dict, name: Any) -> Any:
    def hook(module: Any, arguments: Any, output: Any) -> None:
        taken[name] = output[0] if isinstance(output, tuple) else output

    return hook
