"""Where the blocks of a model stand, and what its config says of their number."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from torch import nn
from transformers import PreTrainedConfig

from understudy.errors import ModelError

_ENCODER = ("encoder_layers", "num_layers", "num_hidden_layers")
_DECODER = ("decoder_layers", "num_decoder_layers", "num_hidden_layers")
_ALONE = ("num_hidden_layers",)


@dataclass(frozen=True)
class Stack:
    """Blocks one behind the other.

    Attributes:
        path: of their list within the model, such as `model.layers`.
        field: of the config that says how many there are.
        blocks: themselves.
    """

    path: str
    field: str
    blocks: nn.ModuleList

    @property
    def irreplaceable(self) -> tuple[int, ...]:
        """Blocks that hold parameters which the others lack: T5's first has the distances that all of them use."""
        names = [frozenset(name for name, _ in block.named_parameters()) for block in self.blocks]
        usual = Counter(names).most_common(1)[0][0]
        return tuple(n for n, own in enumerate(names) if own - usual)


def stacks_of(model: Any) -> list[Stack]:
    """The stacks of a model: one of a decoder or an encoder, two of an encoder–decoder.

    Raises:
        ModelError: none can be told.
    """
    stacks: list[Stack] = []
    for path, module in model.named_modules():
        inside = any(path.startswith(f"{stack.path}.") for stack in stacks)
        if isinstance(module, nn.ModuleList) and not inside:
            field = _field(model.config, path)
            if field and len(module) == getattr(model.config, field):
                stacks.append(Stack(path, field, module))
    if not stacks:
        raise ModelError(
            f"{type(model).__name__} keeps its blocks where they cannot be told, so nothing is cut from it",
            hint="take a student of its own: student.model",
        )
    return stacks


def _field(config: PreTrainedConfig, path: str) -> str:
    """The field of a config that counts the blocks at a path; empty where it has none."""
    names = _ALONE
    if config.is_encoder_decoder:
        names = _DECODER if "decoder" in path else _ENCODER
    return next((name for name in names if isinstance(getattr(config, name, None), int)), "")
