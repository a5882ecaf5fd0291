"""What one pass over two sides computes, settled before its first chunk: sides, columns, weights, sizes of pieces."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from understudy.losses.logit_comparisons import ByColumn, LogitComparison
from understudy.losses.requests import HeadTerms
from understudy.losses.sides import LearningSource, LogitSide, LogitSource, Report

# Fewer tokens make the products slower, more cost memory and no longer help (benchmarks/loss.py).
CPU_CHUNK_TOKENS, GPU_CHUNK_BYTES = 256, 512 << 20
CPU_BLOCK_BYTES, GPU_BLOCK_BYTES = 8 << 20, 256 << 20


@dataclass(frozen=True, slots=True)
class Plan:
    """What a pass computes, settled before the first chunk.

    Attributes:
        terms: what is asked for.
        student: the student's side.
        teacher: the teacher's; None for cross-entropy alone.
        comparison: how two blocks of logits are compared.
        exact: float32 or float64, the dtype of whatever is no matrix product.
        tokens: N.
        pairs: how many of them, the first ones, have a teacher.
        columns: the student's columns that take part in the comparison.
        teacher_columns: the teacher's.
        token_weights: `[N]` of the divergence.
        unit: what all weights have been divided by, where half precision would lose small ones; else None.
        missing: `[columns]` bool, columns that one side lacks; None: neither does.
    """

    terms: HeadTerms
    student: LogitSide
    teacher: LogitSide | None
    comparison: LogitComparison
    exact: torch.dtype
    tokens: int
    pairs: int
    columns: int
    teacher_columns: int
    token_weights: Tensor
    unit: Tensor | None
    missing: Tensor | None

    @property
    def device(self) -> torch.device:
        """Where the pass runs."""
        return self.student.device

    @property
    def alone(self) -> bool:
        """Whether tokens that have no teacher are compared too."""
        return self.teacher is not None and self.comparison.alone

    @property
    def gradient_columns(self) -> int:
        """The student's columns that may have a gradient."""
        return self.student.columns if self.student.gold_weights is not None else self.columns

    def has_loss(self, teacher: LogitSide | None) -> bool:
        """Whether tokens with or without a teacher have any loss at all."""
        return teacher is not None or self.alone or self.student.gold_weights is not None

    def shares_softmax(self, side: LogitSide) -> bool:
        """Whether the softmax of the divergence also serves the side's cross-entropy and statistics."""
        if self.teacher is None or self.terms.temperature != 1 or self.missing is not None:
            return False
        if side is self.student:
            return side.columns == self.columns
        return side.columns == self.teacher_columns and not self.comparison.alone

    def sizes(self) -> tuple[int, int]:
        """Tokens in a chunk and in a block."""
        widest = max(self.student.columns, self.teacher.columns if self.teacher else 0, 1)
        on_cpu = self.device.type == "cpu"
        chunk = self.terms.chunk_tokens
        if chunk is None:
            most = CPU_CHUNK_TOKENS
            if not on_cpu:
                most = max(most, GPU_CHUNK_BYTES // (widest * self.student.item_bytes))
            chunk = math.ceil(self.tokens / max(1, math.ceil(self.tokens / most)))
        chunk = max(1, min(chunk, self.tokens))
        least, size = (2 * torch.get_num_threads(), CPU_BLOCK_BYTES) if on_cpu else (64, GPU_BLOCK_BYTES)
        block = max(least, size // (widest * 4))
        return chunk, min(block, chunk)


def plan_pass(terms: HeadTerms, student: LearningSource, teacher: LogitSource | None) -> Plan:
    """Settle what a pass over two sides computes."""
    exact = torch.float64 if torch.float64 in (student.dtype, teacher and teacher.dtype) else torch.float32
    pairs = 0 if teacher is None else teacher.tokens
    compared = _comparison(terms, teacher)
    columns, teacher_columns = compared.widths(student.columns, (teacher or student).columns)
    (token_weights, gold_weights, teacher_weights), unit = _weights(terms, student, exact)
    whole = terms.gold_ids is not None or terms.statistics or terms.argmax
    report = Report(terms.gold_ids, gold_weights, terms.statistics, terms.argmax)
    student_side = student.side(student.columns if whole else columns, terms.temperature, exact, report)
    teacher_side = None
    if teacher is not None:
        report = _teacher_report(terms, teacher_weights, pairs, by_column=compared.by_column)
        whole = report.gold_ids is not None or terms.statistics or terms.argmax
        width = teacher.columns if whole else teacher_columns
        teacher_side = teacher.side(width, terms.temperature, exact, report)
    missing = _missing(student_side, teacher_side, columns) if compared.by_column else None
    return Plan(
        terms=terms,
        student=student_side,
        teacher=teacher_side,
        comparison=compared,
        exact=exact,
        tokens=student.tokens,
        pairs=pairs,
        columns=columns,
        teacher_columns=teacher_columns,
        token_weights=token_weights,
        unit=unit,
        missing=missing,
    )


def _comparison(terms: HeadTerms, teacher: LogitSource | None) -> LogitComparison:
    comparison = None if teacher is None else teacher.comparison(terms.divergence)
    if comparison is not None:
        return comparison
    return terms.divergence if isinstance(terms.divergence, LogitComparison) else ByColumn(terms.divergence)


def _weights(
    terms: HeadTerms, student: LearningSource, exact: torch.dtype
) -> tuple[tuple[Tensor, Tensor | None, Tensor | None], Tensor | None]:
    """The three weights, and what they are divided by where half precision would lose small ones."""
    ones = torch.ones(student.tokens, dtype=exact, device=student.device)
    token, gold, teacher = (
        None if weights is None else weights.detach().to(exact)
        for weights in (terms.token_weights, terms.gold_weights, terms.teacher_gold_weights)
    )
    token = ones if token is None else token
    if student.dtype != torch.float16 or not student.tokens:
        return (token, gold, teacher), None
    unit = torch.cat([weights.abs() for weights in (token, gold, teacher) if weights is not None]).amax()
    unit = unit.clamp_min(torch.finfo(exact).tiny)
    gold, teacher = (None if weights is None else weights / unit for weights in (gold, teacher))
    return (token / unit, gold, teacher), unit


def _teacher_report(terms: HeadTerms, weights: Tensor | None, pairs: int, *, by_column: bool) -> Report:
    with_gold = terms.teacher_gold_weights is not None or terms.only_where_teacher_right
    with_gold = with_gold or (terms.statistics and terms.gold_ids is not None and by_column)
    ids = terms.teacher_gold_ids
    if ids is None and terms.gold_ids is not None:
        ids = terms.gold_ids[:pairs]
    return Report(ids if with_gold else None, weights, terms.statistics, terms.argmax, terms.shared_columns)


def _missing(student: LogitSide, teacher: LogitSide | None, columns: int) -> Tensor | None:
    """The columns, among those both sides have, that a bias of −∞ takes away on either side."""
    absent = [side.absent[:columns] for side in (student, teacher) if side and side.absent is not None]
    return None if not absent else absent[0] | absent[-1]
