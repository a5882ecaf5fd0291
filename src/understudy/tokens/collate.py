"""From examples to batches: template, tokenise, shift by one, mask. The shift and the padding mask happen here only.

```text
ids          p0 p1 p2 a0 a1 </s>        prompt p, answer a
input_ids    p0 p1 p2 a0 a1             the last token predicts nothing that is learned
target_mask   .  .  1  1  1             true where the NEXT token is learned
target_ids         a0 a1 </s>
```

An encoder–decoder reads p0 p1 p2 with its tokenizer; `decoder_input_ids` are START a0 a1, and `target_mask` is theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from understudy.errors import DataError, ModelError
from understudy.tokens.align import CrossTokenizer, RowAlignment
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.prompts import answer_text
from understudy.types import Alignment, Batch, Example, RolloutTokens, TeacherTokens, Tokens


@dataclass(frozen=True)
class TeacherSide:
    """What turns examples into a teacher's tokens, and what lies between these and the student's.

    Attributes:
        tokenizer: the teacher's.
        cross_tokenizer: between the two tokenizers, where its method needs answers to be aligned.
    """

    tokenizer: ExampleTokenizer
    cross_tokenizer: CrossTokenizer | None = None


@dataclass(frozen=True)
class TeacherRow:
    """One row as a teacher reads it, and which of its answer tokens belong to which of the student's."""

    tokens: TokenizedExample
    alignment: RowAlignment | None = None


@dataclass(frozen=True)
class DrawnRow:
    """What is known of an answer that the student wrote.

    Attributes:
        logp: log-probability of each of its tokens when it was drawn; empty where they were cut anew since.
        age: optimiser steps since the weights that drew it.
        finished: whether it ends with a stop token.
        repetition: share of its trigrams that it had before.
        mixed: whether a teacher was drawn from too.
        credit: the student's token at whose end each of the teacher's counts; empty where both are the same.
    """

    logp: tuple[float, ...]
    age: int
    finished: bool
    repetition: float
    mixed: bool = False
    credit: tuple[int, ...] = ()


@dataclass(frozen=True)
class EncodedRow:
    """One row, ready to be padded: ids for the student and, where a teacher reads along, for the teacher.

    `alignment` says which of the two's answer tokens belong together, where the method asks for it. Rows of tasks name
    theirs, with its weight in the loss, and whether they use the teacher. `others` are further teachers by name;
    `drawn` says of an answer that the student wrote how it came about. A row of several answers has a teacher's
    `scores` of them, and the `shares` that each has in what is written.
    """

    id: str
    student: TokenizedExample
    teacher: TokenizedExample | None
    gold: bool
    alignment: RowAlignment | None = None
    task: str = ""
    weight: float = 1.0
    use_teacher: bool = True
    others: Mapping[str, TeacherRow] = field(default_factory=dict)
    drawn: DrawnRow | None = None
    scores: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()

    @property
    def rows(self) -> tuple[EncodedRow, ...]:
        """Itself, as a group of one."""
        return (self,)

    @property
    def sides(self) -> tuple[TokenizedExample, ...]:
        """What each model reads, the student first."""
        others = (row.tokens for row in self.others.values())
        return (self.student, *([self.teacher] if self.teacher else []), *others)

    @property
    def length(self) -> int:
        """Tokens of the longest side, prompt and answer."""
        return max(len(side.ids) for side in self.sides)


def encode_rows(
    examples: Sequence[Example],
    student: ExampleTokenizer,
    teacher: ExampleTokenizer | None = None,
    cross_tokenizer: CrossTokenizer | None = None,
    others: Mapping[str, TeacherSide] | None = None,
) -> list[EncodedRow]:
    """Encode examples, and align them where two vocabularies meet, once, before training.

    Args:
        examples: rows with an answer.
        student: the student's tokenizer.
        teacher: the teacher's, where the method needs its logits or states.
        cross_tokenizer: between the two tokenizers, where the method needs answers to be aligned.
        others: further teachers that read tokens of their own, by name.

    Raises:
        DataError: a teacher wrote all answers, and the student can give none of them.
    """
    rows = []
    for example in examples:
        # A gold answer that cannot be learned stops the run; what a teacher wrote is whatever it wrote.
        if example.origin == "teacher" and not student.can_learn(example):
            student.add_note("the teacher's answers that the student cannot give: left out")
        else:
            rows.append(encode_row(example, student, teacher, cross_tokenizer, others))
    if examples and not rows:
        raise DataError(
            "the student can give none of the teacher's answers: not one stands in its context",
            hint="take a teacher that points, or a student that writes",
        )
    return rows


def encode_row(
    example: Example,
    student: ExampleTokenizer,
    teacher: ExampleTokenizer | None = None,
    cross_tokenizer: CrossTokenizer | None = None,
    others: Mapping[str, TeacherSide] | None = None,
    *,
    num_forced_chars: int = 0,
) -> EncodedRow:
    """One row of `encode_rows`; an answer whose first `num_forced_chars` characters are forced is not aligned."""
    further = others or {}
    between = [cross_tokenizer, *(side.cross_tokenizer for side in further.values())]
    token_ends = any(cross is not None and cross.kind != "start" for cross in between) and not num_forced_chars
    tokens = student.encode(example, token_ends=token_ends, num_forced_chars=num_forced_chars)

    def read(side: TeacherSide) -> TeacherRow:
        own = side.tokenizer.encode(example, token_ends=token_ends, num_forced_chars=num_forced_chars)
        if side.cross_tokenizer is None:
            return TeacherRow(own)
        if num_forced_chars:
            lengths = len(tokens.learned_ids), len(own.learned_ids)
            return TeacherRow(own, side.cross_tokenizer.without_partners(*lengths))
        return TeacherRow(own, side.cross_tokenizer.align(tokens, own, answer_text(example)))

    first = read(TeacherSide(teacher, cross_tokenizer)) if teacher else None
    return EncodedRow(
        example.id,
        tokens,
        first and first.tokens,
        example.origin == "gold",
        first and first.alignment,
        others={name: read(side) for name, side in further.items()},
    )


@dataclass(frozen=True)
class ExampleRows:
    """The rows of one example, which stay in one optimiser step."""

    rows: tuple[EncodedRow, ...]

    @property
    def length(self) -> int:
        """Tokens of the longest row."""
        return max(row.length for row in self.rows)


@dataclass(frozen=True)
class Padding:
    """How a further teacher's rows are padded.

    Attributes:
        pad: its pad id.
        same_targets: whether its method compares position by position, so that both must learn the same ids.
    """

    pad: int
    same_targets: bool


@dataclass(frozen=True)
class Collator:
    """Pads rows into a `Batch`; the teacher's tokens are the student's own object where both read the same ids.

    Attributes:
        student_pad: pad id of the student.
        teacher_pad: pad id of the teacher; None without a teacher.
        same_targets: whether the method compares position by position, so that both must learn the same ids.
        others: the same of further teachers, by name.
    """

    student_pad: int
    teacher_pad: int | None = None
    same_targets: bool = True
    others: Mapping[str, Padding] = field(default_factory=dict)

    def __call__(self, items: Sequence[EncodedRow | ExampleRows]) -> Batch:
        """Pad rows, and the rows of groups, on the right.

        Raises:
            ModelError: the method needs equal target tokens and the two templates end an answer differently.
        """
        rows = [row for item in items for row in item.rows]
        student = _tokens([row.student for row in rows], self.student_pad)
        batch: Batch = {
            "student": student,
            "gold_rows": torch.tensor([row.gold for row in rows]),
            "ids": [row.id for row in rows],
        }
        if any(row.task for row in rows):
            batch["tasks"] = [row.task for row in rows]
            batch["weights"] = torch.tensor([row.weight for row in rows])
            batch["use_teacher"] = torch.tensor([row.use_teacher for row in rows])
        elif any(row.weight != 1.0 for row in rows):
            batch["weights"] = torch.tensor([row.weight for row in rows])
        if rows[0].scores:
            batch["scores"] = _candidate_values([row.scores for row in rows])
            batch["shares"] = _candidate_values([row.shares for row in rows])
        if rows[0].drawn is not None:
            batch["rollouts"] = _rollouts(rows)
        if self.teacher_pad is None:
            return batch
        first = [TeacherRow(row.teacher, row.alignment) for row in rows if row.teacher is not None]
        assert len(first) == len(rows), "rows were encoded without a teacher"
        read = _read(first, rows, student, Padding(self.teacher_pad, self.same_targets))
        batch["teacher"] = read["tokens"]
        if "alignment" in read:
            batch["alignment"] = read["alignment"]
        if self.others:
            batch["others"] = {
                name: _read([row.others[name] for row in rows], rows, student, padding)
                for name, padding in self.others.items()
            }
        return batch


def _candidate_values(rows: Sequence[tuple[float, ...]]) -> torch.Tensor:
    """`[B, K]`, 0 where a row has no such candidate."""
    width = max(map(len, rows))
    return torch.tensor([[*row, *(0.0 for _ in range(width - len(row)))] for row in rows])


def _rollouts(rows: Sequence[EncodedRow]) -> RolloutTokens:
    """What is known of answers that the student wrote."""
    drawn = [row.drawn for row in rows if row.drawn is not None]
    assert len(drawn) == len(rows), "a batch holds answers of the student or given ones, not both"
    lengths = [len(row.student.learned_ids) for row in rows]
    logp = [own.logp or (float("nan"),) * length for own, length in zip(drawn, lengths, strict=True)]
    facts: RolloutTokens = {
        "logp": torch.tensor([value for row in logp for value in row]),
        "stale": torch.tensor([own.mixed or own.age > 0 for own in drawn]),
        "age": torch.tensor([own.age for own in drawn]),
        "finished": torch.tensor([own.finished for own in drawn]),
        "repetition": torch.tensor([own.repetition for own in drawn]),
    }
    if any(own.credit for own in drawn):
        starts = np.cumsum([0, *lengths[:-1]])
        credit = [np.asarray(own.credit) + start for own, start in zip(drawn, starts, strict=True)]
        facts["credit"] = torch.from_numpy(np.concatenate(credit))
    return facts


def _read(read: Sequence[TeacherRow], rows: Sequence[EncodedRow], student: Tokens, padding: Padding) -> TeacherTokens:
    """What a teacher reads of a batch, padded.

    Raises:
        ModelError: see `Collator.__call__`.
    """
    same = all(own.tokens.reads_as(row.student) for own, row in zip(read, rows, strict=True))
    side: TeacherTokens = {"tokens": student if same else _tokens([own.tokens for own in read], padding.pad)}
    aligned = [own.alignment for own in read if own.alignment is not None]
    if len(aligned) == len(rows):
        lengths = [len(row.student.learned_ids) for row in rows], [len(own.tokens.learned_ids) for own in read]
        side["alignment"] = _alignment(aligned, *lengths)
    if padding.same_targets and not same and not torch.equal(student["target_ids"], side["tokens"]["target_ids"]):
        raise ModelError(
            "teacher and student cut the same answer into different tokens, though their vocabularies agree",
            hint="give both the same chat_template in the recipe, or use method: dskd_v2 or dskd_cma",
        )
    return side


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


def _tokens(rows: Sequence[TokenizedExample], pad_id: int) -> Tokens:
    return type(rows[0]).batched(rows, pad_id)


def short_inputs(row: TokenizedExample, longest: int = 64) -> dict[str, torch.Tensor]:
    """What a model eats of one row, cut short: a real input to try it on."""
    short = row.short(longest)
    return type(short).batched([short], 0)["inputs"]


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
