"""Tokens by the texts they write, for servers that name tokens by these and not by their ids."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence

from understudy.tokens.template import Template


class TokenTexts:
    """What each token of a tokenizer writes by itself, and which texts only one of them writes.

    Args:
        template: the teacher's.
    """

    def __init__(self, template: Template) -> None:
        self._template, self._tokenizer = template, template.tokenizer

    @property
    def size(self) -> int:
        """Entries of the vocabulary."""
        return len(self._tokenizer)

    def text(self, ids: Sequence[int]) -> str:
        """The text of tokens, special ones written out."""
        return self._template.spelled(ids)

    def sent(self, ids: Sequence[int]) -> str:
        """The text that stands for tokens with a server that puts the first token of a sequence there itself."""
        first = self._tokenizer.bos_token_id
        return self.text(ids[1:] if first is not None and ids[0] == first else ids)

    @functools.cached_property
    def ids(self) -> Mapping[str, int]:
        """Text → the one token that writes it; what several write, such as pieces of a character, names none."""
        texts = {token: self.text([token]) for token in sorted(set(self._tokenizer.get_vocab().values()))}
        counts = Counter(texts.values())
        return {text: token for token, text in texts.items() if text and counts[text] == 1}
