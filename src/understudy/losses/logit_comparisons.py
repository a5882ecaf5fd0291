"""How one block of both heads' logits is compared: column by column, or across two vocabularies.

`HeadPass` cuts the tokens into chunks and blocks, projects them, and hands each block to a comparison, which gives
the values and leaves the gradient with respect to the student's logits. So every comparison has the same bounds on
memory, the same heads and the same gradients of states, weight and bias.

p is the teacher's distribution and q the student's, both at the temperature; logarithms are natural.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from understudy.losses.kernels import Block, Kernel, kernel_of
from understudy.losses.sorting import sorted_gap


class LogitComparison:
    """Compares blocks of logits.

    Attributes:
        factor: constant that the gradients left in the block still lack.
        by_column: whether column v of both sides is compared, so that columns of one side alone are dropped first.
        alone: whether tokens that have no teacher are compared too.
    """

    factor: float = 1.0
    by_column: bool = False
    alone: bool = False

    def widths(self, student: int, teacher: int) -> tuple[int, int]:
        """How many columns of each head take part."""
        return student, teacher

    def compared(self, student: int, teacher: int) -> int:
        """How many columns `teacher_view` gives."""
        return teacher

    def teacher_view(self, rows: slice, teacher: Tensor | None, out: Tensor | None) -> Tensor:
        """The teacher's logits of some rows as they are compared; None where the rows have no teacher."""
        assert teacher is not None
        return teacher

    def run(self, rows: slice, block: Block) -> Tensor:
        """Values `[R]`; where the block wants a gradient, ∂value/∂logits of the student is left in `block.student`."""
        raise TypeError(f"{type(self).__name__} does not say how it compares")


class ByColumn(LogitComparison):
    """A divergence over the columns that both sides have.

    Args:
        divergence: `(student_logp, teacher_logp) -> [N]`.
    """

    by_column = True

    def __init__(self, divergence: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.divergence = divergence
        self.kernel: Kernel | None = kernel_of(divergence)
        self.factor = self.kernel.factor if self.kernel else 1.0

    def widths(self, student: int, teacher: int) -> tuple[int, int]:
        """See the base class."""
        return min(student, teacher), min(student, teacher)

    def run(self, rows: slice, block: Block) -> Tensor:
        """See the base class; a callable without a kernel goes through autograd."""
        if self.kernel is not None:
            return self.kernel.run(block)
        kept = slice(None) if block.missing is None else ~block.missing
        student, teacher = block.student[:, kept].log_softmax(-1), block.teacher[:, kept].log_softmax(-1)
        with torch.set_grad_enabled(block.wants_gradient):
            leaf = block.student[:, kept].detach().clone().requires_grad_(block.wants_gradient)
            value = self.divergence(leaf.log_softmax(-1) if block.wants_gradient else student, teacher)
            if block.wants_gradient:
                block.student.zero_()
                block.student[:, kept] = torch.autograd.grad(value.sum(), leaf)[0]
        return value.detach()


class MappedColumns(ByColumn):
    """A divergence over the student's columns, to which the teacher's logits are carried (MinED).

    A student's column takes the largest logit among the teacher's columns that map to it, and −1e5 where none does.
    A token without a teacher is compared with all probability on its gold token.

    Args:
        divergence: `(student_logp, teacher_logp) -> [N]`.
        columns: which column goes where.
        gold_ids: `[N]` the student's gold tokens.
        temperature: what the teacher's logits have been divided by.
    """

    by_column = False
    alone = True
    absent = -1e5

    def __init__(
        self,
        divergence: Callable[[Tensor, Tensor], Tensor],
        columns: ColumnMap,
        gold_ids: Tensor,
        *,
        temperature: float = 1.0,
    ) -> None:
        super().__init__(divergence)
        self.columns, self.gold_ids = columns, gold_ids
        self.floor = self.absent / temperature

    def widths(self, student: int, teacher: int) -> tuple[int, int]:
        """See the base class."""
        return student, teacher

    def compared(self, student: int, teacher: int) -> int:
        """See the base class."""
        return student

    def teacher_view(self, rows: slice, teacher: Tensor | None, out: Tensor | None) -> Tensor:
        """See the base class."""
        assert out is not None
        if teacher is None:
            return out.fill_(self.floor).scatter_(1, self.gold_ids[rows, None], 0.0)
        return self.columns.carry(teacher, out, self.floor)


class ColumnMap:
    """Carries logits from the teacher's columns to the student's; of several that meet, the largest counts.

    Args:
        nearest: `[V_t]` the student's column of each of the teacher's; −1 for none.
        student_columns: V_s.
    """

    def __init__(self, nearest: Tensor, student_columns: int) -> None:
        self.nearest, self.student_columns = nearest, student_columns
        places = nearest.masked_fill(nearest >= student_columns, -1)
        teacher = (places >= 0).nonzero()[:, 0]
        own, order = places[teacher].sort(stable=True)
        teacher = teacher[order]
        first = torch.ones_like(own, dtype=torch.bool)
        first[1:] = own[1:] != own[:-1]
        self.first = own.new_zeros(student_columns).index_copy_(0, own[first], teacher[first])
        absent = torch.ones(student_columns, dtype=torch.bool, device=own.device)
        absent[own] = False
        self.absent = absent.nonzero()[:, 0]
        self.more, self.more_own = teacher[~first], own[~first]

    def to(self, device: torch.device) -> ColumnMap:
        """The same on another device."""
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                setattr(self, name, value.to(device))
        return self

    def carry(self, teacher: Tensor, out: Tensor, absent: float) -> Tensor:
        """`[R, V_t]` logits to `out` `[R, V_s]`; `absent` where nothing is carried to."""
        torch.index_select(teacher, 1, self.first, out=out)
        if len(self.more):
            others = teacher.index_select(1, self.more)
            out.scatter_reduce_(1, self.more_own.expand(len(out), -1), others, "amax")
        return out.index_fill_(1, self.absent, absent)


class SortedL1(LogitComparison):
    """Σ_i |q_(i) − p_(i)| over the probabilities in descending order, the shorter side filled up with 0 (ULD).

    No column of one side is taken to mean one of the other (Universal Logit Distillation, arXiv 2402.12030).
    """

    def run(self, rows: slice, block: Block) -> Tensor:
        """See the base class."""
        value, sign = sorted_gap(block.q, block.p, block.student if block.wants_gradient else None)
        if sign is not None:
            mean = (block.q * sign).sum(-1, keepdim=True)
            sign.sub_(mean).mul_(block.q)
        return value


class MergedSpans(LogitComparison):
    """Merged probabilities of token groups: generalised JS where the vocabularies meet, sorted L1 elsewhere (GOLD).

    With Q = q · e^offset and P likewise, the probability of a group's token and of what is observed of the rest:

    w · [β Σ P log(P/M) + (1−β) Σ Q log(Q/M)] + (1−w) · Σ_i |Q_(i) − P_(i)|,   M = β P + (1−β) Q,

    the first sums over the shared tokens, the last over all others, sorted. Nothing is normalised again. β = 0 is
    Σ P log(P/Q), β = 1 is Σ Q log(Q/P).

    After a pass, `slopes` `[N]` holds ∂value/∂offset of the student.

    Args:
        columns: `[2, K]` shared tokens: the student's columns and the teacher's.
        widths: V_s and V_t.
        offsets: `[M]` log-probability of what is observed of each group beside the compared token: student, teacher.
        beta: β.
        weight: w.
    """

    def __init__(
        self,
        columns: Tensor,
        widths: tuple[int, int],
        offsets: tuple[Tensor, Tensor],
        *,
        beta: float = 0.5,
        weight: float = 1.0,
    ) -> None:
        self.shared = columns[0], columns[1]
        self.rest = [_others(own, width) for own, width in zip(columns, widths, strict=True)]
        self.offsets, self.beta, self.weight = offsets, beta, weight
        self.slopes = torch.zeros_like(offsets[0])

    def run(self, rows: slice, block: Block) -> Tensor:
        """See the base class."""
        offset, other_offset = (values[rows, None] for values in self.offsets)
        log_q = block.student.index_select(1, self.shared[0]).sub_(block.student_lse[:, None]).add_(offset)
        log_p = block.teacher.index_select(1, self.shared[1]).sub_(block.teacher_lse[:, None]).add_(other_offset)
        value, gradient = _unnormalised_js(log_q, log_p, self.beta, block.wants_gradient)
        value = self.weight * value
        if block.wants_gradient:
            block.student.zero_().index_copy_(1, self.shared[0], gradient.mul_(self.weight))
        if self.weight < 1:
            q = block.q.index_select(1, self.rest[0]).mul_(offset.exp())
            p = block.p.index_select(1, self.rest[1]).mul_(other_offset.exp())
            gap, sign = sorted_gap(q, p, torch.empty_like(q) if block.wants_gradient else None)
            value = value + (1 - self.weight) * gap
            if sign is not None:
                block.student.index_copy_(1, self.rest[0], sign.mul_(q).mul_(1 - self.weight))
        if block.wants_gradient:
            slope = block.student.sum(-1)
            self.slopes[rows] = slope
            block.student.addcmul_(block.q, slope[:, None], value=-1)
        return value


def _others(columns: Tensor, width: int) -> Tensor:
    rest = torch.ones(width, dtype=torch.bool, device=columns.device)
    rest[columns] = False
    return rest.nonzero()[:, 0]


def _unnormalised_js(log_q: Tensor, log_p: Tensor, beta: float, wants_gradient: bool) -> tuple[Tensor, Tensor]:
    """Generalised JS of probabilities that need not add up to 1, and its gradient with respect to `log_q`, in place."""
    q, p = log_q.exp(), log_p.exp()
    if beta == 0:
        return (p * log_p.sub_(log_q)).sum(-1), p.neg_()
    if beta == 1:
        ratio = log_q.sub_(log_p)
        return (q * ratio).sum(-1), ratio.add_(1).mul_(q)
    log_m = torch.lerp(q, p, beta).clamp_min_(torch.finfo(q.dtype).tiny).log_()
    value = beta * log_p.sub_(log_m).mul_(p).sum(-1)
    gradient = log_q.sub_(log_m).mul_(q)
    return value + (1 - beta) * gradient.sum(-1), gradient.mul_(1 - beta) if wants_gradient else gradient
