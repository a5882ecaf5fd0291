"""Questions that are answered by a span of their context: encoded in windows, learned as two positions.

An encoder reads `[CLS] question [SEP] context [SEP]`. A context that is too long is read in windows that overlap; the
row to learn is the window that holds most of the answer. The two targets are the positions of its first and its last
token, chosen among the window's context tokens and the first position, which stands for "the context does not say"
(Devlin et al., 2019, section 4.2 and 4.3).
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from understudy.data.benchmark_formats import UNANSWERABLE
from understudy.errors import DataError, TooLong
from understudy.tokens.encoded import TokenizedExample, padded
from understudy.tokens.encoders import EncoderTemplate
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.prompts import answer_text
from understudy.tokens.template import Candidates
from understudy.types import Example, Tokens

NO_ANSWER = 0
"""The position that stands for no answer: that of the first token, [CLS]."""


@dataclass(frozen=True)
class SpanExample(TokenizedExample):
    """One window of a question and its context.

    `prompt_ids` is all that is read; `answer_ids` holds two positions of it, those of the answer's first and last
    token. Of a window that is only read they are `NO_ANSWER`.

    Attributes:
        segment_ids: which of the two texts each token belongs to, where the tokenizer tells; else empty.
        context: first context position of the window and the one behind its last.
        offsets: of each context position, its first character in the context and the one behind its last.
    """

    segment_ids: tuple[int, ...] = ()
    context: tuple[int, int] = (0, 0)
    offsets: tuple[tuple[int, int], ...] = ()

    def reads_as(self, other: TokenizedExample) -> bool:
        """See the base class."""
        same = isinstance(other, SpanExample) and self.context == other.context
        return same and super().reads_as(other)

    def short(self, longest: int) -> SpanExample:
        """The window whole: its targets are positions in it."""
        return self

    @classmethod
    def batched(cls, rows: Sequence[TokenizedExample], pad_id: int) -> Tokens:
        """Windows padded on the right; `target_mask` is `[B, 2]`, `candidates` `[B, S]`."""
        ids, attention = padded([row.prompt_ids for row in rows], pad_id)
        inputs = {"input_ids": ids, "attention_mask": attention}
        candidates = torch.zeros_like(ids, dtype=torch.bool)
        candidates[:, NO_ANSWER] = True
        segments = []
        for place, row in enumerate(rows):
            assert isinstance(row, SpanExample)
            candidates[place, slice(*row.context)] = True
            segments.append(row.segment_ids)
        if all(segments):
            inputs["token_type_ids"] = padded(segments, 0)[0]
        return {
            "inputs": inputs,
            "target_mask": torch.ones(len(rows), 2, dtype=torch.bool),
            "target_ids": torch.tensor([place for row in rows for place in row.answer_ids]),
            "candidates": candidates,
        }


class SpanTemplate(EncoderTemplate):
    """The tokenizer of an encoder that points: there is no conversation to render, and nothing that ends an answer."""

    candidates: ClassVar[Candidates] = "positions"
    what: ClassVar[str] = "points at its answers"


class SpanTokenizer(ExampleTokenizer):
    """Questions with their contexts to windows of token ids; see `ExampleTokenizer`."""

    def encode(
        self, example: Example, answer: str | None = None, *, token_ends: bool = False, num_forced_chars: int = 0
    ) -> SpanExample:
        """The window that holds most of the answer, with the positions of the answer's first and last token.

        The answer stands where the data says it does (`meta["answer_start"]`, in characters), else where it stands
        first in the context.

        Raises:
            DataError: there is no context, the question leaves no room for it, or the answer does not stand in it.
        """
        text = answer_text(example) if answer is None else answer
        windows = self.windows(example)
        if text == UNANSWERABLE:
            return windows[0]
        begin, end = locate(example, text)
        window = max(windows, key=lambda window: _holds(window, begin, end))
        tokens = [place for place, (low, high) in enumerate(window.offsets) if low < end and high > begin]
        if window.offsets[tokens[0]][0] > begin or window.offsets[tokens[-1]][1] < end:
            self.add_note("answers cut at the border of a window")
        if len(tokens) > self.data.max_answer_tokens:
            self.add_note("answers longer than max_answer_tokens: learned, and never given")
        return replace(window, answer_ids=[window.context[0] + tokens[0], window.context[0] + tokens[-1]])

    def prompt_ids(self, example: Example) -> list[int]:
        """What is read first of an example; whole, where one window is enough."""
        return self.windows(example)[0].prompt_ids

    def prompt_text(self, example: Example) -> str:
        """Question and context."""
        return f"{example.question}\n\n{example.context or ''}"

    def check(self, example: Example, *, learned: bool) -> None:
        """See the base class; what is learned must stand in the context."""
        if learned:
            replace(self, notes={}).encode(example)
        else:
            self.windows(example)

    def can_learn(self, example: Example) -> bool:
        """See the base class: the answer must stand in the context."""
        try:
            return answer_text(example) == UNANSWERABLE or bool(locate(example, answer_text(example)))
        except DataError:
            return False

    def windows(self, example: Example) -> list[SpanExample]:
        """All windows of an example, each of at most `data.max_length` tokens; neighbours share `data.stride`.

        Raises:
            DataError: there is no context, or the question leaves no room for it.
        """
        tokenizer: Any = self.template.tokenizer
        if not (example.context or "").strip():
            raise DataError(
                f"{example.id}: there is no context, and a model that points can only answer from one",
                hint="give the row a context, or take a student that writes",
            )
        control = self.template.control_tokens
        question, context = control.mask(example.question), control.mask(example.context or "")
        if control.is_masked(question + context):
            return self._windows_of_masked(example.id, control.coded(question), control.coded(context))
        frame = len(tokenizer(example.question, "", verbose=False)["input_ids"])
        room = self._room(example.id, frame)
        encoded = tokenizer(
            example.question,
            example.context,
            truncation="only_second",
            max_length=self.data.max_length,
            stride=self._shared(example.id, room),
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
            verbose=False,
        )
        return [
            _window(
                ids,
                encoded.sequence_ids(place),
                encoded["token_type_ids"][place] if "token_type_ids" in encoded else (),
                encoded["offset_mapping"][place],
            )
            for place, ids in enumerate(encoded["input_ids"])
        ]

    def _windows_of_masked(self, id: str, question: str, context: str) -> list[SpanExample]:
        """The same of texts that hold names of control tokens, which are text like any other here."""
        twin = self._twin
        twin.no_truncation()
        room = self._room(id, len(twin.encode(question, "").ids))
        twin.enable_truncation(self.data.max_length, stride=self._shared(id, room), strategy="only_second")
        first = twin.encode(question, context)
        segments = "token_type_ids" in self.template.tokenizer.model_input_names
        return [
            _window(window.ids, window.sequence_ids, window.type_ids if segments else (), window.offsets)
            for window in (first, *first.overflowing)
        ]

    @functools.cached_property
    def _twin(self) -> Any:
        return self.template.control_tokens.twin()

    def _shared(self, id: str, room: int) -> int:
        """Tokens that neighbouring windows share.

        Raises:
            DataError: a window has no room for any that are new.
        """
        stride = room // 3 if self.data.stride is None else self.data.stride
        if stride >= room:
            raise DataError(
                f"{id}: data.stride is {stride}, and beside the question there is room for {room} tokens of context",
                hint="lower data.stride, or raise data.max_length",
            )
        return stride

    def _room(self, id: str, frame: int) -> int:
        """Tokens that are left for the context.

        Raises:
            TooLong: none is.
        """
        room = self.data.max_length - frame
        if room < 1:
            raise TooLong(
                f"{id}: the question takes {frame} tokens, and max_length is {self.data.max_length}", needed=frame + 1
            )
        return room


def _window(
    ids: Sequence[int], texts: Sequence[int | None], segments: Sequence[int], offsets: Sequence[tuple[int, int]]
) -> SpanExample:
    inside = [position for position, text in enumerate(texts) if text == 1]
    return SpanExample(
        prompt_ids=list(ids),
        answer_ids=[NO_ANSWER, NO_ANSWER],
        segment_ids=tuple(segments),
        context=(inside[0], inside[-1] + 1) if inside else (0, 0),
        offsets=tuple((offsets[position][0], offsets[position][1]) for position in inside),
    )


def locate(example: Example, answer: str) -> tuple[int, int]:
    """Where an answer stands in its context: its first character and the one behind its last.

    Raises:
        DataError: it stands nowhere.
    """
    context, text = example.context or "", answer.strip()
    start = example.meta.get("answer_start")
    if isinstance(start, int) and start >= 0 and context[start:].startswith(text):
        return start, start + len(text)
    for where, what in ((context, text), (context.lower(), text.lower())):
        if text and len(where) == len(context) and (start := where.find(what)) >= 0:
            return start, start + len(text)
    raise DataError(
        f"{example.id}: the answer {answer[:60]!r} does not stand in the context",
        hint="a model that points learns such rows only; leave the row out, or take a student that writes",
    )


def _holds(window: SpanExample, begin: int, end: int) -> tuple[int, int]:
    """Characters of the answer that a window holds; then how many tokens stand around it on the poorer side."""
    if not window.offsets:
        return 0, 0
    held = min(end, window.offsets[-1][1]) - max(begin, window.offsets[0][0])
    before = sum(high <= begin for _, high in window.offsets)
    after = sum(low >= end for low, _ in window.offsets)
    return held, min(before, after)
