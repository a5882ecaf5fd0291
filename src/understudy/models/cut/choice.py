"""What stays of a teacher: blocks by place or by what they do, channels, heads and neurons by how active they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

from understudy.errors import ConfigError
from understudy.models.cut.importance import Rows, influence, least_felt_blocks, least_felt_run, mean_activations
from understudy.models.cut.widths import check_widths, head_width
from understudy.models.stacks import Stack, stacks_of
from understudy.recipe import CutConfig


@dataclass(frozen=True)
class Kept:
    """What stays of a model.

    Attributes:
        blocks: path of a stack → blocks that stay, ascending.
        channels: of the hidden state, ascending; None: all.
        heads: of each block that stays, query heads and key heads, ascending; empty: all.
        neurons: of each block that stays, ascending; empty: all.
    """

    blocks: dict[str, tuple[int, ...]]
    channels: Tensor | None = None
    heads: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    neurons: list[Tensor] = field(default_factory=list)


def choose(model: Any, config: CutConfig, rows: Rows) -> Kept:
    """Decide what stays.

    Args:
        model: the teacher.
        config: how many, and by what.
        rows: what importance is measured on, a row each; without any, blocks stay by position, the rest by the size
            of its weights.

    Raises:
        ConfigError: more is to stay than there is.
        ModelError: the model is not built so that it can be cut.
    """
    model.eval()
    stacks = stacks_of(model)
    blocks = {stack.path: _blocks(model, stack, config, rows) for stack in stacks}
    if config.width is config.heads is config.mlp is None:
        return Kept(blocks)
    check_widths(model)
    [stack] = stacks
    left = [stack.blocks[n] for n in blocks[stack.path]]
    return Kept(
        blocks,
        _channels(model, left, config.width, rows) if config.width else None,
        _heads(model, left, config.heads, rows) if config.heads else [],
        _neurons(model, left, config.mlp, rows) if config.mlp else [],
    )


def check_shape(config: CutConfig, architecture: PreTrainedConfig) -> None:
    """Refuse what is larger than the teacher, by its config alone.

    Raises:
        ConfigError: more is to stay than there is, or it sees or hears.
    """
    if hasattr(architecture, "num_mel_bins"):
        raise ConfigError(
            "student.from_teacher cuts blocks of text alone, and the teacher has others that hear",
            hint="take a student of its own: student.model, or its architecture made smaller by init: fresh and config",
        )
    if hasattr(architecture, "vision_config"):
        raise ConfigError(
            "student.from_teacher cuts blocks of text alone, and the teacher has others that see",
            hint="take a student of its own: student.model, or its architecture made smaller by init: fresh and config",
        )
    layers = config.layers
    wanted = {
        "layers": layers[-1] + 1 if isinstance(layers, tuple) else layers,
        "width": config.width,
        "heads": config.heads,
        "mlp": config.mlp,
    }
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    for (part, size), name in zip(wanted.items(), names, strict=True):
        there = getattr(architecture, name, None)
        if size is not None and there is not None and size > there:
            raise ConfigError(f"from_teacher.{part}: the teacher's {name} is {there}, less than {size}")


def _blocks(model: Any, stack: Stack, config: CutConfig, rows: Rows) -> tuple[int, ...]:
    total, layers = len(stack.blocks), config.layers
    if layers is None:
        return tuple(range(total))
    if (layers if isinstance(layers, int) else layers[-1] + 1) > total:
        raise ConfigError(f"from_teacher.layers: the teacher has {total} blocks in {stack.path}, from 0 to {total - 1}")
    if isinstance(layers, int):
        return _with(stack.irreplaceable, _so_many(model, stack, layers, config.by if rows else "position", rows))
    if missing := set(stack.irreplaceable) - set(layers):
        raise ConfigError(
            f"block {min(missing)} of {stack.path} holds what the others lack, so it has to stay",
            hint=f"put {min(missing)} into from_teacher.layers",
        )
    return layers


def _with(fixed: Sequence[int], chosen: Sequence[int]) -> tuple[int, ...]:
    """Blocks that have to stay take the places of the nearest others."""
    blocks = set(chosen)
    for block in (n for n in fixed if n not in blocks):
        blocks.remove(min(blocks - set(fixed), key=lambda n: abs(n - block)))
        blocks.add(block)
    return tuple(sorted(blocks))


def _so_many(model: Any, stack: Stack, keep: int, by: str, rows: Rows) -> Sequence[int]:
    total = len(stack.blocks)
    if keep == total:
        return range(total)
    if by == "influence":
        scores = influence(model, stack, rows)
        return sorted(sorted(range(total), key=lambda n: -scores[n])[:keep])
    if by == "block":
        first = least_felt_run(model, stack, rows, total - keep)
        return [n for n in range(total) if not first <= n < first + total - keep]
    if by == "loss":
        return least_felt_blocks(model, stack, rows, keep)
    return evenly_spaced(total, keep)


def evenly_spaced(total: int, keep: int) -> list[int]:
    """`keep` of `total` blocks, the first and the last among them where there is room for both."""
    return [0] if keep == 1 else [round(n * (total - 1) / (keep - 1)) for n in range(keep)]


def _channels(model: Any, blocks: Sequence[Any], keep: int, rows: Rows) -> Tensor:
    readers = [module for block in blocks for module in (block.self_attn.q_proj, block.mlp.gate_proj)]
    if rows:
        scores = torch.stack(mean_activations(model, rows, readers)).sum(0)
    else:
        scores = model.get_input_embeddings().weight.detach().double().norm(dim=0)
    return _best(scores, keep, "width", "channels")


def _heads(model: Any, blocks: Sequence[Any], keep: int, rows: Rows) -> list[tuple[Tensor, Tensor]]:
    """Whole groups of query heads stay, with the key head that they share."""
    config, width = model.config, head_width(model)
    groups = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    per_group = config.num_attention_heads // groups
    if keep % per_group:
        raise ConfigError(
            f"from_teacher.heads: {keep} is no multiple of {per_group}, the query heads that share a key head"
        )
    chosen = []
    for scores in _activity(model, blocks, rows, lambda block: block.self_attn.o_proj):
        of_group = scores.reshape(groups, per_group * width).sum(1)
        kept = _best(of_group, keep // per_group, "heads", "groups of heads")
        queries = (kept[:, None] * per_group + torch.arange(per_group, device=kept.device)).flatten()
        chosen.append((queries, kept))
    return chosen


def _neurons(model: Any, blocks: Sequence[Any], keep: int, rows: Rows) -> list[Tensor]:
    activity = _activity(model, blocks, rows, lambda block: block.mlp.down_proj)
    return [_best(scores, keep, "mlp", "neurons") for scores in activity]


def _activity(model: Any, blocks: Sequence[Any], rows: Rows, reader: Any) -> list[Tensor]:
    """Of each block, how active each input of one of its layers is, times the norm of the weights that read it."""
    modules = [reader(block) for block in blocks]
    norms = [module.weight.detach().double().norm(dim=0) for module in modules]
    if not rows:
        return norms
    return [seen * norm for seen, norm in zip(mean_activations(model, rows, modules), norms, strict=True)]


def _best(scores: Tensor, keep: int, field: str, what: str) -> Tensor:
    if keep > len(scores):
        raise ConfigError(f"from_teacher.{field}: the teacher has {len(scores)} {what}, fewer than {keep}")
    return scores.topk(keep).indices.sort().values
