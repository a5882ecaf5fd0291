"""Where in the source text a tokenizer cuts, in bytes.

Two tokenizers are compared by where they cut one and the same text, never by what their pieces decode to: a lossy
normaliser (lower case, stripped accents) changes the pieces and not the places.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from understudy.tokens.control_tokens import Masked
from understudy.tokens.vocabulary import token_bytes

UNKNOWN = np.iinfo(np.int64).min
"""Stands for a cut inside a character whose byte cannot be told."""


class Boundaries:
    """Tells for each token where it ends.

    Text that no token covers (the spaces of a WordPiece tokenizer) belongs to the token after it, so that the tokens
    cut the text into pieces without gaps: token i covers what lies between the ends of tokens i−1 and i.

    Args:
        tokenizer: a tokenizer of the `tokenizers` library.

    Raises:
        ModelError: another kind of tokenizer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._bytes = token_bytes(tokenizer)
        # The post-processor adds special tokens, which nobody asks for here, and may trim the offsets.
        self._tokenizer: Any = copy.deepcopy(getattr(tokenizer, "backend_tokenizer"))  # noqa: B009
        self._tokenizer.post_processor = None
        self._tokenizer.encode_special_tokens = False
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()

    def ends(self, text: str, ids: Sequence[int], masked: Masked | None = None) -> list[int] | None:
        """The byte of `text` at which each token ends, `UNKNOWN` inside a character that gives no hint.

        Args:
            text: what was tokenised, without special tokens added.
            ids: the tokens it became; None is returned where this tokenizer makes other ones.
            masked: its tokens and where they stand, where names of control tokens in it are masked.
        """
        encoded = masked or self._tokenizer.encode(text, add_special_tokens=False)
        if encoded.ids != list(ids):
            return None
        at = np.concatenate([[0], np.cumsum([len(character.encode()) for character in text], dtype=np.int64)])
        ends: list[int] = []
        offsets, start, last = encoded.offsets, 0, 0
        for stop in range(1, len(ids) + 1):
            if stop < len(ids) and offsets[stop][0] < max(end for _, end in offsets[start:stop]):
                continue  # The next token begins inside what these cover: they share a character.
            first, end = offsets[start][0], max(end for _, end in offsets[start:stop])
            ends += self._within(ids[start:stop], max(last, int(at[first])), max(last, int(at[end])))
            start, last = stop, max(last, int(at[end]))
        return ends

    def _within(self, ids: Sequence[int], first: int, last: int) -> list[int]:
        """Ends of tokens that share the bytes from `first` to `last`."""
        if len(ids) == 1:
            return [last]
        spelled = [self._bytes[i] if i < len(self._bytes) else None for i in ids]
        lengths = np.array([0 if piece is None else len(piece) for piece in spelled])
        excess = int(lengths.sum()) - (last - first)
        if excess == 1 and (spelled[0] or b"").startswith(b" "):
            lengths[0] -= 1  # A space that SentencePiece puts before a text and that is not in it.
            excess = 0
        if excess or None in spelled:
            return [UNKNOWN] * (len(ids) - 1) + [last]
        return (first + np.cumsum(lengths)).tolist()
