"""What steers a model – ends, turns, padding – can come from the template alone, never from the text of the data.

An answer may speak of `<|end|>`, a question may hold `</s>`. Tokenised with the template around it, such text would
become the control token itself: the answer would end there, the question would open a turn. So wherever a text holds
the name of a control token, the conversation is tokenised by a twin of the tokenizer in which control tokens have
other names, of private characters; the template's own are renamed before, and the names in the data are text like any
other. All other text is tokenised as ever, to the very id.
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerBase

from understudy.tokens.thoughts import TAG
from understudy.tokens.vocabulary import description

_LAST = 0x10FFFD
"""The last character of plane 16, which is for private use."""
_REPLACEMENT = "\ufffd"


@dataclass(frozen=True)
class Masked:
    """What a text became whose control tokens were told from its names of control tokens.

    Attributes:
        ids: its tokens.
        offsets: of each, its first character and the one behind its last.
    """

    ids: list[int]
    offsets: list[tuple[int, int]]


class ControlTokens:
    """The control tokens of one tokenizer, and how to keep text from becoming one.

    These are all special tokens, and those added tokens that the template writes around turns, special or not. Tags
    of thoughts and every other added token (`<tool_call>`) belong to the data: a model that thinks learns them.

    Attributes:
        names: of the control tokens, the longest first; those of one character are left out, see `slips_through`.
        written: ids that the template writes around turns.
        separable: whether text can be told from control tokens at all.

    A text is *masked* character for character: each name of a control token in it becomes as many private characters,
    which templates pass on, and which `plain` turns back.

    Args:
        tokenizer: of any kind; one that is not of the `tokenizers` library cannot tell text from control tokens.
        written: ids that the template writes around turns.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, written: Iterable[int] = ()) -> None:
        self._tokenizer: Any = tokenizer
        added = tokenizer.added_tokens_decoder
        special = {i for i, token in added.items() if token.special} | set(tokenizer.all_special_ids)
        ids = sorted(special | (set(written) & added.keys()))
        names: Sequence[str] = tokenizer.convert_ids_to_tokens(ids)
        # A blank line is text, though a template may write one around turns and a vocabulary have a token for it.
        names = [
            name
            for i, name in zip(ids, names, strict=True)
            if not TAG.fullmatch(name) and (i in special or name.strip())
        ]
        self.written = frozenset(written)
        self.separable = getattr(tokenizer, "backend_tokenizer", None) is not None
        # A token of one character is the only one that writes it (characters as tokens, a line end as end token).
        self.names = tuple(sorted((name for name in names if len(name) > 1), key=len, reverse=True))
        self._bare = frozenset(name for name in names if len(name) == 1)
        self._number = {name: number for number, name in enumerate(self.names)}
        self._name = re.compile("|".join(map(re.escape, self.names)) or r"(?!)")
        first = _LAST - 2 * len(self.names)
        self._codes, self._masks = first, first + len(self.names)
        self._private = re.compile(f"[{chr(first)}-{chr(_LAST)}]")

    def is_out_of_reach(self, token: int) -> bool:
        """Whether neither a text of the data nor the template can become this token."""
        name = self._tokenizer.convert_ids_to_tokens(token)
        return self.separable and name in self._number and token not in self.written

    def mask(self, text: str) -> str:
        """A text of the data with every name of a control token masked.

        Private characters of its own that would be taken for a mask become U+FFFD.
        """
        if not self.separable:
            return text
        return self._name.sub(lambda match: self._mask(match[0]), self._private.sub(_REPLACEMENT, text))

    def is_masked(self, text: str) -> bool:
        """Whether something in a text, or in a conversation rendered of such texts, is masked."""
        return self._private.search(text) is not None

    def plain(self, text: str) -> str:
        """A masked text as people read it."""
        if not self.is_masked(text):
            return text
        for number, name in enumerate(self.names):
            text = text.replace(chr(self._masks + number) * len(name), name)
        return text

    def encode(self, text: str) -> Masked:
        """Tokens of a rendered text with masks; its own names of control tokens are the template's.

        Returns:
            Ids without any that a post-processor would add; offsets count characters of the text, masked or not.
        """
        encoding = self._twin.encode(self.coded(text), add_special_tokens=False)
        return Masked(encoding.ids, encoding.offsets)

    def coded(self, text: str) -> str:
        """A masked text as the twin reads it: control tokens under their other names, masked names as they are."""
        return self.plain(self._name.sub(lambda match: self._code(match[0]), text))

    def twin(self, *, frames: bool = True) -> Any:
        """A new tokenizer of the `tokenizers` library, to which only coded names are control tokens.

        Args:
            frames: whether it can put the tokens around a text that this tokenizer puts there.
        """
        codes = {name: self._code(name) for name in self.names}
        parts = renamed(description(self._tokenizer), codes)
        # Without frames nobody trims the offsets either.
        twin: Any = Tokenizer.from_str(json.dumps(parts if frames else {**parts, "post_processor": None}))
        twin.no_truncation()
        twin.no_padding()
        return twin

    def slips_through(self, text: str) -> bool:
        """Whether a text of the data would become a control token all the same.

        So it is with tokenizers that are not of the `tokenizers` library, with a control token of one character, and
        with names that a normaliser makes of other characters (a control token `</s>` that `</S>` is turned into).
        """
        if not self._bare.isdisjoint(text):
            return True
        if not self.separable:
            return self._name.search(text) is not None
        normaliser = self._tokenizer.backend_tokenizer.normalizer
        if normaliser is None or self._normalised is None:
            return False
        return self._normalised.search(normaliser.normalize_str(self._name.sub(_REPLACEMENT, text))) is not None

    def _mask(self, name: str) -> str:
        return chr(self._masks + self._number[name]) * len(name)

    def _code(self, name: str) -> str:
        return chr(self._codes + self._number[name]) + chr(_LAST) * (len(name) - 1)

    @functools.cached_property
    def _normalised(self) -> re.Pattern[str] | None:
        added = self._tokenizer.added_tokens_decoder.values()
        names = [token.content for token in added if token.normalized and token.content in self._number]
        return re.compile("|".join(map(re.escape, names))) if names else None

    @functools.cached_property
    def _twin(self) -> Any:
        return self.twin(frames=False)


def renamed(parts: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """The description of a tokenizer with other names for some tokens, and the same ids.

    A token's old name is no entry of the vocabulary any more, so that no merge and no search for the likeliest pieces
    can write it.

    Args:
        parts: as `vocabulary.description` gives them.
        names: old name → new name.
    """
    model = dict(parts["model"])
    if isinstance(model["vocab"], Mapping):
        model["vocab"] = {names.get(token, token): i for token, i in model["vocab"].items()}
    else:
        model["vocab"] = [[names.get(token, token), score] for token, score in model["vocab"]]
    if model.get("merges"):
        model["merges"] = [pair for pair in model["merges"] if not {*pair, "".join(pair)} & names.keys()]
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    added = [{**token, "content": names.get(token["content"], token["content"])} for token in parts["added_tokens"]]
    return {**parts, "model": model, "added_tokens": added}
