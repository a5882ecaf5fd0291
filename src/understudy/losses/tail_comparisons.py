"""How logits are compared with a teacher that tells of a few tokens: the rest one bucket, or a sample.

p is the teacher's distribution and q the student's, both at the temperature; t is what the teacher's other tokens have
together. Column K of such a teacher's logits is log t.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from understudy.losses.divergences import traits
from understudy.losses.kernels import Block
from understudy.losses.logit_comparisons import ByColumn, LogitComparison, MappedColumns, SortedL1
from understudy.losses.sides import floor


def with_tail(
    compared: Callable[[Tensor, Tensor], Tensor] | LogitComparison, ids: Tensor, present: Tensor | None = None
) -> LogitComparison:
    """A comparison with the whole teacher as one with the tokens `ids` `[N, K]` and the sum of all others.

    Args:
        compared: with the whole teacher.
        ids: `[N, K]`, each once in a row.
        present: `[N, K]` bool, which of them stand for themselves; the others are part of the sum, and those that do
            need not be the likeliest. None: all of them do, and are.

    Raises:
        ValueError: the divergence does not take a tail as one bucket, each column of the teacher is needed, or the
            likeliest are.
    """
    if isinstance(compared, LogitComparison) and present is not None:
        raise ValueError("this comparison needs the likeliest tokens, and which they are is not known")
    if isinstance(compared, SortedL1):
        return SortedHead()
    if isinstance(compared, LogitComparison) and not isinstance(compared, MappedColumns):
        raise ValueError("this comparison needs each column of a teacher: a tail cannot be one bucket")
    if not traits(compared.divergence if isinstance(compared, MappedColumns) else compared).takes_tail:
        raise ValueError("this divergence does not take the tail of a top-k teacher as one bucket")
    return MappedHead(compared, ids) if isinstance(compared, MappedColumns) else Bucketed(compared, ids, present)


class Bucketed(LogitComparison):
    """A divergence over K tokens of each row and one bucket for all others, in which both sides are put.

    With Q_k = q(id_k) and Q_rest = Σ q over the others, D(Q, P) is computed on `[R, K + 1]`. Its gradient with respect
    to log Q goes to the logits of the K tokens as it is, and to those of the others by their shares q / Q_rest, so
    that of width V nothing is kept beside the softmax.

    Args:
        divergence: `(student_logp, teacher_logp) -> [N]`; see `divergences.traits`.
        ids: `[N, K]` the tokens of each row, each once; the teacher's logits are theirs and, last, that of the bucket.
        present: `[N, K]` bool, which of them have a bucket of their own; None: all.
    """

    def __init__(
        self, divergence: Callable[[Tensor, Tensor], Tensor], ids: Tensor, present: Tensor | None = None
    ) -> None:
        self.buckets, self.ids, self.present = ByColumn(divergence), ids, present
        self.factor = self.buckets.factor

    def run(self, rows: slice, block: Block) -> Tensor:
        """See the base class."""
        ids, q = self.ids[rows], block.q
        present = torch.ones_like(ids, dtype=torch.bool) if self.present is None else self.present[rows]
        q_head = q.gather(1, ids)
        # A sum over the others alone: 1 − Σ Q_k would lose them where the K tokens have nearly everything.
        q_rest = q.scatter_(1, ids, q_head.masked_fill(present, 0.0)).sum(-1, keepdim=True)
        q.scatter_(1, ids, q_head)
        head = block.student.gather(1, ids)
        log_rest = q_rest.log()
        faint = (q_rest[:, 0] < _FAINT).nonzero()[:, 0]
        if len(faint):
            without = head[faint].masked_fill(present[faint], -torch.inf)
            others = block.student[faint].scatter_(1, ids[faint], without)
            log_rest[faint] = others.logsumexp(-1, keepdim=True) - block.student_lse[faint, None]
        head = head.sub_(block.student_lse[:, None]).masked_fill_(~present, -torch.inf)
        student = torch.cat([head, log_rest], -1).clamp_min_(floor(q.dtype))
        buckets = Block(
            student=student,
            teacher=block.teacher.sub_(block.teacher_lse[:, None]),
            q=torch.cat([q_head.masked_fill(~present, 0.0), q_rest], -1),
            p=block.p,
            student_lse=torch.zeros_like(block.student_lse),
            teacher_lse=torch.zeros_like(block.teacher_lse),
            spare=torch.empty_like(student),
            wants_gradient=block.wants_gradient,
        )
        value = self.buckets.run(rows, buckets)
        if block.wants_gradient:
            slopes = buckets.student
            shares = slopes[:, -1:] / q_rest.clamp_min(_FAINT)
            if len(faint):
                without = block.student[faint].gather(1, ids[faint]).masked_fill(present[faint], -torch.inf)
                others = block.student[faint].scatter_(1, ids[faint], without).softmax(-1).nan_to_num_(0.0)
            torch.mul(q, shares, out=block.student)
            if len(faint):
                block.student[faint] = others.mul_(slopes[faint, -1:])
            block.student.scatter_(1, ids, torch.where(present, slopes[:, :-1], block.student.gather(1, ids)))
        return value


class Sampled(LogitComparison):
    """Cross-entropy with a few weighted tokens of each row, and forward KL by the teacher's entropy H(p).

    D = −H(p) − Σ_j w_j log q(id_j). Where E Σ_j w_j δ(id_j) = p, its expectation is KL(p‖q) and that of its gradient
    q Σ w − Σ_j w_j δ(id_j) is q − p (arXiv 2503.16870). A single value may be negative; it is left as it is.

    Args:
        ids: `[N, K]` tokens; one that was drawn twice stands there twice.
        weights: `[N, K]` w.
        entropy: `[N]` H(p) in nats, at the temperature.
    """

    def __init__(self, ids: Tensor, weights: Tensor, entropy: Tensor) -> None:
        self.ids, self.weights, self.entropy = ids, weights, entropy

    def run(self, rows: slice, block: Block) -> Tensor:
        """See the base class."""
        ids, weights = self.ids[rows], self.weights[rows].to(block.student.dtype)
        logq = block.student.gather(1, ids).sub_(block.student_lse[:, None])
        if block.wants_gradient:
            torch.mul(block.q, weights.sum(-1, keepdim=True), out=block.student)
            block.student.scatter_add_(1, ids, -weights)
        return -self.entropy[rows].to(logq.dtype) - (weights * logq).sum(-1)


_FAINT = 1e-30
"""Below this a sum of float32 probabilities has lost digits or is 0; it is then taken from the logits."""


class MappedHead(MappedColumns):
    """`MappedColumns` of a teacher of which the K likeliest tokens and the sum t of all others are known.

    A student's column to which a known token maps has the largest of these: what the whole teacher gives it too, for no
    other token is likelier. The columns to which only others map are one bucket with t for its mass, those to which
    nothing maps have none:

        P(v) = e^{m_v} / Z,   P(rest) = t / Z,   Z = Σ_v e^{m_v} + t   (without t where no column is left for it).

    What the others really carry to these columns lies between 0 and t: of those that meet on one column the largest
    counts, and some fall on columns that have a likelier one. So on these buckets P lies within P(rest) of the whole
    teacher's in total variation; K = V is the whole teacher.

    The bucket is filled in the student's own proportions, P(v) = P(rest) · q(v)/Q(rest): a divergence that takes a tail
    is least there, with the value and the gradient of the bucket.

    Args:
        whole: the comparison with the whole teacher.
        ids: `[N, K]` the tokens that are known.
    """

    def __init__(self, whole: MappedColumns, ids: Tensor) -> None:
        super().__init__(whole.divergence, whole.columns, whole.gold_ids)
        self.floor = whole.floor
        nearest = self.columns.nearest
        known = nearest[ids.clamp_max(len(nearest) - 1)].masked_fill(ids >= len(nearest), -1)
        self.places = known.masked_fill(known >= self.columns.student_columns, -1)
        self.inside = self.tail = torch.zeros(0)

    def teacher_view(self, rows: slice, teacher: Tensor | None, out: Tensor | None) -> Tensor:
        """See the base class; the tail is kept for `run`, which knows the student."""
        if teacher is None:
            return super().teacher_view(rows, teacher, out)
        assert out is not None
        places, head = self.places[rows], teacher[:, :-1]
        unmapped = places < 0
        out.fill_(self.floor)
        out.scatter_reduce_(1, places.masked_fill(unmapped, 0), head.masked_fill(unmapped, self.floor), "amax")
        self.inside = out.masked_fill(out <= self.floor, -torch.inf).logsumexp(-1)
        self.tail = teacher[:, -1].clone()
        return out

    def run(self, rows: slice, block: Block) -> Tensor:
        """See the base class."""
        if rows.start < len(self.places):
            self._fill(block)
        return super().run(rows, block)

    def _fill(self, block: Block) -> None:
        """Put what is known and the bucket in the student's proportions where the teacher stands."""
        known = (block.teacher > self.floor / 2) & (self.inside > -torch.inf)[:, None]
        rest = ~known
        rest[:, self.columns.absent] = False
        logq = block.student - block.student_lse[:, None]
        of_rest = logq.masked_fill(~rest, -torch.inf).logsumexp(-1, keepdim=True)
        tail = self.tail[:, None].masked_fill(~rest.any(-1, keepdim=True), -torch.inf)
        whole = torch.logaddexp(self.inside[:, None], tail).clamp_min(floor(logq.dtype))
        of_known = block.teacher - block.teacher_lse[:, None] + (self.inside[:, None] - whole)
        of_others = (logq - of_rest + (tail - whole)).masked_fill(~rest, -torch.inf)
        block.teacher = torch.where(known, of_known, of_others).clamp_min_(floor(logq.dtype))
        block.teacher_lse = torch.zeros_like(block.teacher_lse)
        torch.exp(block.teacher, out=block.p)


class SortedHead(LogitComparison):
    """`SortedL1` of a teacher of which the K likeliest tokens and the sum t of all others are known.

        D_K = Σ_{i ≤ K} |q_(i) − p_(i)| + |Σ_{i > K} q_(i) − t|

    Both tails are one bucket. By the triangle inequality 0 ≤ D − D_K ≤ 2 · min(t, Σ_{i > K} q_(i)); D_K grows with K
    and is D where K = V.
    """

    def run(self, rows: slice, block: Block) -> Tensor:
        """See the base class."""
        p, tail = block.p[:, :-1].sort(-1, descending=True).values, block.p[:, -1:]
        count = min(p.shape[1], block.q.shape[1])
        q, places = block.q.topk(count, dim=-1)
        # A sum over the others alone: 1 − Σ q_(i) would lose them where the likeliest have nearly everything.
        rest = block.q.scatter_(1, places, 0.0).sum(-1, keepdim=True)
        block.q.scatter_(1, places, q)
        gap = q - p[:, :count]
        value = gap.abs().sum(-1) + p[:, count:].sum(-1) + (rest - tail).abs()[:, 0]
        if block.wants_gradient:
            sign = block.student.copy_((rest - tail).sign().expand_as(block.student)).scatter_(1, places, gap.sign())
            mean = (block.q * sign).sum(-1, keepdim=True)
            sign.sub_(mean).mul_(block.q)
        return value
