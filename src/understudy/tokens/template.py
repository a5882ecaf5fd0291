"""How a model is spoken to: its chat template, its special tokens, and where the answer begins.

Training and generation must cut at the same place: the prompt's ids are those of the prompt rendered alone, and the
answer's ids follow. Where the tokenizer would merge across that border, prompt and answer are tokenised apart.

A text that goes through a template here is masked (`control_tokens`): what the data says never becomes a token that
ends an answer or opens a turn.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from transformers import PreTrainedTokenizerBase

from understudy.errors import ModelError
from understudy.tokens.boundaries import UNKNOWN, Boundaries
from understudy.tokens.control_tokens import ControlTokens
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.thoughts import TAG

PLAIN_TEMPLATE = (
    "{{ bos_token or '' }}"
    "{% for m in messages %}"
    "{% if m['role'] == 'user' %}Question: {{ m['content'] }}\nAnswer:"
    "{% elif m['role'] == 'assistant' %} {{ m['content'] }}{{ eos_token }}{% if not loop.last %}{{ '\n' }}{% endif %}"
    "{% else %}{{ m['content'] }}\n\n{% endif %}"
    "{% endfor %}"
)


Candidates = Literal["vocabulary", "positions", "options", "labels", "tags", "passages"]
"""What an answer is chosen from."""


@dataclass
class Template:
    """A tokenizer made ready to render conversations.

    Attributes:
        tokenizer: with a pad token and a chat template, whatever it came with.
        notes: what had to be done about it, in sentences for the report.
        stop_ids: tokens that end an answer.
        start_ids: what a decoder of its own begins with; empty for a causal model.
        candidates: what an answer is made of: tokens of the vocabulary, positions of the row that is read, one of the
            row's options, one of the data's labels, such a label for each word, or a passage of the corpus.
        reads_images: whether the model is shown the pictures of a row.
        reads_audio: whether it hears the recording of a row, and reads nothing else.
    """

    candidates: ClassVar[Candidates] = "vocabulary"
    reads_images: ClassVar[bool] = False
    reads_audio: ClassVar[bool] = False
    tokenizer: PreTrainedTokenizerBase
    notes: list[str] = field(default_factory=list)
    stop_ids: tuple[int, ...] = ()
    start_ids: tuple[int, ...] = field(default=(), init=False)

    def __post_init__(self) -> None:
        self._ensure_end()
        self._ensure_pad()
        self._learn_frames()

    def _learn_frames(self) -> None:
        """Give the tokenizer a chat template if it has none, and find out what ends an answer."""
        if not self.tokenizer.chat_template:
            self.tokenizer.chat_template = PLAIN_TEMPLATE
            self.notes.append("the tokenizer has no chat template: questions are put as 'Question: … Answer:'")
        self._end = self._end_of_turn()
        self.stop_ids = tuple(dict.fromkeys([self._end, self.tokenizer.eos_token_id]))  # pyright: ignore

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The conversation as the model sees it, up to where it must answer."""
        return self.control_tokens.plain(self._masked(messages, add_generation_prompt=True))

    def prompt_ids(self, messages: Sequence[Mapping[str, Any]]) -> list[int]:
        """`prompt` as token ids."""
        return self._encode(self._masked(messages, add_generation_prompt=True))

    def text_ids(self, text: str) -> list[int]:
        """A text of the data by itself, without a template and without any token that is not of it."""
        return self._encode(self.control_tokens.mask(text))

    def encode(
        self, messages: Sequence[Mapping[str, Any]], answer: str, *, token_ends: bool = False
    ) -> TokenizedExample:
        """Prompt and answer as ids, cut exactly where generation will start.

        The rendered whole is tokenised at once; if its beginning is the prompt tokenised alone, that is the
        canonical form. Otherwise (a merge across the border, or a template that rewrites the prompt once an answer
        follows) both are tokenised apart. Whatever the template puts behind the end-of-turn token is dropped.

        Args:
            messages: the conversation before the answer.
            answer: the answer.
            token_ends: also tell where in the answer's text each token ends.
        """
        prompt = self._masked(messages, add_generation_prompt=True)
        prompt_ids = self._encode(prompt)
        whole = self._masked([*messages, {"role": "assistant", "content": answer}])
        answer = self.control_tokens.mask(answer)
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
        ends = self._ends(text, ids) if place >= 0 else None
        if ends is None:
            return TokenizedExample(prompt_ids, answer_ids)
        # The prompt's last token ends where the prompt does, whatever a lossy tokenizer drops there.
        pieces = [self.control_tokens.plain(piece) for piece in (text[:place], text[:start], answer.strip())]
        zero, first, length = (len(piece.encode()) for piece in pieces)
        inner = ends[before : before + len(answer_ids) - 1]
        inner = [end if end == UNKNOWN else min(max(end, first) - zero, length) for end in inner]
        prefix = self.control_tokens.plain(text[start:place])
        return TokenizedExample(prompt_ids, answer_ids, [first - zero, *inner, length + 1], prefix)

    @functools.cached_property
    def boundaries(self) -> Boundaries:
        """Tells where in a text the tokenizer cuts."""
        return Boundaries(self.tokenizer)

    @functools.cached_property
    def control_tokens(self) -> ControlTokens:
        """Keeps texts of the data from becoming tokens that steer the model."""
        return ControlTokens(self.tokenizer, self._written_around_turns())

    @property
    def end_id(self) -> int:
        """The token that ends an answer."""
        return self._end

    @property
    def picture_identity(self) -> str:
        """What tells apart two ways to make pixel values of a picture; empty where none is read."""
        return ""

    @property
    def audio_identity(self) -> str:
        """What tells apart two ways to hear a recording; empty where none is heard."""
        return ""

    def save(self, folder: Path) -> None:
        """Write all of it into a model's folder."""
        self.tokenizer.save_pretrained(folder)

    def decode(self, ids: list[int]) -> str:
        """Ids as text, the way to read them: for answers, what is learned of them, and what is looked at.

        Special tokens are left out, but for tags of thoughts, by which a thought is known. No space is taken away: the
        clean-up that some tokenizers ask for makes `x!= y?` of `x != y ?`, which nobody wrote.
        """
        silent = self._silent_ids
        kept = ids if silent is None else [token for token in ids if token not in silent]
        tokenizer: Any = self.tokenizer
        text = tokenizer.decode(kept, skip_special_tokens=silent is None, clean_up_tokenization_spaces=False)
        return text.strip()

    def spelled(self, ids: Sequence[int]) -> str:
        """Ids as text with special tokens written out and nothing taken away: what a server is sent, and names."""
        tokenizer: Any = self.tokenizer
        return tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    @functools.cached_property
    def _silent_ids(self) -> set[int] | None:
        """The special tokens to leave out where not all are; None where all are."""
        added = self.tokenizer.added_tokens_decoder
        special = {i for i, token in added.items() if token.special} | set(self.tokenizer.all_special_ids)
        tags = {i for i in special if i in added and TAG.fullmatch(added[i].content)}
        return special - tags if tags else None

    def _ended(self, ids: list[int]) -> list[int]:
        if self._end in ids:
            return ids[: ids.index(self._end) + 1]
        return [*ids, self._end]

    def _encode(self, text: str) -> list[int]:
        """A rendered text, masked or not, as ids."""
        if self.control_tokens.is_masked(text):
            return self.control_tokens.encode(text).ids
        return self._ids(text)

    def _ids(self, text: str) -> list[int]:
        return self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]  # pyright: ignore

    def _ends(self, text: str, ids: list[int]) -> list[int] | None:
        """Where each token ends in a masked text, in bytes of the text behind the mask."""
        control = self.control_tokens
        if control.is_masked(text):
            return self.boundaries.ends(control.plain(text), ids, control.encode(text))
        return self.boundaries.ends(text, ids)

    def _masked(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False) -> str:
        mask = self.control_tokens.mask
        turns = [{**turn, "content": mask(turn["content"])} for turn in messages]
        return self._render(turns, add_generation_prompt=add_generation_prompt)

    def _render(self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = False) -> str:
        try:
            # Thinking models would put an empty or open thought into one model's prompt and not into the other's.
            return self.tokenizer.apply_chat_template(  # pyright: ignore
                [dict(turn) for turn in messages],
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
                enable_thinking=False,
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

    def pad_within(self, columns: int) -> None:
        """Pad with a token that the model has, where the tokenizer's own pad token was added behind its last.

        Args:
            columns: how many tokens the model has embeddings for.
        """
        tokenizer: Any = self.tokenizer
        token, place = tokenizer.pad_token, tokenizer.pad_token_id
        ends = (tokenizer.eos_token, tokenizer.sep_token, tokenizer.unk_token)
        within = [end for end in ends if end is not None and tokenizer.convert_tokens_to_ids(end) < columns]
        if place is None or place < columns or not within:
            return
        tokenizer.pad_token = within[0]
        self.notes.append(
            f"the model has no embedding for the pad token {token!r} ({place}): {within[0]!r} pads, and padding is "
            "masked by position"
        )

    def _end_of_turn(self) -> int:
        """The special token that the template puts behind an answer, else the end-of-sequence token."""
        marker = "answer"
        whole = self._render([{"role": "user", "content": "question"}, {"role": "assistant", "content": marker}])
        tail = self._ids(whole[whole.rindex(marker) + len(marker) :]) if marker in whole else []
        special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        return next((i for i in tail if i in special), self.tokenizer.eos_token_id)  # pyright: ignore

    def _written_around_turns(self) -> list[int]:
        """Ids of what frames a text, and of a conversation whose texts hold nothing but a word."""
        user, assistant, system = ({"role": role, "content": "text"} for role in ("user", "assistant", "system"))
        tokenizer: Any = self.tokenizer
        roles = (tokenizer.pad_token_id, tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.unk_token_id)
        ids = [*self.stop_ids, *self.start_ids, *(token for token in roles if token is not None)]
        ids += tokenizer("text", verbose=False)["input_ids"]
        for turns in ([user, assistant, user], [system, user]):
            with suppress(ModelError):  # Not every template knows every turn.
                ids += self._ids(self._render(turns, add_generation_prompt=True))
        return ids
