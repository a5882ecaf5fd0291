"""Texts with one of a fixed set of labels, and words with one each: encoded, learned as a place in `data.labels`.

A text is `[CLS] question [SEP]`, with a context `[CLS] question [SEP] context [SEP]`. Of words, which are what blanks
divide in the question, each is told by its first token; the answer holds as many labels, with blanks between them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar, Self

import torch

from understudy.errors import DataError, TooLong
from understudy.tokens.encoded import TokenizedExample, padded
from understudy.tokens.encoders import EncoderTemplate, ReadText
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.prompts import answer_text
from understudy.tokens.template import Candidates
from understudy.types import Example, Tokens


@dataclass(frozen=True)
class LabelledExample(TokenizedExample):
    """A text; `prompt_ids` is all that is read, `answer_ids` the place of the label, or of each word's.

    Attributes:
        segment_ids: which of two texts each token belongs to, where the tokenizer tells; else empty.
        places: of each target the position that tells of it; empty where the whole text does.
    """

    segment_ids: tuple[int, ...] = ()
    places: tuple[int, ...] = ()

    def reads_as(self, other: TokenizedExample) -> bool:
        """See the base class."""
        return isinstance(other, LabelledExample) and self.places == other.places and super().reads_as(other)

    def short(self, longest: int) -> Self:
        """The text whole."""
        return self

    @classmethod
    def batched(cls, rows: Sequence[TokenizedExample], pad_id: int) -> Tokens:
        """Texts padded on the right; `target_mask` is `[B, 1]`, of words `[B, S]`."""
        ids, attention = padded([row.prompt_ids for row in rows], pad_id)
        inputs = {"input_ids": ids, "attention_mask": attention}
        read = [row for row in rows if isinstance(row, LabelledExample)]
        assert len(read) == len(rows), "rows of two kinds of models in one batch"
        if all(row.segment_ids for row in read):
            inputs["token_type_ids"] = padded([row.segment_ids for row in read], 0)[0]
        targets = torch.ones(len(rows), 1, dtype=torch.bool)
        if any(row.places for row in read):
            targets = torch.zeros_like(ids, dtype=torch.bool)
            for number, row in enumerate(read):
                targets[number, list(row.places)] = True
        target_ids = torch.tensor([place for row in rows for place in row.answer_ids])
        return {"inputs": inputs, "target_mask": targets, "target_ids": target_ids}


class LabelTemplate(EncoderTemplate):
    """The tokenizer of an encoder that gives a text a label."""

    candidates: ClassVar[Candidates] = "labels"
    what: ClassVar[str] = "classifies texts"


class TagTemplate(EncoderTemplate):
    """The tokenizer of an encoder that gives each word a label."""

    candidates: ClassVar[Candidates] = "tags"
    what: ClassVar[str] = "tags words"


@dataclass
class LabelTokenizer(ExampleTokenizer):
    """Texts with a label to token ids; see `ExampleTokenizer`."""

    template: EncoderTemplate
    notes: dict[str, int] = field(default_factory=dict)

    def encode(
        self, example: Example, answer: str | None = None, *, token_ends: bool = False, num_forced_chars: int = 0
    ) -> LabelledExample:
        """The text and the place of its label, or of the label of each word.

        Raises:
            DataError: the answer is no label, or there are not as many labels as words.
        """
        text = answer_text(example) if answer is None else answer
        row = self.read(example)
        return replace(row, answer_ids=self.targets(example, row, text))

    @abstractmethod
    def targets(self, example: Example, row: LabelledExample, answer: str) -> list[int]:
        """The places of an answer's labels."""

    @abstractmethod
    def read(self, example: Example) -> LabelledExample:
        """The text, each target being the first label."""

    def place_of(self, example: Example, label: str) -> int:
        """Which label a text is.

        Raises:
            DataError: none of `data.labels`.
        """
        labels = self.data.labels
        if label.strip() not in labels:
            known = f"data.labels holds {', '.join(labels[:6])}{' …' if labels[6:] else ''}"
            raise DataError(
                f"{example.id}: the answer {label[:60]!r} is none of the labels",
                hint=known if labels else "list all labels in data.labels: [first, second, …]",
            )
        return labels.index(label.strip())

    def prompt_ids(self, example: Example) -> list[int]:
        """All that is read of an example."""
        return self.read(example).prompt_ids

    def prompt_text(self, example: Example) -> str:
        """The text."""
        return "\n\n".join(text for text in (example.question, example.context) if text)

    def check(self, example: Example, *, learned: bool) -> None:
        """See the base class; what is learned must be a label."""
        quiet = replace(self, notes={})
        if learned and example.labelled:
            quiet.encode(example)
        else:
            quiet.read(example)

    def can_learn(self, example: Example) -> bool:
        """See the base class: the answer must consist of labels."""
        try:
            replace(self, notes={}).encode(example)
        except DataError:
            return False
        return True


class TextLabelTokenizer(LabelTokenizer):
    """For encoders that give a text a label."""

    def read(self, example: Example) -> LabelledExample:
        """See the base class; of a text that is too long the beginning is read, and the row counted.

        Raises:
            TooLong: it is, and `data.context_overflow` is `refuse`.
        """
        text = self.template.read(example.question, example.context or None)
        limit = self.data.max_length
        if len(text.ids) > limit:
            if self.data.context_overflow == "refuse":
                raise TooLong(
                    f"{example.id}: the text takes {len(text.ids)} tokens, and max_length is {limit}",
                    needed=len(text.ids),
                    hint="raise data.max_length, or let data.context_overflow cut it",
                )
            self.add_note("texts cut at max_length")
            text = _cut(text, limit)
        return LabelledExample(text.ids, [0], segment_ids=text.segments)

    def targets(self, example: Example, row: LabelledExample, answer: str) -> list[int]:
        """See the base class."""
        return [self.place_of(example, answer)]


def _cut(text: ReadText, limit: int) -> ReadText:
    """The beginning of a text, ended as the whole is."""
    segments = (*text.segments[: limit - 1], text.segments[limit - 1]) if text.segments else ()
    return ReadText([*text.ids[: limit - 1], text.ids[-1]], segments)


class WordLabelTokenizer(LabelTokenizer):
    """For encoders that give each word a label."""

    def read(self, example: Example) -> LabelledExample:
        """See the base class.

        Raises:
            DataError: there are no words, or a word that becomes no token.
            TooLong: the words take more than `data.max_length` tokens.
        """
        words = example.question.split()
        frame = self.template.read("").ids
        ids, places = [frame[0]], []
        for number, word in enumerate(words):
            own = self.template.read(word if number == 0 else f" {word}").ids[1:-1]
            if not own:
                raise DataError(f"{example.id}: the word {word[:60]!r} becomes no token", hint="leave it out")
            places.append(len(ids))
            ids += own
        if not words:
            raise DataError(f"{example.id}: there are no words to tag", hint="give the row a question")
        ids.append(frame[-1])
        if len(ids) > self.data.max_length:
            raise TooLong(
                f"{example.id}: the words take {len(ids)} tokens, and max_length is {self.data.max_length}",
                needed=len(ids),
            )
        segments = (0,) * len(ids) if self.template.read("a").segments else ()
        return LabelledExample(ids, [0] * len(places), segment_ids=segments, places=tuple(places))

    def targets(self, example: Example, row: LabelledExample, answer: str) -> list[int]:
        """See the base class."""
        labels = answer.split()
        if len(labels) != len(row.places):
            raise DataError(
                f"{example.id}: {len(row.places)} words and {len(labels)} labels",
                hint="the answer holds a label for each word of the question, with blanks between them",
            )
        return [self.place_of(example, label) for label in labels]
