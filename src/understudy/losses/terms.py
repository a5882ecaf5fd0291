"""What a pass over the heads is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Terms:
    """What to compute on the two heads; see `fused_head`."""

    divergence: Callable[[Tensor, Tensor], Tensor]
    temperature: float = 1.0
    token_weights: Tensor | None = None
    gold_ids: Tensor | None = None
    gold_weights: Tensor | None = None
    teacher_gold_weights: Tensor | None = None
    only_where_teacher_right: bool = False
    statistics: bool = False
    chunk_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class Wants:
    """Which gradients are wanted."""

    student_hidden: bool = False
    student_weight: bool = False
    student_bias: bool = False
    teacher_hidden: bool = False
