"""Questions with options: each option is read beside its question, and the target is the place of the right one.

An encoder reads `[CLS] question [SEP] option [SEP]` for each option, with a context `[CLS] context [SEP] question
option [SEP]`, and gives each a score (Radford et al., 2018; Devlin et al., 2019, section 4.4). A causal model reads
the question with each option as its answer, and the score is how likely that answer is.

The options of a row are its own; of a row without any they are `data.labels`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import ClassVar

import torch
from torch import Tensor

from understudy.errors import DataError, TooLong
from understudy.tokens.encoded import TokenizedExample, padded
from understudy.tokens.encoders import EncoderTemplate, ReadText
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.overflow import fit_context
from understudy.tokens.prompts import answer_text
from understudy.tokens.template import Candidates, Template
from understudy.types import Example, Tokens


@dataclass(frozen=True)
class OptionsExample(TokenizedExample, ABC):
    """One question with its options.

    `prompt_ids` are the tokens of all that is read, one option behind the other; `answer_ids` holds the place of the
    right option.
    """

    @property
    @abstractmethod
    def num_options(self) -> int:
        """K."""

    def first(self, count: int) -> OptionsExample:
        """Itself: there is one target."""
        return self

    def short(self, longest: int) -> OptionsExample:
        """Itself: a real input to try a model on."""
        return self


@dataclass(frozen=True)
class ReadOptions(OptionsExample):
    """Options as an encoder reads them.

    Attributes:
        texts: of each option all that is read with it.
    """

    texts: tuple[ReadText, ...] = ()

    @property
    def num_options(self) -> int:
        """See the base class."""
        return len(self.texts)

    def reads_as(self, other: TokenizedExample) -> bool:
        """See the base class."""
        return isinstance(other, ReadOptions) and self.texts == other.texts and super().reads_as(other)

    @classmethod
    def batched(cls, rows: Sequence[TokenizedExample], pad_id: int) -> Tokens:
        """`[M, 1, S]` of all options of all rows; `candidates` `[B, K]`, and M are there."""
        texts = [text for row in _options(rows) for text in row.texts]
        ids, attention = padded([text.ids for text in texts], pad_id)
        inputs = {"input_ids": ids[:, None], "attention_mask": attention[:, None]}
        if all(text.segments for text in texts):
            inputs["token_type_ids"] = padded([text.segments for text in texts], 0)[0][:, None]
        return option_tokens(rows, inputs)


def _options(rows: Sequence[TokenizedExample]) -> Iterator[ReadOptions]:
    for row in rows:
        assert isinstance(row, ReadOptions), "rows of two kinds of models in one batch"
        yield row


@dataclass(frozen=True)
class ScoredOptions(OptionsExample):
    """Options as a causal model scores them.

    Attributes:
        answers: of each option the question and the option as its answer.
    """

    answers: tuple[TokenizedExample, ...] = ()

    @property
    def num_options(self) -> int:
        """See the base class."""
        return len(self.answers)

    def reads_as(self, other: TokenizedExample) -> bool:
        """See the base class."""
        return isinstance(other, ScoredOptions) and self.answers == other.answers and super().reads_as(other)

    @classmethod
    def batched(cls, rows: Sequence[TokenizedExample], pad_id: int) -> Tokens:
        """`[M, S]` of all options of all rows; `option_targets` says which of their tokens are the option's."""
        answers = []
        for row in rows:
            assert isinstance(row, ScoredOptions), "rows of two kinds of models in one batch"
            answers += row.answers
        scored = TokenizedExample.batched(answers, pad_id)
        tokens = option_tokens(rows, scored["inputs"])
        tokens["option_mask"], tokens["option_ids"] = scored["target_mask"], scored["target_ids"]
        return tokens


def option_tokens(rows: Sequence[TokenizedExample], inputs: dict[str, Tensor]) -> Tokens:
    """What a model eats of rows with options: one target each, among as many candidates as the row has."""
    counts = [row.num_options for row in rows if isinstance(row, OptionsExample)]
    candidates = torch.arange(max(counts))[None, :] < torch.tensor(counts)[:, None]
    return {
        "inputs": inputs,
        "target_mask": torch.ones(len(rows), 1, dtype=torch.bool),
        "target_ids": torch.tensor([row.answer_ids[0] for row in rows]),
        "candidates": candidates,
    }


class OptionTemplate(EncoderTemplate):
    """The tokenizer of an encoder that gives each option a score."""

    candidates: ClassVar[Candidates] = "options"
    what: ClassVar[str] = "compares options"


class ScoringTemplate(Template):
    """The tokenizer of a causal model whose likelihoods of the options are what it says."""

    candidates: ClassVar[Candidates] = "options"


class OptionTokenizer(ExampleTokenizer):
    """Questions with options to token ids; see `ExampleTokenizer`."""

    def encode(
        self, example: Example, answer: str | None = None, *, token_ends: bool = False, num_forced_chars: int = 0
    ) -> OptionsExample:
        """All options, and the place of the right one.

        Raises:
            DataError: there are no options, the answer is none of them, or the row does not fit.
        """
        text = answer_text(example) if answer is None else answer
        return replace(self.read(example), answer_ids=[self.place_of(example, text)])

    @abstractmethod
    def read(self, example: Example) -> OptionsExample:
        """All options of an example; the target stands at the first."""

    def options(self, example: Example) -> tuple[str, ...]:
        """The options of an example: its own, else `data.labels`.

        Raises:
            DataError: it has fewer than two.
        """
        options = example.choices or self.data.labels
        if len(options) < 2:
            raise DataError(
                f"{example.id}: there are no options to choose from",
                hint="give the row `choices`, or the recipe data.labels: a list that holds for all rows",
            )
        return options

    def place_of(self, example: Example, answer: str) -> int:
        """Which option an answer is.

        Raises:
            DataError: none.
        """
        plain = [option.strip() for option in self.options(example)]
        if answer.strip() not in plain:
            raise DataError(
                f"{example.id}: the answer {answer[:60]!r} is none of the options",
                hint="options are compared letter for letter: correct the row",
            )
        return plain.index(answer.strip())

    def prompt_ids(self, example: Example) -> list[int]:
        """All that is read of an example, one option behind the other."""
        return self.read(example).prompt_ids

    def check(self, example: Example, *, learned: bool) -> None:
        """See the base class; what is learned must be one of the options."""
        quiet = replace(self, notes={})
        if learned and example.labelled:
            quiet.encode(example)
        else:
            quiet.read(example)

    def can_learn(self, example: Example) -> bool:
        """See the base class: the answer must be one of the options."""
        return answer_text(example).strip() in {option.strip() for option in self.options(example)}


@dataclass
class ReadOptionTokenizer(OptionTokenizer):
    """For encoders: the options beside the question."""

    template: EncoderTemplate
    notes: dict[str, int] = field(default_factory=dict)

    def read(self, example: Example) -> ReadOptions:
        """See the base class; a context that is too long is reduced by `data.context_overflow`.

        Raises:
            TooLong: question and option take more than `data.max_length` tokens.
        """
        texts = tuple(self._beside(example, option) for option in self.options(example))
        return ReadOptions([token for text in texts for token in text.ids], [0], texts=texts)

    def _beside(self, example: Example, option: str) -> ReadText:
        if not example.context:
            return self._fitting(example, self.template.read(example.question, option))
        second = f"{example.question} {option}"
        text = self.template.read(example.context, second)
        excess = len(text.ids) - self.data.max_length
        if excess <= 0:
            return text
        frame = len(self.template.read("", second).ids)
        context, _ = fit_context(
            example.context,
            example.question,
            self.data.max_length - frame,
            lambda piece: len(self.template.read(piece).ids) - 2,
            self.data.context_overflow,
            id=example.id,
        )
        self.add_note(f"contexts reduced ({self.data.context_overflow})")
        return self._fitting(example, self.template.read(context, second))

    def _fitting(self, example: Example, text: ReadText) -> ReadText:
        if len(text.ids) > self.data.max_length:
            raise TooLong(
                f"{example.id}: question and option take {len(text.ids)} tokens, and max_length is "
                f"{self.data.max_length}",
                needed=len(text.ids),
            )
        return text

    def prompt_text(self, example: Example) -> str:
        """Question and options."""
        return "\n".join([example.context or "", example.question, *self.options(example)]).strip()


@dataclass
class ScoredOptionTokenizer(OptionTokenizer):
    """For causal models: each option as the answer, to a question that does not list them.

    The options are left out of the prompt, for a model that has not learned to choose among letters likes the first of
    a list (Holtzman et al., 2021, score what is not listed); what is compared is how likely each is as an answer.
    """

    def read(self, example: Example) -> ScoredOptions:
        """See the base class."""
        options = self.options(example)
        asked = replace(example, choices=())
        answers = tuple(ExampleTokenizer.encode(self, asked, option) for option in options)
        return ScoredOptions([token for row in answers for token in row.ids], [0], answers=answers)

    def prompt_text(self, example: Example) -> str:
        """The question, as the model reads it."""
        return super().prompt_text(replace(example, choices=()))
