"""A batch as people can read it: each token with its role, and two prompts with their differences.

The roles are read off the tensors that the model gets, not off the text they were made from: what is shown as
learned is what the loss sees.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import decoders

from understudy.tokens.template_checks import altered
from understudy.types import Tokens


@dataclass(frozen=True)
class Piece:
    """One token.

    Attributes:
        text: as it stands in the text, a leading space included; control characters made visible.
        learned: whether the student learns to write it.
        special: whether it is a special or added token.
    """

    text: str
    learned: bool
    special: bool


@dataclass(frozen=True)
class TokenRow:
    """One row of a batch.

    Attributes:
        id: the example's.
        pieces: its tokens, padding left out; the last one is predicted and never read.
        padding: pad positions behind them, masked in attention and loss.
    """

    id: str
    pieces: tuple[Piece, ...]
    padding: int

    @property
    def learned(self) -> int:
        """How many tokens are learned."""
        return sum(piece.learned for piece in self.pieces)


def token_rows(tokens: Tokens, ids: Sequence[str], tokenizer: Any) -> list[TokenRow]:
    """Undo what the collator did, one row after the other.

    Args:
        tokens: one model's side of a batch.
        ids: the example ids.
        tokenizer: that model's tokenizer.
    """
    rows, num_read = [], 0
    targets = tokens["target_ids"].tolist()
    inputs = tokens["inputs"]
    prefix = "decoder_" if "decoder_input_ids" in inputs else ""
    for place, name in enumerate(ids):
        length = int(inputs[f"{prefix}attention_mask"][place].sum())
        input_ids = inputs[f"{prefix}input_ids"][place, :length].tolist()
        mask = tokens["target_mask"][place].tolist()
        row_targets = targets[num_read : num_read + sum(mask)]
        num_read += len(row_targets)
        # What is learned at position t is the token at t + 1, so the first token never is.
        learned = [False, *mask[:length]]
        sequence = [*input_ids, *row_targets[-1:]]
        for position, token in zip([t for t, flag in enumerate(learned) if flag], row_targets, strict=True):
            sequence[position] = token
        padding = inputs[f"{prefix}input_ids"].shape[1] - length
        if prefix:
            # The encoder's text stands before what the decoder reads and writes.
            size = int(inputs["attention_mask"][place].sum())
            sequence = [*inputs["input_ids"][place, :size].tolist(), *sequence]
            learned = [*[False] * size, *learned]
            padding += inputs["input_ids"].shape[1] - size
        rows.append(TokenRow(name, pieces(tokenizer, sequence, learned), padding))
    return rows


def pieces(tokenizer: Any, ids: Sequence[int], learned: Sequence[bool]) -> tuple[Piece, ...]:
    """Token ids as readable pieces."""
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    texts = piece_texts(tokenizer, ids)
    return tuple(
        Piece(visible(text), flag, token in special) for text, token, flag in zip(texts, ids, learned, strict=False)
    )


def piece_texts(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text of each token by itself, leading spaces kept."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    byte_level = "ByteLevel" in str(getattr(backend, "decoder", ""))
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    texts = []
    for token, name in zip(ids, tokenizer.convert_ids_to_tokens(list(ids)), strict=True):
        if name is None:
            texts.append(f"<{token}>")
        elif byte_level and token not in special:
            texts.append(decoders.ByteLevel().decode([name]))
        else:
            byte = re.fullmatch(r"<0x([0-9A-F]{2})>", name)
            plain = byte and int(byte[1], 16) < 128
            texts.append(chr(int(byte[1], 16)) if byte and plain else name.replace("▁", " "))
    return texts


CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def visible(text: str) -> str:
    """Text with line ends and tabs marked, and nothing left that could steer a terminal or turn its direction."""
    marked = CONTROL.sub(lambda match: _picture(ord(match[0])), text)
    return marked.replace("\t", "⇥").replace("\n", "↵\n")


def _picture(code: int) -> str:
    if code < 32:
        return chr(0x2400 + code)
    return "␡" if code == 127 else f"<U+{code:04X}>"


@dataclass(frozen=True)
class TextComparison:
    """Two texts cut into spans, each marked where it differs from the other text.

    Attributes:
        student: (text, differs) of the student's.
        teacher: (text, differs) of the teacher's.
        places: in how many places they differ.
    """

    student: tuple[tuple[str, bool], ...]
    teacher: tuple[tuple[str, bool], ...]
    places: int


def compare_texts(student: str, teacher: str) -> TextComparison:
    """Word by word, where two rendered prompts differ."""
    student_words, teacher_words = (re.findall(r"\w+|\s|[^\w\s]", text) for text in (student, teacher))
    matcher = difflib.SequenceMatcher(None, student_words, teacher_words, autojunk=False)
    spans: tuple[list, list] = ([], [])
    places = 0
    for kind, start, end, teacher_start, teacher_end in matcher.get_opcodes():
        places += kind != "equal"
        sides = student_words[start:end], teacher_words[teacher_start:teacher_end]
        for side, words in zip(spans, sides, strict=True):
            if words:
                side.append((visible("".join(words)), kind != "equal"))
    return TextComparison(tuple(spans[0]), tuple(spans[1]), places)


@dataclass(frozen=True)
class TokenAlignment:
    """How the target tokens of the two sides stand to each other, over some rows.

    Attributes:
        rows: rows compared.
        same_targets: rows whose target tokens are equal position by position.
        same_reading: rows that both models read as the very same ids, prompt included.
        student_tokens: target tokens of the student.
        teacher_tokens: target tokens of the teacher.
        first_difference: example id and both token strings of the first unequal row.
    """

    rows: int
    same_targets: int
    same_reading: int
    student_tokens: int
    teacher_tokens: int
    first_difference: tuple[str, str, str] | None


def align(rows: Sequence[Any], student_tokenizer: Any, teacher_tokenizer: Any) -> TokenAlignment:
    """Compare the target tokens of encoded rows (`tokens.collate.EncodedRow`)."""
    unequal = [row for row in rows if row.student.answer_ids != row.teacher.answer_ids]
    first_difference = None
    if unequal:
        row = unequal[0]
        student_text = "|".join(piece_texts(student_tokenizer, row.student.answer_ids))
        teacher_text = "|".join(piece_texts(teacher_tokenizer, row.teacher.answer_ids))
        first_difference = (row.id, visible(student_text), visible(teacher_text))
    return TokenAlignment(
        rows=len(rows),
        same_targets=len(rows) - len(unequal),
        same_reading=sum(row.student.ids == row.teacher.ids for row in rows),
        student_tokens=sum(len(row.student.answer_ids) for row in rows),
        teacher_tokens=sum(len(row.teacher.answer_ids) for row in rows),
        first_difference=first_difference,
    )


@dataclass(frozen=True)
class AnswerCheck:
    """Whether what is learned is what the data says, over some rows of one model.

    Attributes:
        rows: rows looked at.
        unstopped: rows that do not end with a stop token: the model never learns there to stop.
        unknown: rows with an unknown token in the answer.
        altered: rows whose learned tokens do not decode to the answer, (id, answer, what is learned).
        doubled_start: rows whose prompt begins with two start tokens.
    """

    rows: int
    unstopped: int
    unknown: int
    altered: tuple[tuple[str, str, str], ...]
    doubled_start: int


def check_answers(encoded: Sequence[Any], answers: Sequence[str], template: Any) -> AnswerCheck:
    """Decode the learned tokens of some rows and look at their ends.

    Args:
        encoded: `TokenizedExample` of each row.
        answers: the answer of each row as the data gives it.
        template: of the model that learns them.
    """
    unknown, start = template.tokenizer.unk_token_id, template.tokenizer.bos_token_id
    special = set(template.tokenizer.all_special_ids)
    changes = []
    for place, (row, answer) in enumerate(zip(encoded, answers, strict=True)):
        learned = altered(template, row, answer)
        if learned is not None:
            changes.append((str(place), answer, learned))
    return AnswerCheck(
        rows=len(encoded),
        unstopped=sum(not row.answer_ids or row.answer_ids[-1] not in template.stop_ids for row in encoded),
        unknown=sum(
            unknown is not None and unknown not in template.stop_ids and unknown in row.answer_ids for row in encoded
        ),
        altered=tuple(changes),
        doubled_start=sum(
            start is not None and start in special and row.prompt_ids[:2] == [start, start] for row in encoded
        ),
    )
