"""The pass over chunks of tokens behind `fused_head`.

Two sizes of piece: a *chunk* is large enough for the matrix products to run at full speed, a *block* of its rows
small enough for the element-wise work to stay in the processor's cache.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from understudy.losses.heads import HeadGradient, HeadSide
from understudy.losses.kernels import Block
from understudy.losses.pass_plan import plan_pass
from understudy.losses.requests import HeadTerms, WantedGradients
from understudy.losses.sides import LearningSource, LogitSide, LogitSource, floor, softmax_into


@dataclass(frozen=True, slots=True)
class Buffers:
    """Memory that all blocks share.

    Attributes:
        q: `[block, columns]` softmax of the student.
        p: `[block, compared]` softmax of the teacher.
        spare: room for a comparison, as wide as the wider of the two.
        carried: the teacher's logits in the student's columns, where a comparison carries them there.
    """

    q: Tensor
    p: Tensor
    spare: Tensor
    carried: Tensor


class HeadPass:
    """One pass over the student's head and the teacher's side.

    After `run`, `values` holds the per-token values by name and `gradients` those of the student's graph (hidden
    states, weight and bias) and of the teacher's hidden states; they still lack the factor `plan.unit` where that is
    not None.
    """

    def __init__(
        self, terms: HeadTerms, student: LearningSource, teacher: LogitSource | None, wants: WantedGradients
    ) -> None:
        self.plan = plan_pass(terms, student, teacher)
        self.divergence = torch.zeros(self.plan.tokens, dtype=self.plan.exact, device=self.plan.device)
        self.rows = torch.zeros_like(self.divergence)
        self.num_student_tensors = len(wants.student)
        self.student_gradient = self.plan.student.gradient(wants.student) if any(wants.student) else None
        self.teacher_gradient, side = None, self.plan.teacher
        if wants.teacher_hidden and terms.teacher_gold_weights is not None and isinstance(side, HeadSide):
            self.teacher_gradient = HeadGradient(side, side.hidden, None, None)

    def run(self) -> Tensor:
        """Compute everything; returns the weighted total."""
        plan = self.plan
        with torch.autocast(plan.device.type, enabled=False):
            chunk, block = plan.sizes()
            buffers = self._reserve(chunk, block)
            for first, last in ((0, plan.pairs), (plan.pairs, plan.tokens)):
                for start in range(first, last, chunk):
                    self._chunk(start, min(start + chunk, last), block, buffers)
            return self._total()

    @property
    def values(self) -> dict[str, Tensor]:
        """The per-token values by their names in `HeadLosses`."""
        student, teacher = self.plan.student, self.plan.teacher
        named = {("gold" if name == "gold" else f"student_{name}"): v for name, v in student.values.items()}
        if teacher is not None:
            named |= {f"teacher_{name}": value for name, value in teacher.values.items()}
            named["divergence"] = self.divergence
        return named

    @property
    def gradients(self) -> list[Tensor | None]:
        """Gradients of the student's graph, and of the teacher's hidden states."""
        student, teacher = self.student_gradient, self.teacher_gradient
        of_student = [None] * self.num_student_tensors if student is None else student.tensors
        return [*of_student, None if teacher is None else teacher.hidden]

    def _reserve(self, chunk: int, block: int) -> Buffers | None:
        """Allocate what the chunks share."""
        plan = self.plan
        for side, gradient in ((plan.student, self.student_gradient), (plan.teacher, self.teacher_gradient)):
            if side is not None:
                # The teacher's gold gradient outlives the divergence, which uses up the softmax of the teacher.
                lasting = side is plan.teacher and gradient is not None
                own = side.needs_own_softmax and (lasting or not plan.shares_softmax(side))
                side.reserve(chunk, block, own_softmax=own, gradient=gradient is not None)
        if plan.teacher is None:
            return None
        compared = plan.comparison.compared(plan.columns, plan.teacher_columns)
        widths = (plan.columns, compared, max(plan.columns, compared), compared if plan.alone else 0)
        return Buffers(*(torch.empty(block, width, dtype=plan.exact, device=plan.device) for width in widths))

    def _chunk(self, start: int, stop: int, block: int, buffers: Buffers | None) -> None:
        plan = self.plan
        student, teacher = plan.student, plan.teacher if start < plan.pairs else None
        if teacher is None and not (plan.alone or student.needs_own_softmax or student.argmax):
            return
        product = student.project(start, stop)
        teacher_product = teacher.project(start, stop) if teacher else None
        for first in range(0, stop - start, block):
            piece = slice(first, min(first + block, stop - start))
            rows = slice(start + piece.start, start + piece.stop)
            self._block(rows, product[piece], None if teacher_product is None else teacher_product[piece], buffers)
        if self.student_gradient and plan.has_loss(teacher):
            self.student_gradient.add(product[:, : plan.gradient_columns], start, stop, self.rows[start:stop])
        if self.teacher_gradient and teacher and teacher_product is not None:
            whole = torch.full_like(self.rows[start:stop], teacher.constant)
            self.teacher_gradient.add(teacher_product, start, stop, whole)

    def _block(self, rows: slice, product: Tensor, teacher_product: Tensor | None, buffers: Buffers | None) -> None:
        """All terms of a few rows; afterwards the products hold the gradients with respect to the logits."""
        plan = self.plan
        student, teacher = plan.student, plan.teacher if teacher_product is not None else None
        compared = teacher is not None or plan.alone
        # Where nothing is compared, the softmax that the divergence would have shared is not made by it.
        alone = None if compared or buffers is None else buffers.q
        logits, soft = _own(student, rows, product, alone)
        block, teacher_logits, teacher_soft = None, None, None
        if teacher is not None and teacher_product is not None:
            teacher_logits, teacher_soft = _own(teacher, rows, teacher_product)
        if compared and buffers is not None:
            block = self._common(rows, logits, teacher_logits, buffers)
            self.divergence[rows] = plan.comparison.run(rows, block)
        if self.teacher_gradient and teacher and teacher_soft is not None and teacher_product is not None:
            teacher.store(teacher.gold_gradient(rows, teacher_soft), teacher_product)
        if self.student_gradient and plan.has_loss(teacher):
            student.store(self._combine(rows, logits, soft, block), product)

    def _common(self, rows: slice, student: Tensor, teacher: Tensor | None, buffers: Buffers) -> Block:
        """What is compared: the columns that take part, at the temperature."""
        plan = self.plan
        student_view = self._view(plan.student, student, plan.columns)
        teacher_view = None
        if teacher is not None and plan.teacher is not None:
            teacher_view = self._view(plan.teacher, teacher, plan.teacher_columns)
        teacher_view = plan.comparison.teacher_view(rows, teacher_view, buffers.carried[: len(student_view)])
        q, p, spare = (buffer[: len(student_view)] for buffer in (buffers.q, buffers.p, buffers.spare))
        block = Block(
            student=student_view,
            teacher=teacher_view,
            q=q,
            p=p,
            student_lse=softmax_into(student_view, q),
            teacher_lse=softmax_into(teacher_view, p),
            spare=spare,
            wants_gradient=self.student_gradient is not None,
            missing=plan.missing,
        )
        if plan.student.needs_own_softmax and plan.student.soft is None:
            plan.student.describe(rows, student, q, block.student_lse)
        if teacher is not None and plan.teacher and plan.teacher.needs_own_softmax and plan.teacher.soft is None:
            plan.teacher.describe(rows, teacher, p, block.teacher_lse)
        return block

    def _view(self, side: LogitSide, logits: Tensor, columns: int) -> Tensor:
        view, missing = logits[:, :columns], self.plan.missing
        if not side.tempered and self.plan.terms.temperature != 1:
            view.mul_(1 / self.plan.terms.temperature)
        return view if missing is None else view.masked_fill_(missing, floor(view.dtype))

    def _combine(self, rows: slice, logits: Tensor, soft: Tensor | None, block: Block | None) -> Tensor:
        """∂total/∂logits of the student, up to a factor per row that is left in `self.rows`."""
        plan, student = self.plan, self.plan.student
        self.rows[rows] = student.constant
        if block is None:
            assert soft is not None
            return student.gold_gradient(rows, soft)
        weights = self._divergence_weights(rows) * plan.comparison.factor
        if not student.tempered:
            weights = weights / plan.terms.temperature
        if student.gold_weights is None:
            self.rows[rows] *= weights
            return block.student
        block.student.mul_(weights[:, None])
        if soft is None:
            logits.addcmul_(block.q, student.gold_weights[rows])
            return student.subtract_gold(rows, logits)
        gold = student.gold_gradient(rows, soft)
        block.student.add_(gold[:, : plan.columns])
        logits[:, plan.columns :] = gold[:, plan.columns :]
        return logits

    def _divergence_weights(self, rows: slice) -> Tensor:
        plan = self.plan
        weights = plan.token_weights[rows]
        if plan.terms.only_where_teacher_right and plan.teacher and plan.pairs:
            right = plan.teacher.values["right"][rows]
            return torch.nn.functional.pad(right, (0, len(weights) - len(right))) * weights
        return weights

    def _total(self) -> Tensor:
        plan, values, everything = self.plan, self.values, slice(None)
        total = self.divergence.new_zeros(())
        for name, weights in (
            ("divergence", self._divergence_weights(everything) if plan.tokens else None),
            ("gold", plan.student.gold_weights),
            ("teacher_gold", plan.teacher.gold_weights if plan.teacher else None),
        ):
            if name in values and weights is not None:
                weights = weights.flatten()
                # 0 · ∞ is 0 here: a token without weight adds nothing whatever its value.
                total = total + (weights * values[name]).masked_fill(weights == 0, 0.0).sum()
        return total if plan.unit is None else total * plan.unit


def _own(side: LogitSide, rows: slice, product: Tensor, alone: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
    """Logits of one side and, where it needs one of its own, their softmax at temperature 1.

    `alone` is room for that softmax where the side has none and no divergence will make it.
    """
    logits = side.logits(product)
    side.name(rows, logits)
    soft = side.soft if side.soft is not None else alone
    if soft is None or not side.needs_own_softmax:
        return logits, None
    soft = soft[: logits.shape[0]]
    side.describe(rows, logits, soft, softmax_into(logits, soft))
    return logits, soft
