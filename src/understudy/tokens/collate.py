"""From examples to batches: template, tokenise, shift by one, mask. The shift and the padding mask happen here only.

```text
ids          p0 p1 p2 a0 a1 </s>        prompt p, answer a
input_ids    p0 p1 p2 a0 a1             the last token predicts nothing that is learned
target_mask   .  .  1  1  1             true where the NEXT token is learned
target_ids         a0 a1 </s>
```

An encoder–decoder reads p0 p1 p2 with its encoder; `decoder_input_ids` are START a0 a1, and `target_mask` is theirs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from understudy.errors import ModelError
from understudy.tokens.align import CrossTokenizer, RowAlignment
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.prompts import answer_text
from understudy.tokens.template import TokenizedExample
from understudy.types import Alignment, Batch, Example, Tokens


@dataclass(frozen=True)
class EncodedRow:
    """One row, ready to be padded: ids for the student and, where a teacher reads along, for the teacher.

    `alignment` says which of the two's answer tokens belong together, where the method asks for it. Rows of tasks name
    theirs, with its weight in the loss, and whether they use the teacher.
    """

    id: str
    student: TokenizedExample
    teacher: TokenizedExample | None
    gold: bool
    alignment: RowAlignment | None = None
    task: str = ""
    weight: float = 1.0
    use_teacher: bool = True

    @property
    def rows(self) -> tuple[EncodedRow, ...]:
        """Itself, as a group of one."""
        return (self,)

    @property
    def length(self) -> int:
        """Tokens of the longer side, prompt and answer."""
        return max(len(side.ids) for side in (self.student, self.teacher) if side)


def encode_rows(
    examples: Sequence[Example],
    student: ExampleTokenizer,
    teacher: ExampleTokenizer | None = None,
    bridge: CrossTokenizer | None = None,
) -> list[EncodedRow]:
    """Encode examples, and align them where two vocabularies meet, once, before training.

    Args:
        examples: rows with an answer.
        student: the student's encoder.
        teacher: the teacher's, where the method needs its logits or states.
        bridge: between the two tokenizers, where the method needs answers to be aligned.
    """
    return [encode_row(example, student, teacher, bridge) for example in examples]


def encode_row(
    example: Example,
    student: ExampleTokenizer,
    teacher: ExampleTokenizer | None = None,
    bridge: CrossTokenizer | None = None,
    *,
    num_forced_chars: int = 0,
) -> EncodedRow:
    """One row of `encode_rows`; an answer whose first `num_forced_chars` characters are forced is not aligned."""
    token_ends = bridge is not None and bridge.kind != "start" and not num_forced_chars
    ours = student.encode(example, token_ends=token_ends, num_forced_chars=num_forced_chars)
    theirs = teacher.encode(example, token_ends=token_ends, num_forced_chars=num_forced_chars) if teacher else None
    aligned = None
    if bridge and theirs and num_forced_chars:
        aligned = bridge.without_partners(len(ours.learned_ids), len(theirs.learned_ids))
    elif bridge and theirs:
        aligned = bridge.align(ours, theirs, answer_text(example))
    return EncodedRow(example.id, ours, theirs, example.origin == "gold", aligned)


@dataclass(frozen=True)
class ExampleRows:
    """The rows of one example, which stay in one optimiser step."""

    rows: tuple[EncodedRow, ...]

    @property
    def length(self) -> int:
        """Tokens of the longest row."""
        return max(row.length for row in self.rows)


@dataclass(frozen=True)
class Collator:
    """Pads rows into a `Batch`; the teacher's tokens are the student's own object where both read the same ids.

    Attributes:
        student_pad: pad id of the student.
        teacher_pad: pad id of the teacher; None without a teacher.
        same_targets: whether the method compares position by position, so that both must learn the same ids.
    """

    student_pad: int
    teacher_pad: int | None = None
    same_targets: bool = True

    def __call__(self, items: Sequence[EncodedRow | ExampleRows]) -> Batch:
        """Pad rows, and the rows of groups, on the right.

        Raises:
            ModelError: the method needs equal target tokens and the two templates end an answer differently.
        """
        rows = [row for item in items for row in item.rows]
        student = tokens_of([row.student for row in rows], self.student_pad)
        batch: Batch = {
            "student": student,
            "gold_rows": torch.tensor([row.gold for row in rows]),
            "ids": [row.id for row in rows],
        }
        if any(row.task for row in rows):
            batch["tasks"] = [row.task for row in rows]
            batch["weights"] = torch.tensor([row.weight for row in rows])
            batch["use_teacher"] = torch.tensor([row.use_teacher for row in rows])
        if self.teacher_pad is None:
            return batch
        theirs = [row.teacher for row in rows]
        assert all(theirs), "rows were encoded without a teacher"
        aligned = [row.alignment for row in rows if row.alignment is not None]
        if len(aligned) == len(rows):
            lengths = [[len(side.learned_ids) for side in sides if side] for sides in _both(rows)]
            batch["alignment"] = _alignment(aligned, *lengths)
        if all(row.teacher is not None and row.teacher.reads_as(row.student) for row in rows):
            batch["teacher"] = student
            return batch
        batch["teacher"] = tokens_of([t for t in theirs if t is not None], self.teacher_pad)
        if self.same_targets and not torch.equal(student["target_ids"], batch["teacher"]["target_ids"]):
            raise ModelError(
                "teacher and student cut the same answer into different tokens, though their vocabularies agree",
                hint="give both the same chat_template in the recipe, or use method: dskd_v2 or dskd_cma",
            )
        return batch


def _both(rows: Sequence[EncodedRow]) -> tuple[list[TokenizedExample], list[TokenizedExample | None]]:
    return [row.student for row in rows], [row.teacher for row in rows]


def _alignment(rows: Sequence[RowAlignment], student: list[int], teacher: list[int]) -> Alignment:
    """The alignments of rows, shifted to where the rows' target tokens stand in the batch."""
    starts, teacher_starts = (np.cumsum([0, *lengths[:-1]]) for lengths in (student, teacher))

    def flat(pieces: list, shifts: Any) -> torch.Tensor:
        moved = [np.where(piece < 0, -1, piece + shift) for piece, shift in zip(pieces, shifts, strict=True)]
        return torch.from_numpy(np.concatenate(moved))

    alignment: Alignment = {"partners": flat([row.partners for row in rows], teacher_starts)}
    if any(len(row.student_groups) for row in rows):
        alignment["student_groups"] = flat([row.student_groups for row in rows], starts)
        alignment["teacher_groups"] = flat([row.teacher_groups for row in rows], starts)
    return alignment


def short_inputs(row: TokenizedExample, longest: int = 64) -> dict[str, torch.Tensor]:
    """What a model eats of one row, cut short: a real input to try it on."""
    short = replace(row, prompt_ids=row.prompt_ids[:longest], answer_ids=row.answer_ids[:longest], num_forced=0)
    return tokens_of([short], 0)["inputs"]


def tokens_of(rows: Sequence[TokenizedExample], pad_id: int) -> Tokens:
    """What one model eats of some rows, padded on the right."""
    encoder_decoder = bool(rows[0].start)
    starts = [list(row.start) if encoder_decoder else row.prompt_ids for row in rows]
    input_ids = [[*start, *row.answer_ids][:-1] for start, row in zip(starts, rows, strict=True)]
    ids, attention = padded(input_ids, pad_id)
    targets = torch.zeros_like(ids, dtype=torch.bool)
    for index, (start, row) in enumerate(zip(starts, rows, strict=True)):
        targets[index, len(start) + row.num_forced - 1 : len(input_ids[index])] = True
    inputs = {"input_ids": ids, "attention_mask": attention}
    if encoder_decoder:
        source, source_attention = padded([row.prompt_ids for row in rows], pad_id)
        inputs = {
            "input_ids": source,
            "attention_mask": source_attention,
            "decoder_input_ids": ids,
            "decoder_attention_mask": attention,
        }
    target_ids = torch.tensor([token for row in rows for token in row.learned_ids])
    return {"inputs": inputs, "target_mask": targets, "target_ids": target_ids}


def padded(rows: Sequence[Sequence[int]], pad_id: int, *, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of token ids as one tensor, padded on the right or on the left, and the mask that tells padding."""
    width = max(len(row) for row in rows)
    ids = torch.full((len(rows), width), pad_id)
    mask = torch.zeros((len(rows), width), dtype=torch.long)
    for index, row in enumerate(rows):
        place = slice(width - len(row), width) if left else slice(len(row))
        ids[index, place] = torch.tensor(row, dtype=torch.long)
        mask[index, place] = 1
    return ids, mask


def move(batch: Any, device: torch.device) -> Any:
    """A batch on another device; what both models share stays shared."""
    seen: dict[int, Any] = {}

    def walk(value: Any) -> Any:
        if id(value) in seen:
            return seen[id(value)]
        if isinstance(value, torch.Tensor):
            moved = value.to(device)
        elif isinstance(value, dict):
            moved = {key: walk(inner) for key, inner in value.items()}
        else:
            moved = value
        seen[id(value)] = moved
        return moved

    return walk(batch)
