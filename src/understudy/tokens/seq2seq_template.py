"""How an encoder–decoder is spoken to: the encoder reads the prompt, the decoder writes the answer.

There is no border between the two to cut at. Both get the special tokens that the tokenizer itself adds, T5's </s>
behind both, BART's <s> … </s> around both. Those that open an answer are no part of it: the decoder is given them
behind its start token, in training and in generation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from understudy.tokens.boundaries import UNKNOWN
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.template import Template

PLAIN_SOURCE = "{% for m in messages %}{{ m['content'] }}{% if not loop.last %}{{ '\n\n' }}{% endif %}{% endfor %}"
"""What an encoder reads where the tokenizer has no chat template: the turns alone."""


@dataclass
class Seq2SeqTemplate(Template):
    """The tokenizer of an encoder–decoder, made ready.

    Attributes:
        start_id: what the decoder begins with; default: the pad token, as with T5.
        start_ids: the same, and whatever the tokenizer puts before an answer.
    """

    start_id: int | None = None

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """What the encoder reads."""
        return _framed(super().prompt_ids(messages), *self._around_source)

    def encode(
        self, messages: Sequence[Mapping[str, Any]], answer: str, *, token_ends: bool = False
    ) -> TokenizedExample:
        """Source and target, each tokenised by itself; arguments as in the base class."""
        answer = self.control_tokens.mask(answer)
        inner = self._target_ids(answer)
        row = TokenizedExample(self.prompt_ids(messages), self._ended(inner), start=self.start_ids)
        ends = self._ends(answer, inner) if token_ends else None
        if ends is None:
            return row
        answer = self.control_tokens.plain(answer)
        text = answer.strip()
        zero, length = len(answer[: answer.find(text)].encode()), len(text.encode())
        inside = ends[: len(row.answer_ids) - 1]
        inside = [end if end == UNKNOWN else min(max(end - zero, 0), length) for end in inside]
        return replace(row, token_ends=[-zero, *inside, length + 1], answer_prefix=answer[: answer.find(text)])

    def _target_ids(self, masked: str) -> list[int]:
        if self.control_tokens.is_masked(masked):
            return self.control_tokens.encode(masked).ids
        return self._encode_target(masked, special=False)

    def _encode_target(self, text: str, *, special: bool) -> list[int]:
        return self.tokenizer(text_target=text, add_special_tokens=special, verbose=False)["input_ids"]  # pyright: ignore

    def _learn_frames(self) -> None:
        """Find out how the tokenizer frames what an encoder reads and what a decoder writes."""
        tokenizer: Any = self.tokenizer
        if not tokenizer.chat_template:
            tokenizer.chat_template = PLAIN_SOURCE
            self.notes.append("the tokenizer has no chat template: the encoder reads the turns as they are")
        text = "answer"
        whole = tokenizer(text, verbose=False)["input_ids"]
        self._around_source = _frame(whole, self._ids(text))
        before, after = self._around_target()
        self._end = after[-1] if after and tokenizer.eos_token_id not in after else tokenizer.eos_token_id
        self.stop_ids = tuple(dict.fromkeys([self._end, tokenizer.eos_token_id]))
        if self.start_id is None:
            self.start_id = tokenizer.pad_token_id
        assert self.start_id is not None
        self.start_ids = (self.start_id, *before)

    def _around_target(self) -> tuple[list[int], list[int]]:
        """The special tokens that the tokenizer puts before and behind what a decoder writes."""
        text = "answer"
        return _frame(self._encode_target(text, special=True), self._encode_target(text, special=False))


def _frame(whole: list[int], inner: list[int]) -> tuple[list[int], list[int]]:
    """What stands before and behind `inner` in `whole`."""
    for start in range(len(whole) - len(inner) + 1):
        if whole[start : start + len(inner)] == inner:
            return whole[:start], whole[start + len(inner) :]
    return [], []


def _framed(ids: list[int], before: list[int], after: list[int]) -> list[int]:
    """`ids` within its frame, where a chat template has not written that already."""
    start = [] if ids[: len(before)] == before else before
    end = [] if after and ids[-len(after) :] == after else after
    return [*start, *ids, *end]
