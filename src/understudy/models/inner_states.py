"""What is asked of a model's inner states, and what was taken of them."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class WantedFeatures:
    """What is to be taken of a model.

    Attributes:
        layers: blocks behind which the hidden states are taken, counted from 1; 0 is what the first one reads.
        relations: `query`, `key`, `value`, of the block `relation_layer`.
        relation_layer: counted from 1.
    """

    layers: tuple[int, ...] = ()
    relations: tuple[str, ...] = ()
    relation_layer: int = 0


@dataclass
class Features:
    """What was taken.

    Attributes:
        hidden: block → `[M, S, d]`.
        relations: `query`, `key`, `value` → `[M, S, d]`.
    """

    hidden: dict[int, Tensor] = field(default_factory=dict)
    relations: dict[str, Tensor] = field(default_factory=dict)
