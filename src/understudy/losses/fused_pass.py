"""The pass over chunks of tokens behind `fused_head`.

Two sizes of piece: a *chunk* is large enough for the matrix products to run at full speed, a *block* of its rows
small enough for the element-wise work to stay in the processor's cache.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from understudy.losses.heads import HeadGradient, HeadSide, HeadSpec, floor, softmax_into
from understudy.losses.kernels import Block
from understudy.losses.logit_comparisons import ByColumn, LogitComparison
from understudy.losses.requests import HeadTerms, WantedGradients

# Fewer tokens make the products slower, more cost memory and no longer help (benchmarks/loss.py).
CPU_CHUNK_TOKENS, GPU_CHUNK_BYTES = 256, 512 << 20
CPU_BLOCK_BYTES, GPU_BLOCK_BYTES = 8 << 20, 256 << 20


class HeadPass:
    """One pass over student and teacher head.

    After `run`, `values` holds the per-token values by name and `gradients` those of student hidden states, weight
    and bias and teacher hidden states; the latter still lack the factor `unit` where that is not None.
    """

    def __init__(self, terms: HeadTerms, student: HeadSpec, teacher: HeadSpec | None, wants: WantedGradients) -> None:
        self.terms = terms
        self.num_tokens, self.device = student.hidden.shape[0], student.hidden.device
        specs = [spec for spec in (student, teacher) if spec is not None]
        self.exact = torch.float64 if any(s.hidden.dtype == torch.float64 for s in specs) else torch.float32
        self.num_pairs = 0 if teacher is None else teacher.hidden.shape[0]
        given = terms.divergence
        self.comparison = given if isinstance(given, LogitComparison) else ByColumn(given)
        self.alone = teacher is not None and self.comparison.alone
        self.columns, self.teacher_columns = self.comparison.widths(specs[0].weight.shape[0], specs[-1].weight.shape[0])
        self._take_weights(student)
        self._open_student(student, wants)
        self._open_teacher(teacher, wants)
        self.missing = self._missing() if self.comparison.by_column else None
        self.divergence = torch.zeros(self.num_tokens, dtype=self.exact, device=self.device)
        self.rows = torch.zeros_like(self.divergence)

    def run(self) -> Tensor:
        """Compute everything; returns the weighted total."""
        with torch.autocast(self.device.type, enabled=False):
            chunk, block = self._sizes()
            self._reserve(chunk, block)
            for first, last in ((0, self.num_pairs), (self.num_pairs, self.num_tokens)):
                for start in range(first, last, chunk):
                    self._chunk(start, min(start + chunk, last), block)
            return self._total()

    @property
    def values(self) -> dict[str, Tensor]:
        """The per-token values by their names in `HeadLosses`."""
        found = {("gold" if name == "gold" else f"student_{name}"): v for name, v in self.student.values.items()}
        if self.teacher is not None:
            found |= {f"teacher_{name}": value for name, value in self.teacher.values.items()}
            found["divergence"] = self.divergence
        return found

    @property
    def gradients(self) -> list[Tensor | None]:
        """Gradients of student hidden states, weight, bias, and teacher hidden states."""
        own, other = self.student_gradient, self.teacher_gradient
        return [own and own.hidden, own and own.weight, own and own.bias, other and other.hidden]  # type: ignore

    def _take_weights(self, student: HeadSpec) -> None:
        """The three weights `[N]`, divided by their largest where half precision would lose small ones."""
        terms = self.terms
        exact = self.exact
        ones = torch.ones(self.num_tokens, dtype=exact, device=self.device)
        given = [terms.token_weights, terms.gold_weights, terms.teacher_gold_weights]
        self.weights = [None if weights is None else weights.detach().to(exact) for weights in given]
        self.weights[0] = ones if self.weights[0] is None else self.weights[0]
        self.unit = None
        if student.hidden.dtype == torch.float16 and self.num_tokens:
            self.unit = torch.cat([weights.abs() for weights in self.weights if weights is not None]).amax()
            self.unit = self.unit.clamp_min(torch.finfo(exact).tiny)
            self.weights = [None if weights is None else weights / self.unit for weights in self.weights]

    def _open_student(self, spec: HeadSpec, wants: WantedGradients) -> None:
        terms = self.terms
        whole = terms.gold_ids is not None or terms.statistics or terms.argmax
        self.student = HeadSide(
            spec,
            columns=spec.weight.shape[0] if whole else self.columns,
            temperature=terms.temperature,
            gold_ids=terms.gold_ids,
            gold_weights=self.weights[1],
            statistics=terms.statistics,
            argmax=terms.argmax,
            exact=self.exact,
        )
        asked = (
            spec.hidden if wants.student_hidden else None,
            spec.weight if wants.student_weight else None,
            spec.bias if wants.student_bias else None,
        )
        wanted = any(tensor is not None for tensor in asked)
        self.student_gradient = HeadGradient(self.student, *asked) if wanted else None

    def _open_teacher(self, spec: HeadSpec | None, wants: WantedGradients) -> None:
        terms = self.terms
        self.teacher = self.teacher_gradient = None
        if spec is None:
            return
        with_gold = terms.teacher_gold_weights is not None or terms.only_where_teacher_right
        with_gold = with_gold or (terms.statistics and terms.gold_ids is not None and self.comparison.by_column)
        gold_ids = terms.teacher_gold_ids
        if gold_ids is None and terms.gold_ids is not None:
            gold_ids = terms.gold_ids[: self.num_pairs]
        whole = with_gold or terms.statistics or terms.argmax
        self.teacher = HeadSide(
            spec,
            columns=spec.weight.shape[0] if whole else self.teacher_columns,
            temperature=terms.temperature,
            gold_ids=gold_ids if with_gold else None,
            gold_weights=self.weights[2],
            statistics=terms.statistics,
            argmax=terms.argmax,
            shared=terms.shared_columns,
            exact=self.exact,
        )
        if wants.teacher_hidden and terms.teacher_gold_weights is not None:
            self.teacher_gradient = HeadGradient(self.teacher, spec.hidden, None, None)

    def _missing(self) -> Tensor | None:
        """The columns, among those both sides have, that a bias of −∞ takes away on either side."""
        absent = [
            side.absent[: self.columns] for side in (self.student, self.teacher) if side and side.absent is not None
        ]
        return None if not absent else absent[0] | absent[-1]

    def _shares(self, side: HeadSide) -> bool:
        """Whether the softmax of the divergence also serves the side's cross-entropy and statistics."""
        if self.teacher is None or self.terms.temperature != 1 or self.missing is not None:
            return False
        if side is self.student:
            return side.columns == self.columns
        return side.columns == self.teacher_columns and not self.comparison.alone

    def _sizes(self) -> tuple[int, int]:
        """Tokens in a chunk and in a block."""
        widest = max(self.student.columns, self.teacher.columns if self.teacher else 0, 1)
        on_cpu = self.device.type == "cpu"
        chunk = self.terms.chunk_tokens
        if chunk is None:
            most = CPU_CHUNK_TOKENS
            if not on_cpu:
                most = max(most, GPU_CHUNK_BYTES // (widest * self.student.hidden.element_size()))
            chunk = math.ceil(self.num_tokens / max(1, math.ceil(self.num_tokens / most)))
        chunk = max(1, min(chunk, self.num_tokens))
        least, size = (2 * torch.get_num_threads(), CPU_BLOCK_BYTES) if on_cpu else (64, GPU_BLOCK_BYTES)
        block = max(least, size // (widest * 4))
        return chunk, min(block, chunk)

    def _reserve(self, chunk: int, block: int) -> None:
        """Allocate what the chunks share."""
        for side, gradient in ((self.student, self.student_gradient), (self.teacher, self.teacher_gradient)):
            if side is not None:
                # The teacher's gold gradient outlives the divergence, which uses up the softmax of the teacher.
                lasting = side is self.teacher and gradient is not None
                own = side.needs_own_softmax and (lasting or not self._shares(side))
                side.reserve(chunk, block, own_softmax=own, gradient=gradient is not None)
        if self.teacher is not None:
            compared = self.comparison.compared(self.columns, self.teacher_columns)
            widths = [self.columns, compared, max(self.columns, compared)]
            self.scratch = [torch.empty(block, width, dtype=self.exact, device=self.device) for width in widths]
            carried = compared if self.alone else 0
            self.carried = torch.empty(block, carried, dtype=self.exact, device=self.device)

    def _chunk(self, start: int, stop: int, block: int) -> None:
        student, teacher = self.student, self.teacher if start < self.num_pairs else None
        if teacher is None and not (self.alone or student.needs_own_softmax or student.argmax):
            return
        product = student.project(start, stop)
        teacher_product = teacher.project(start, stop) if teacher else None
        for first in range(0, stop - start, block):
            piece = slice(first, min(first + block, stop - start))
            rows = slice(start + piece.start, start + piece.stop)
            self._block(rows, product[piece], None if teacher_product is None else teacher_product[piece])
        if self.student_gradient and self._has_gradient(teacher):
            self.student_gradient.add(product[:, : self._gradient_columns], start, stop, self.rows[start:stop])
        if self.teacher_gradient and teacher and teacher_product is not None:
            whole = torch.full_like(self.rows[start:stop], teacher.constant)
            self.teacher_gradient.add(teacher_product, start, stop, whole)

    @property
    def _gradient_columns(self) -> int:
        return self.student.columns if self.student.gold_weights is not None else self.columns

    def _has_gradient(self, teacher: HeadSide | None) -> bool:
        """Whether tokens with or without a teacher have any loss at all."""
        return teacher is not None or self.alone or self.student.gold_weights is not None

    def _block(self, rows: slice, product: Tensor, teacher_product: Tensor | None) -> None:
        """All terms of a few rows; afterwards the products hold the gradients with respect to the logits."""
        student, teacher = self.student, self.teacher if teacher_product is not None else None
        compared = teacher is not None or self.alone
        logits, soft = self._own(student, rows, product, compared=compared)
        block, teacher_logits, teacher_soft = None, None, None
        if teacher is not None and teacher_product is not None:
            teacher_logits, teacher_soft = self._own(teacher, rows, teacher_product)
        if compared:
            block = self._common(rows, logits, teacher_logits)
            self.divergence[rows] = self.comparison.run(rows, block)
        if self.teacher_gradient and teacher and teacher_soft is not None and teacher_product is not None:
            teacher.store(teacher.gold_gradient(rows, teacher_soft), teacher_product)
        if self.student_gradient and self._has_gradient(teacher):
            student.store(self._combine(rows, logits, soft, block), product)

    def _own(
        self, side: HeadSide, rows: slice, product: Tensor, *, compared: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Logits of one side and, where it needs one of its own, their softmax at temperature 1."""
        logits = side.logits(product)
        side.name(rows, logits)
        # Where nothing is compared, the softmax that the divergence would have shared is not made by it.
        soft = side.soft if compared or side.soft is not None else self.scratch[0]
        if soft is None or not side.needs_own_softmax:
            return logits, None
        soft = soft[: logits.shape[0]]
        side.describe(rows, logits, soft, softmax_into(logits, soft))
        return logits, soft

    def _common(self, rows: slice, student: Tensor, teacher: Tensor | None) -> Block:
        """What is compared: the columns that take part, at the temperature."""
        own = self._view(self.student, student, self.columns)
        other = None
        if teacher is not None and self.teacher is not None:
            other = self._view(self.teacher, teacher, self.teacher_columns)
        other = self.comparison.teacher_view(rows, other, self.carried[: len(own)])
        q, p, spare = (buffer[: len(own)] for buffer in self.scratch)
        block = Block(
            student=own,
            teacher=other,
            q=q,
            p=p,
            student_lse=softmax_into(own, q),
            teacher_lse=softmax_into(other, p),
            spare=spare,
            wants_gradient=self.student_gradient is not None,
            missing=self.missing,
        )
        if self.student.needs_own_softmax and self.student.soft is None:
            self.student.describe(rows, student, q, block.student_lse)
        if teacher is not None and self.teacher and self.teacher.needs_own_softmax and self.teacher.soft is None:
            self.teacher.describe(rows, teacher, p, block.teacher_lse)
        return block

    def _view(self, side: HeadSide, logits: Tensor, columns: int) -> Tensor:
        view = logits[:, :columns]
        if not side.tempered and self.terms.temperature != 1:
            view.mul_(1 / self.terms.temperature)
        return view if self.missing is None else view.masked_fill_(self.missing, floor(view.dtype))

    def _combine(self, rows: slice, logits: Tensor, soft: Tensor | None, block: Block | None) -> Tensor:
        """∂total/∂logits of the student, up to a factor per row that is left in `self.rows`."""
        student = self.student
        self.rows[rows] = student.constant
        if block is None:
            assert soft is not None
            return student.gold_gradient(rows, soft)
        weights = self._divergence_weights(rows) * self.comparison.factor
        if not student.tempered:
            weights = weights / self.terms.temperature
        if student.gold_weights is None:
            self.rows[rows] *= weights
            return block.student
        block.student.mul_(weights[:, None])
        if soft is None:
            logits.addcmul_(block.q, student.gold_weights[rows])
            return student.subtract_gold(rows, logits)
        gold = student.gold_gradient(rows, soft)
        block.student.add_(gold[:, : self.columns])
        logits[:, self.columns :] = gold[:, self.columns :]
        return logits

    def _divergence_weights(self, rows: slice) -> Tensor:
        weights = self.weights[0]
        assert weights is not None
        weights = weights[rows]
        if self.terms.only_where_teacher_right and self.teacher and self.num_pairs:
            right = self.teacher.values["right"][rows]
            return torch.nn.functional.pad(right, (0, len(weights) - len(right))) * weights
        return weights

    def _total(self) -> Tensor:
        total = self.divergence.new_zeros(())
        values, everything = self.values, slice(None)
        for name, weights in (
            ("divergence", self._divergence_weights(everything) if self.num_tokens else None),
            ("gold", self.student.gold_weights),
            ("teacher_gold", self.teacher.gold_weights if self.teacher else None),
        ):
            if name in values and weights is not None:
                weights = weights.flatten()
                # 0 · ∞ is 0 here: a token without weight adds nothing whatever its value.
                total = total + (weights * values[name]).masked_fill(weights == 0, 0.0).sum()
        return total if self.unit is None else total * self.unit
