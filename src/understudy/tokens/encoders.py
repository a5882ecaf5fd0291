"""What encoders read: one text or two, between the tokens that their tokenizer puts there."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from understudy.errors import ModelError
from understudy.tokens.template import Template


@dataclass(frozen=True)
class ReadText:
    """One row as an encoder reads it.

    Attributes:
        ids: `[CLS] first [SEP]`, or `[CLS] first [SEP] second [SEP]`.
        segments: which of two texts each token belongs to, where the tokenizer tells; else empty.
    """

    ids: list[int]
    segments: tuple[int, ...] = ()


class EncoderTemplate(Template):
    """The tokenizer of an encoder: there is no conversation to render, and nothing that ends an answer.

    Attributes:
        what: what such a model does, for messages.
    """

    what: ClassVar[str] = "reads"

    def __post_init__(self) -> None:
        tokenizer: Any = self.tokenizer
        if not tokenizer.is_fast or tokenizer.cls_token_id is None or tokenizer.sep_token_id is None:
            raise ModelError(
                f"a model that {self.what} needs a tokenizer that knows [CLS], [SEP] and where tokens stand",
                hint="take an encoder (BERT, RoBERTa, DeBERTa …) with its tokenizer.json",
            )
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.sep_token
            self.notes.append("the tokenizer has no pad token: the separator pads, and padding is masked by position")
        self._end = tokenizer.sep_token_id

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The question."""
        return messages[-1]["content"]

    def read(self, first: str, second: str | None = None) -> ReadText:
        """One text or two as token ids, however many; names of control tokens in them are text like any other."""
        control = self.control_tokens
        texts = [control.mask(text) for text in (first, second) if text is not None]
        if any(control.is_masked(text) for text in texts):
            encoding = self._twin.encode(*(control.coded(text) for text in texts))
            segments = encoding.type_ids if self._tells_segments else ()
            return ReadText(encoding.ids, tuple(segments))
        tokenizer: Any = self.tokenizer
        encoded = tokenizer(*(text for text in (first, second) if text is not None), verbose=False)
        return ReadText(encoded["input_ids"], tuple(encoded.get("token_type_ids", ())))

    @property
    def _tells_segments(self) -> bool:
        return "token_type_ids" in self.tokenizer.model_input_names

    @functools.cached_property
    def _twin(self) -> Any:
        return self.control_tokens.twin()
