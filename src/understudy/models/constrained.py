"""Decoding that can write nothing but what a grammar allows: a mask over the vocabulary at each token.

The automaton is llguidance's. It is told the bytes of each token by `tokens.vocabulary` and not by its own reading of
`tokenizer.json`: the embedded tokenizers put a space before every text, which it takes for a space of the answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor

from understudy.distribution import install_command
from understudy.errors import ModelError
from understudy.tokens.template import Template
from understudy.tokens.vocabulary import token_bytes

_SENTINELS = ("", "\x02", '"', "a")


class Grammars:
    """What turns grammars into masks for one model.

    Attributes:
        columns: width of the model's logits.
        stop_ids: tokens that end an answer.
    """

    def __init__(self, template: Template, columns: int) -> None:
        """Read the vocabulary.

        Args:
            template: the model's tokenizer, with what ends an answer.
            columns: width of its logits; what stands behind the vocabulary is never allowed.

        Raises:
            ModelError: llguidance is not installed, or the tokenizer does not tell its bytes.
        """
        try:
            import llguidance
        except ImportError as error:
            raise ModelError(
                "constrained decoding needs llguidance, which is not installed", hint=install_command("bundles")
            ) from error
        self._library: Any = llguidance
        spelled = _Spelled(template)
        self.columns = max(columns, len(spelled.tokens))
        wrapped = llguidance.TokenizerWrapper(spelled)
        self._vocabulary = llguidance.LLTokenizer(wrapped, n_vocab=self.columns, eos_token=list(template.stop_ids))
        self._template = template
        self.stop_ids = template.stop_ids

    def matcher(self, grammar: str) -> Any:
        """A fresh automaton of a Lark grammar."""
        matcher = self._library.LLMatcher(self._vocabulary, self._library.grammar_from("lark", grammar))
        assert not matcher.is_error(), matcher.get_error()
        return matcher

    def check(self, grammar: str, text: str, name: str) -> None:
        """Refuse a model whose vocabulary cannot spell an answer of the grammar.

        Args:
            grammar: that answers will be held to.
            text: an answer that it allows.
            name: of the model, for the message.

        Raises:
            ModelError: the tokens of `text` are not what it is made of.
        """
        matcher, ids = self.matcher(grammar), self._template.text_ids(text)
        if matcher.try_consume_tokens(ids) != len(ids) or not matcher.is_accepting():
            raise ModelError(
                f"{name}: its tokenizer cannot write the JSON that constrained decoding holds answers to",
                hint="set evaluate.constrained: false, or take a model whose tokenizer keeps every character",
            )


class _Spelled:
    """A vocabulary as llguidance asks for it: bytes of each token, and bytes to tokens."""

    def __init__(self, template: Template) -> None:
        spelled = token_bytes(template.tokenizer)
        self._template = template
        self.eos_token_id, self.bos_token_id = template.end_id, None
        # What writes nothing gets a name that no text has.
        self.special_token_ids = [i for i, text in enumerate(spelled) if text is None]
        self.tokens = [b"\xff<%d>" % i if text is None else text for i, text in enumerate(spelled)]
        self._ids = {text: i for i, text in reversed(list(enumerate(spelled))) if text}
        self._longest = max(map(len, self._ids), default=1)

    def __call__(self, text: bytes | str) -> list[int]:
        """The tokens of a piece of text: as the model's own tokenizer cuts it, else the longest first."""
        raw = text.encode() if isinstance(text, str) else bytes(text)
        try:
            decoded = raw.decode()
        except UnicodeDecodeError:
            return self._greedy(raw)
        return next((ids for mark in _SENTINELS if (ids := self._behind(mark, decoded, raw))), self._greedy(raw))

    def _behind(self, mark: str, text: str, raw: bytes) -> list[int]:
        """The tokens of `text` where it stands behind a mark; empty where a token goes over the border."""
        ids = self._template.text_ids(mark + text)
        length = 0
        for start in range(len(ids) - 1, -1, -1):
            length += len(self.tokens[ids[start]])
            if length >= len(raw):
                chosen = ids[start:]
                return chosen if b"".join(self.tokens[i] for i in chosen) == raw else []
        return []

    def _greedy(self, raw: bytes) -> list[int]:
        ids, place = [], 0
        while place < len(raw):
            sizes = range(min(self._longest, len(raw) - place), 0, -1)
            size = next((size for size in sizes if raw[place : place + size] in self._ids), 0)
            ids += [self._ids[raw[place : place + size]]] if size else []
            place += size or 1
        return ids


class GrammarMask(LogitsProcessor):
    """Puts the scores of tokens that a row's grammar does not allow to −∞."""

    def __init__(self, grammars: Grammars, rows: Sequence[str]) -> None:
        """Prepare one batch; the object counts its tokens and serves no second one.

        Args:
            grammars: of the model.
            rows: a grammar a row, in the order of the batch.
        """
        self._matchers = [grammars.matcher(row) for row in rows]
        self._stops = grammars.stop_ids
        self._ended: set[int] = set()
        self._begun = False

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores `[B, V]` behind the mask; a row that has ended is left as it is."""
        allowed = np.ones(tuple(scores.shape), dtype=bool)
        for row, matcher in enumerate(self._matchers):
            last = int(input_ids[row, -1]) if self._begun else None
            if last in self._stops:
                self._ended.add(row)
            if row not in self._ended:
                allowed[row] = self._allowed(matcher, last, scores.shape[1])
        self._begun = True
        return scores.masked_fill(~torch.from_numpy(allowed).to(scores.device), -torch.inf)

    def _allowed(self, matcher: Any, last: int | None, columns: int) -> np.ndarray:
        """`[V]` what may follow the last token; the end alone where the grammar is at its own."""
        if last is not None:
            matcher.consume_token(last)
            assert not matcher.is_error(), matcher.get_error()
        if not matcher.is_stopped():
            return _bits(matcher.compute_bitmask(), columns)
        ends = np.zeros(columns, dtype=bool)
        ends[list(self._stops)] = True
        return ends


def _bits(mask: bytes, columns: int) -> np.ndarray:
    """`[V]` bool of a bitmask."""
    bits = np.unpackbits(np.frombuffer(mask, dtype=np.uint8), bitorder="little")[:columns].astype(bool)
    return np.pad(bits, (0, columns - len(bits)))
