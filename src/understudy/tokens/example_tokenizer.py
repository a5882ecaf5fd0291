"""From examples to token ids, for one model: the turns, a context that fits, an answer of bounded length."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from understudy.errors import DataError, ModelError, TooLong
from understudy.files import fingerprint
from understudy.recipe import DataConfig
from understudy.tokens.boundaries import UNKNOWN
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.overflow import fit_context
from understudy.tokens.prompts import answer_text, messages
from understudy.tokens.template import Template
from understudy.tokens.unseen import Sees
from understudy.types import Example

_MAX_FITTED = 100_000
_FITTED: weakref.WeakKeyDictionary[PreTrainedTokenizerBase, dict[str, str]] = weakref.WeakKeyDictionary()
"""What is left of contexts that were too long, by tokenizer and by all that it depends on."""


@dataclass
class ExampleTokenizer:
    """Turns examples into token ids for one model.

    Attributes:
        template: speaks to the model.
        data: lengths, system prompt and what to do with a context that is too long.
        notes: counts of what had to be cut, for the report; nothing is cut silently.
        sees: what the model sees of an example; None: all of it, and nothing else.
    """

    template: Template
    data: DataConfig
    notes: dict[str, int] = field(default_factory=dict)
    sees: Sees | None = field(default=None, kw_only=True)

    def encode(
        self, example: Example, answer: str | None = None, *, token_ends: bool = False, num_forced_chars: int = 0
    ) -> TokenizedExample:
        """Prompt and answer of one example; the answer is cut at `data.max_answer_tokens` and counted.

        Args:
            example: the row.
            answer: stands in for the row's own.
            token_ends: also tell where in the answer's text each token ends, which alignment needs.
            num_forced_chars: how many of the answer's first characters are given and not learned.

        Raises:
            DataError: the question alone is too long for `data.max_length`, or renders to nothing.
            ModelError: part of the answer is given, and the template or the tokenizer does not tell which tokens.
        """
        text = answer_text(example) if answer is None else answer
        encoded = self.template.encode(self._messages(example), text, token_ends=token_ends or num_forced_chars > 0)
        if num_forced_chars:
            encoded = replace(
                encoded,
                num_forced=num_forced_tokens(encoded, text, num_forced_chars),
                token_ends=encoded.token_ends if token_ends else [],
            )
        if self.template.control_tokens.slips_through(text):
            self.add_note("answers with text that the tokenizer takes for control tokens")
        if token_ends and not encoded.token_ends:
            self.add_note("answers that the template rewrites: nothing of them can be aligned")
        if not encoded.prompt_ids:
            raise DataError(
                f"{example.id}: the prompt has no tokens, so nothing could predict the answer's first",
                hint="give the row a question, or the model a chat_template that says something",
            )
        if example.origin != "gold" and example.meta.get("unfinished") and len(encoded.answer_ids) > 1:
            # Whoever wrote it did not stop here, so the student must not learn to.
            encoded = encoded.first(len(encoded.answer_ids) - 1)
        limit = self.data.max_answer_tokens
        if len(encoded.answer_ids) > limit:
            self.add_note("answers cut at max_answer_tokens")
            encoded = encoded.first(limit)
        return encoded

    def _turns(self, example: Example, *, context: str | None = None) -> list[dict[str, Any]]:
        """The conversation up to the answer, as the template takes it; see `prompts.messages`."""
        return [dict(turn) for turn in messages(example, system=self.data.system, context=context)]

    def prompt_ids(self, example: Example) -> list[int]:
        """The prompt alone, as generation starts from it."""
        return self.template.prompt_ids(self._messages(example))

    def check(self, example: Example, *, learned: bool) -> None:
        """Refuse an example that the model could not read or, where it is `learned`, not learn; nothing is counted.

        Raises:
            DataError: see `encode`.
        """
        replace(self, notes={}).prompt_ids(example)

    def can_learn(self, example: Example) -> bool:
        """Whether the answer of an example is one that the model could give; a model that writes can give any."""
        return True

    def prompt_text(self, example: Example) -> str:
        """The prompt as the model reads it."""
        return self.template.prompt(self._messages(example))

    def turns(self, example: Example) -> list[dict[str, Any]]:
        """The conversation up to the answer as this model is asked it, whole."""
        return self._turns(self.sees(example) if self.sees else example)

    def _messages(self, example: Example) -> list[dict[str, Any]]:
        example = self.sees(example) if self.sees else example
        budget = self.data.max_length - self.data.max_answer_tokens
        turns = self._turns(example)
        length = len(self.template.prompt_ids(turns))
        if length <= budget:
            return turns
        if not example.context:
            raise TooLong(
                f"{example.id}: the question takes {length} tokens, and {budget} are left for it",
                needed=length + self.data.max_answer_tokens,
                hint="raise data.max_length, or lower data.max_answer_tokens",
            )
        return self._fitted(example, length, budget)

    def _fitted(self, example: Example, length: int, budget: int) -> list[dict[str, Any]]:
        """Shrink the context until the whole prompt fits: the frame around it is counted, not guessed."""
        assert example.context is not None
        # Every stage reads the same rows, and to fit one context takes ten milliseconds.
        fits = _FITTED.setdefault(self.template.tokenizer, {})
        turns = self._turns(example)
        chat_template = str(self.template.tokenizer.chat_template)
        key = fingerprint([turns, example.context, budget, self.data.context_overflow, chat_template])
        if key not in fits:
            if len(fits) >= _MAX_FITTED:
                fits.clear()
            fits[key] = self._fit(example, length, budget)
        self.add_note(f"contexts reduced ({self.data.context_overflow})")
        return self._turns(example, context=fits[key])

    def _fit(self, example: Example, length: int, budget: int) -> str:
        context: str = example.context  # pyright: ignore[reportAssignmentType]
        frame = length - self._tokens(context)
        room = budget - frame
        while room > 0:
            try:
                kept, _ = fit_context(
                    context, example.question, room, self._tokens, self.data.context_overflow, id=example.id
                )
            except TooLong as error:
                error.needed = length + self.data.max_answer_tokens
                raise
            turns = self._turns(example, context=kept)
            excess = len(self.template.prompt_ids(turns)) - budget
            if excess <= 0:
                return kept
            room -= excess
        raise TooLong(
            f"{example.id}: no room is left for any context ({length} tokens, {budget} allowed)",
            needed=frame + 1 + self.data.max_answer_tokens,
        )

    def _tokens(self, text: str) -> int:
        return len(self.template.text_ids(text))

    def add_note(self, what: str) -> None:
        """Note once more that something was cut or left out."""
        self.notes[what] = self.notes.get(what, 0) + 1


def num_forced_tokens(encoded: TokenizedExample, answer: str, num_forced_chars: int) -> int:
    """How many of the answer's first tokens lie within `num_forced_chars`; one across the border does not.

    Args:
        encoded: the answer's tokens with their cuts.
        answer: its text.
        num_forced_chars: characters of it.

    Raises:
        ModelError: there are no cuts.
    """
    if not encoded.token_ends:
        raise ModelError(
            "the chat template rewrites the answer, so it cannot be told which of its tokens are given",
            hint="give the model a chat_template that leaves answers alone, or set tasks.rationale_in: encoder",
        )
    border = len(answer[:num_forced_chars].lstrip().encode())
    return max((n for n, end in enumerate(encoded.token_ends[1:], 1) if end != UNKNOWN and end <= border), default=0)
