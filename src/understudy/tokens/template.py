"""How a model is spoken to: its chat template, its special tokens, and where the answer begins.

Training and generation must cut at the same place: the prompt's ids are those of the prompt rendered alone, and the
answer's ids follow. Where the tokenizer would merge across that border, prompt and answer are tokenised apart.

To an encoder–decoder the prompt is the encoder's text and the answer the decoder's, so there is no border to cut at.
Both get the special tokens that the tokenizer itself adds, T5's </s> behind both, BART's <s> … </s> around both. Those
that open an answer are no part of it: the decoder is given them behind its start token, in training and in generation.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal

from transformers import PreTrainedTokenizerBase

from understudy.errors import ModelError
from understudy.tokens.boundaries import UNKNOWN, Boundaries
from understudy.tokens.encoded import TokenizedExample

PLAIN_TEMPLATE = (
    "{{ bos_token or '' }}"
    "{% for m in messages %}"
    "{% if m['role'] == 'user' %}Question: {{ m['content'] }}\nAnswer:"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}{% if not loop.last %}{{ '\n' }}{% endif %}"
    "{% else %}{{ m['content'] }}\n\n{% endif %}"
    "{% endfor %}"
)
PLAIN_SOURCE = "{% for m in messages %}{{ m['content'] }}{% if not loop.last %}{{ '\n\n' }}{% endif %}{% endfor %}"
"""What an encoder reads where the tokenizer has no chat template: the turns alone."""


@dataclass
class Template:
    """A tokenizer made ready to render conversations.

    Attributes:
        tokenizer: with a pad token and a chat template, whatever it came with.
        notes: what had to be done about it, in sentences for the report.
        stop_ids: tokens that end an answer.
        encoder_decoder: whether the model reads the prompt with an encoder.
        start_id: what such a model's decoder begins with; default: the pad token, as with T5.
        start_ids: the same and whatever the tokenizer puts before an answer; empty for a causal model.
        candidates: what an answer is made of: tokens of the vocabulary, or positions of the row that is read.
    """

    candidates: ClassVar[Literal["vocabulary", "positions"]] = "vocabulary"
    tokenizer: PreTrainedTokenizerBase
    notes: list[str] = field(default_factory=list)
    stop_ids: tuple[int, ...] = ()
    encoder_decoder: bool = False
    start_id: int | None = None
    start_ids: tuple[int, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        self._ensure_end()
        self._ensure_pad()
        if self.encoder_decoder:
            self._read_seq2seq_frames()
            return
        if not self.tokenizer.chat_template:
            self.tokenizer.chat_template = PLAIN_TEMPLATE
            self.notes.append("the tokenizer has no chat template: questions are put as 'Question: … Answer:'")
        self._end = self._end_of_turn()
        self.stop_ids = tuple(dict.fromkeys([self._end, self.tokenizer.eos_token_id]))  # pyright: ignore

    def prompt(self, messages: list[dict[str, str]]) -> str:
        """The conversation as the model sees it, up to where it must answer."""
        return self._render(messages, add_generation_prompt=True)

    def prompt_ids(self, messages: list[dict[str, str]]) -> list[int]:
        """`prompt` as token ids."""
        ids = self._encode(self.prompt(messages))
        return _framed(ids, *self._around_source) if self.encoder_decoder else ids

    def encode(self, messages: list[dict[str, str]], answer: str, *, token_ends: bool = False) -> TokenizedExample:
        """Prompt and answer as ids, cut exactly where generation will start.

        The rendered whole is tokenised at once; if its beginning is the prompt tokenised alone, that is the
        canonical form. Otherwise (a merge across the border, or a template that rewrites the prompt once an answer
        follows) both are tokenised apart. Whatever the template puts behind the end-of-turn token is dropped.

        Args:
            messages: the conversation before the answer.
            answer: the answer.
            token_ends: also tell where in the answer's text each token ends.
        """
        if self.encoder_decoder:
            return self._encode_seq2seq(messages, answer, token_ends=token_ends)
        prompt = self.prompt(messages)
        prompt_ids = self._encode(prompt)
        whole = self._render([*messages, {"role": "assistant", "content": answer}])
        text, before, ids = answer, 0, None
        if whole.startswith(prompt):
            ids = self._encode(whole)
            text, before = whole, len(prompt_ids)
            if ids[:before] != prompt_ids:
                text, before, ids = whole[len(prompt) :], 0, None
        ids = self._encode(text) if ids is None else ids
        answer_ids = self._ended(ids[before:])
        if not token_ends:
            return TokenizedExample(prompt_ids, answer_ids)
        start = len(prompt) if text is whole else 0
        place = text.find(answer.strip(), start)
        ends = self.boundaries.ends(text, ids) if place >= 0 else None
        if ends is None:
            return TokenizedExample(prompt_ids, answer_ids)
        # The prompt's last token ends where the prompt does, whatever a lossy tokenizer drops there.
        zero, first, length = (len(piece.encode()) for piece in (text[:place], text[:start], answer.strip()))
        inner = ends[before : before + len(answer_ids) - 1]
        inner = [end if end == UNKNOWN else min(max(end, first) - zero, length) for end in inner]
        return TokenizedExample(prompt_ids, answer_ids, [first - zero, *inner, length + 1], text[start:place])

    def _encode_seq2seq(self, messages: list[dict[str, str]], answer: str, *, token_ends: bool) -> TokenizedExample:
        """Source and target of an encoder–decoder."""
        inner = self._encode_target(answer, special=False)
        row = TokenizedExample(self.prompt_ids(messages), self._ended(inner), start=self.start_ids)
        ends = self.boundaries.ends(answer, inner) if token_ends else None
        if ends is None:
            return row
        text = answer.strip()
        zero, length = len(answer[: answer.find(text)].encode()), len(text.encode())
        inside = ends[: len(row.answer_ids) - 1]
        inside = [end if end == UNKNOWN else min(max(end - zero, 0), length) for end in inside]
        return replace(row, token_ends=[-zero, *inside, length + 1], answer_prefix=answer[: answer.find(text)])

    @functools.cached_property
    def boundaries(self) -> Boundaries:
        """Tells where in a text the tokenizer cuts."""
        return Boundaries(self.tokenizer)

    @property
    def end_id(self) -> int:
        """The token that ends an answer."""
        return self._end

    def decode(self, ids: list[int]) -> str:
        """Generated ids as clean text."""
        return self.tokenizer.decode(ids, skip_special_tokens=True).strip()  # pyright: ignore

    def _ended(self, ids: list[int]) -> list[int]:
        if self._end in ids:
            return ids[: ids.index(self._end) + 1]
        return [*ids, self._end]

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]  # pyright: ignore

    def _encode_target(self, text: str, *, special: bool) -> list[int]:
        return self.tokenizer(text_target=text, add_special_tokens=special, verbose=False)["input_ids"]  # pyright: ignore

    def _read_seq2seq_frames(self) -> None:
        """Find out how the tokenizer frames what an encoder reads and what a decoder writes."""
        tokenizer: Any = self.tokenizer
        if not tokenizer.chat_template:
            tokenizer.chat_template = PLAIN_SOURCE
            self.notes.append("the tokenizer has no chat template: the encoder reads the turns as they are")
        text = "answer"
        whole = tokenizer(text, verbose=False)["input_ids"]
        self._around_source = _frame(whole, self._encode(text))
        before, after = _frame(self._encode_target(text, special=True), self._encode_target(text, special=False))
        self._end = after[-1] if after and tokenizer.eos_token_id not in after else tokenizer.eos_token_id
        self.stop_ids = tuple(dict.fromkeys([self._end, tokenizer.eos_token_id]))
        if self.start_id is None:
            self.start_id = tokenizer.pad_token_id
        assert self.start_id is not None
        self.start_ids = (self.start_id, *before)

    def _render(self, messages: list[dict[str, str]], *, add_generation_prompt: bool = False) -> str:
        try:
            # Thinking models would put an empty or open thought into one model's prompt and not into the other's.
            return self.tokenizer.apply_chat_template(  # pyright: ignore
                messages, tokenize=False, add_generation_prompt=add_generation_prompt, enable_thinking=False
            )
        except Exception as error:  # jinja raises whatever the template's author chose
            roles = ", ".join(m["role"] for m in messages)
            raise ModelError(
                f"the chat template cannot render a conversation of the roles {roles}: {error}",
                hint="set chat_template in the recipe, or leave out data.system if the template knows no system turn",
            ) from error

    def _ensure_end(self) -> None:
        if self.tokenizer.eos_token_id is None:
            end = self.tokenizer.sep_token or self.tokenizer.pad_token
            if end is None:
                raise ModelError(
                    "the tokenizer has no end-of-sequence token", hint="set eos_token in tokenizer_config.json"
                )
            self.tokenizer.eos_token = end
            self.notes.append(f"the tokenizer has no end token: {end!r} ends an answer")

    def _ensure_pad(self) -> None:
        if self.tokenizer.pad_token_id is None:
            self.tokenizer.pad_token = self.tokenizer.eos_token
            self.notes.append("the tokenizer has no pad token: the end token pads, and padding is masked by position")

    def _end_of_turn(self) -> int:
        """The special token that the template puts behind an answer, else the end-of-sequence token."""
        marker = "answer"
        whole = self._render([{"role": "user", "content": "question"}, {"role": "assistant", "content": marker}])
        tail = self._encode(whole[whole.rindex(marker) + len(marker) :]) if marker in whole else []
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        return next((i for i in tail if i in special), self.tokenizer.eos_token_id)  # pyright: ignore


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
