"""What a pass over the heads is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from understudy.losses.logit_comparisons import LogitComparison


@dataclass(frozen=True, slots=True)
class HeadTerms:
    """What to compute on the two heads; see `fused_head`. N counts the student's tokens, M the teacher's.

    Attributes:
        divergence: of log-probabilities column by column, or a `LogitComparison` of two vocabularies.
        temperature: τ.
        token_weights: `[N]` of the divergence.
        gold_ids: `[N]`.
        gold_weights: `[N]` of the student's cross-entropy.
        teacher_gold_weights: `[M]` of the teacher's.
        teacher_gold_ids: `[M]` what the teacher's cross-entropy is taken on; None: `gold_ids`.
        only_where_teacher_right: leave the divergence out where the teacher's likeliest token is not its gold.
        statistics: likeliest tokens and entropies.
        argmax: the likeliest tokens alone, which cost no softmax.
        shared_columns: `[V_t]` bool; with `statistics`, also give the probability that the teacher puts on them.
        partial: the teacher speaks of the student's first M tokens; M may be less than N.
        chunk_tokens: tokens in a chunk; None chooses.
    """

    divergence: Callable[[Tensor, Tensor], Tensor] | LogitComparison
    temperature: float = 1.0
    token_weights: Tensor | None = None
    gold_ids: Tensor | None = None
    gold_weights: Tensor | None = None
    teacher_gold_weights: Tensor | None = None
    teacher_gold_ids: Tensor | None = None
    only_where_teacher_right: bool = False
    statistics: bool = False
    argmax: bool = False
    shared_columns: Tensor | None = None
    partial: bool = False
    chunk_tokens: int | None = None


@dataclass(frozen=True, slots=True)
class WantedGradients:
    """Which gradients are wanted.

    Attributes:
        student: of each tensor of the student's graph (`LearningSource.graph`).
        teacher_hidden: of the teacher's hidden states, by its own cross-entropy.
    """

    student: tuple[bool, ...] = ()
    teacher_hidden: bool = False
