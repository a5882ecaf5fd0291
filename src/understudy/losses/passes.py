"""An objective laid out: the passes over two sides that it adds up, and the terms in each.

Whoever adds up (`training.objectives`) runs the passes fused; whoever looks closer (`inspection`) takes each pass apart
and computes every term by itself, fused or dense.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from understudy.losses.averaged import Averaged
from understudy.losses.crossvocab import AlignedTokens, SpanMerge, merged_losses, paired_losses
from understudy.losses.divergences import forward_kl
from understudy.losses.fused import HeadLosses, head_losses
from understudy.losses.heads import HeadStates
from understudy.losses.requests import HeadTerms
from understudy.losses.sides import LogitSource
from understudy.losses.sources import CandidateLogits, LogProbabilities


@dataclass(frozen=True, slots=True)
class Pass:
    """One pass over two sides.

    Attributes:
        student: the side that is compared, with its graph.
        teacher: what it is compared with; None for cross-entropy alone.
        terms: what is computed; `[N]` tensors in the order of the student's tokens.
        names: what each term – `divergence`, `gold`, `teacher_gold` – is called in the log; a term without a name
            only tells something to a later pass.
        pairs: which tokens stand side by side, where not all do.
        merge: the token groups whose probabilities are multiplied first.
        weighed: `[N]` the target tokens that the weights of the divergence belong to; None: all, in order.
        by_teacher: whether these are the teacher's own target tokens and not the student's.
        factor: what the share of the teacher in a token's loss is multiplied by, a number or `[N]`.
        teacher_gold_factor: the same for the teacher's side's cross-entropy, a number or `[M]`.
    """

    student: HeadStates | CandidateLogits
    teacher: LogitSource | None
    terms: HeadTerms
    names: Mapping[str, str] = field(default_factory=lambda: {"gold": "gold", "divergence": "divergence"})
    pairs: AlignedTokens | None = None
    merge: SpanMerge | None = None
    weighed: Tensor | None = None
    by_teacher: bool = False
    factor: Tensor | float = 1.0
    teacher_gold_factor: Tensor | float = 1.0

    def parts(self) -> dict[str, Pass]:
        """A pass for each term alone, by its name in the log; their totals add up to the total of this one."""
        terms, parts = self.terms, {}
        if "gold" in self.names and terms.gold_weights is not None:
            parts[self.names["gold"]] = _cross_entropy(self.student, terms.gold_ids, terms.gold_weights)
        if "divergence" in self.names and self.teacher is not None:
            alone = dataclasses.replace(terms, gold_weights=None, teacher_gold_weights=None, statistics=False)
            parts[self.names["divergence"]] = dataclasses.replace(self, terms=alone)
        if "teacher_gold" in self.names and isinstance(self.teacher, HeadStates):
            other = self.teacher if self.pairs is None else self.teacher.rows(self.pairs.teacher)
            ids = terms.gold_ids if terms.teacher_gold_ids is None else terms.teacher_gold_ids
            parts[self.names["teacher_gold"]] = _cross_entropy(other, ids, terms.teacher_gold_weights)
        return parts


Passes = Generator[Pass, HeadLosses, None]
"""The passes of an objective, one after the other; each is answered with its losses before the next is laid out."""


def fused(step: Pass) -> HeadLosses:
    """The losses of a pass, without `[N, V]`."""
    if step.teacher is None or step.pairs is None:
        return head_losses(step.student, step.teacher, step.terms)
    assert isinstance(step.student, HeadStates), "tokens are put side by side under the student's head alone"
    if step.merge is None:
        return paired_losses(step.student, step.teacher, step.pairs, step.terms)
    assert isinstance(step.teacher, HeadStates | LogProbabilities | Averaged), (
        "groups are merged over whole distributions"
    )
    return merged_losses(step.student, step.teacher, step.merge, step.terms)


def run_passes(passes: Passes, compute: Callable[[Pass], HeadLosses] = fused) -> list[tuple[Pass, HeadLosses]]:
    """Run one pass after the other; each with its losses."""
    done = []
    try:
        step = next(passes)
        while True:
            done.append((step, compute(step)))
            step = passes.send(done[-1][1])
    except StopIteration:
        return done


def weighted_sums(step: Pass, losses: HeadLosses) -> dict[str, Tensor]:
    """The weighted sum of each term of a pass by its name, without gradient."""
    terms, names, sums = step.terms, step.names, {}
    ordered = (lambda values: values) if step.pairs is None else step.pairs.arranged
    if "divergence" in names and losses.divergence is not None and step.teacher is not None:
        num = len(losses.divergence) if step.pairs is None else len(step.pairs)
        weights = None if terms.token_weights is None else ordered(terms.token_weights)[:num]
        if terms.only_where_teacher_right and weights is not None and losses.teacher_right is not None:
            weights = weights * losses.teacher_right
        sums[names["divergence"]] = _weighted(weights, losses.divergence[:num])
    if "teacher_gold" in names and losses.teacher_gold is not None:
        sums[names["teacher_gold"]] = _weighted(terms.teacher_gold_weights, losses.teacher_gold)
    if "gold" in names and terms.gold_weights is not None and losses.gold is not None:
        sums[names["gold"]] = _weighted(ordered(terms.gold_weights), losses.gold)
    return sums


def _weighted(weights: Tensor | None, values: Tensor) -> Tensor:
    """Σ weights · values, where 0 · ∞ is 0."""
    return values.sum() if weights is None else (weights * values).masked_fill(weights == 0, 0.0).sum()


def _cross_entropy(side: HeadStates | CandidateLogits, ids: Tensor | None, weights: Tensor | None) -> Pass:
    return Pass(side, None, HeadTerms(forward_kl, gold_ids=ids, gold_weights=weights))
