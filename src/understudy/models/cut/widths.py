"""Of models built as Llama is: which axis of which parameter counts channels, heads or neurons."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from understudy.errors import ModelError

CHANNELS, QUERIES, KEYS, NEURONS, WHOLE = "channels", "queries", "keys", "neurons", ""

AXES: dict[str, tuple[str, ...]] = {
    "embed_tokens.weight": (WHOLE, CHANNELS),
    "lm_head.weight": (WHOLE, CHANNELS),
    "lm_head.bias": (WHOLE,),
    "q_proj.weight": (QUERIES, CHANNELS),
    "q_proj.bias": (QUERIES,),
    "k_proj.weight": (KEYS, CHANNELS),
    "k_proj.bias": (KEYS,),
    "v_proj.weight": (KEYS, CHANNELS),
    "v_proj.bias": (KEYS,),
    "o_proj.weight": (CHANNELS, QUERIES),
    "o_proj.bias": (CHANNELS,),
    "gate_proj.weight": (NEURONS, CHANNELS),
    "gate_proj.bias": (NEURONS,),
    "up_proj.weight": (NEURONS, CHANNELS),
    "up_proj.bias": (NEURONS,),
    "down_proj.weight": (CHANNELS, NEURONS),
    "down_proj.bias": (CHANNELS,),
    "q_norm.weight": (WHOLE,),
    "k_norm.weight": (WHOLE,),
    "norm.weight": (CHANNELS,),
}
"""By the end of a parameter's name; any other norm is one of channels."""


def axes_of(name: str) -> tuple[str, ...] | None:
    """What the axes of a parameter count; None where its name is not known."""
    end = ".".join(name.rsplit(".", 2)[-2:])
    if end in AXES:
        return AXES[end]
    return (CHANNELS,) if end.endswith("norm.weight") else None


def check_widths(model: Any) -> None:
    """Refuse a model of which not every parameter is known.

    Raises:
        ModelError: it is built otherwise than Llama, or its attention does not tell its heads apart.
    """
    config = model.config
    sizes = {CHANNELS: config.hidden_size, NEURONS: getattr(config, "intermediate_size", None)}
    for name, parameter in model.named_parameters():
        axes, shape = axes_of(name), parameter.shape
        if (
            axes is None
            or len(axes) != len(shape)
            or any(sizes.get(a, n) != n for a, n in zip(axes, shape, strict=True))
        ):
            raise ModelError(
                f"{type(model).__name__} is not built as Llama is ({name}), so it is cut in depth only",
                hint="leave out width, heads and mlp",
            )


def head_width(model: Any) -> int:
    """Channels of one head."""
    config = model.config
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads


def taken(parameter: Tensor, axes: tuple[str, ...], indices: dict[str, Tensor | None]) -> Tensor:
    """A parameter with the kept entries along each axis."""
    for axis, kind in enumerate(axes):
        kept = indices.get(kind)
        if kept is not None:
            parameter = parameter.index_select(axis, kept.to(parameter.device))
    return parameter
