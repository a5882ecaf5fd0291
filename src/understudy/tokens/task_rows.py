"""From the texts of tasks to token ids: the rows of one example become a group that stays in one optimiser step."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from understudy.data.tasks import COUNTERFACTUAL, TaskRow
from understudy.errors import DataError
from understudy.tokens.align import CrossTokenizer
from understudy.tokens.collate import EncodedRow, ExampleRows, ExampleTokenizer, TeacherSide, encode_row


def encode_groups(
    groups: Iterable[Sequence[TaskRow]],
    student: ExampleTokenizer,
    teacher: ExampleTokenizer | None = None,
    cross_tokenizer: CrossTokenizer | None = None,
    others: Mapping[str, TeacherSide] | None = None,
) -> list[ExampleRows]:
    """Encode the texts of examples; what has no token to learn is left out and counted in the tokenizer's notes.

    Args:
        groups: the texts of each example (see `data.tasks.rows_of_examples`).
        student: the student's tokenizer.
        teacher: the teacher's, where the method needs its logits or states; it reads the same texts.
        cross_tokenizer: between the two tokenizers, where the method needs answers to be aligned.
        others: further teachers that read tokens of their own, by name.

    Raises:
        DataError: nothing is left to learn.
    """
    example_rows = []
    for group in groups:
        rows = [_encoded(row, student, teacher, cross_tokenizer, others) for row in group]
        learnable = tuple(row for row in rows if all(side.learned_ids for side in row.sides))
        for _ in range(len(rows) - len(learnable)):
            student.add_note("texts left out: what is given fills max_answer_tokens")
        if learnable:
            example_rows.append(ExampleRows(learnable))
    if not example_rows:
        raise DataError(
            "no text has a token left to learn", hint="raise data.max_answer_tokens, or set tasks.rationale_in: encoder"
        )
    return example_rows


def _encoded(row: TaskRow, student: ExampleTokenizer, *sides: Any) -> EncodedRow:
    encoded = encode_row(row.example, student, *sides, num_forced_chars=row.num_forced_chars)
    return dataclasses.replace(encoded, task=row.task, weight=row.weight, use_teacher=row.task != COUNTERFACTUAL)
