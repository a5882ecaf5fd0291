"""The nouns of the house, and the legend of axes.

```text
B  rows of a batch          V  entries of a vocabulary (V_s student, V_t teacher)
S  positions of a row       d  width of the student's hidden states
N  target tokens            D  width of the teacher's hidden states
```

A *target token* is a token that the student learns to write. `[N, …]` tensors hold the target tokens of a whole
batch one after the other, padding and prompt left out; row `n` of a hidden state is the state that *predicts*
target token `n` (the shift by one position happens once, in `tokens/collate`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Flag
from typing import TYPE_CHECKING, Any, Literal, NotRequired, Protocol, Required, TypedDict

if TYPE_CHECKING:
    from torch import Tensor


class Gives(Flag):
    """What a teacher can say of a target token, and what a method reads of it: `method.reads in teacher.gives`.

    Ordered, for each contains the weaker ones: states with their head give log-probabilities, and these the likeliest
    tokens with the tail. Token embeddings stand beside.
    """

    # Every bit has a name of its own: Python 3.11.2 drops those that have none when two flags are joined.
    TOP_K = 0b0001
    EVERY_COLUMN = 0b0010
    HIDDEN = 0b0100
    EMBEDDINGS = 0b1000
    LOGPS = TOP_K | EVERY_COLUMN
    STATES = LOGPS | HIDDEN

    @property
    def words(self) -> str:
        """The signals in words, for messages."""
        signals = {
            Gives.STATES: "hidden states with their head",
            Gives.LOGPS: "log-probabilities of every token",
            Gives.TOP_K: "log-probabilities of the likeliest tokens",
        }
        parts = [next((text for signal, text in signals.items() if signal in self), "")]
        parts += ["token embeddings"] if Gives.EMBEDDINGS in self else []
        return " and ".join(part for part in parts if part) or "nothing"


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Example:
    """One row of text; immutable.

    Attributes:
        id: unique within its data set.
        question: what is asked; the last user turn where the row is a conversation.
        answers: the right answers, the first being the one to learn; empty where the row is unlabelled.
        context: text to read before answering.
        choices: the options of a multiple-choice question; the right one stands in `answers`.
        history: the turns before the question (system prompt, earlier turns).
        rationales: explanations of the answer.
        origin: who wrote `answers`: `gold` (the data set), `teacher`, or `student` while it is trained.
        meta: whatever else the row carries (kind, category, specification …), JSON-able.
        group: what it shares with others where `data.group_by` says so; they are resampled together.
        images: pictures that the question is about, as `data.pictures` writes them: paths with a digest, or `data:`
            addresses.
        audio: the recording that is to be written down, as `data.recordings` writes it, in the same way.
    """

    id: str
    question: str
    answers: tuple[str, ...] = ()
    context: str | None = None
    choices: tuple[str, ...] = ()
    history: tuple[Message, ...] = ()
    rationales: tuple[str, ...] = ()
    origin: str = "gold"
    meta: Mapping[str, Any] = field(default_factory=dict)
    group: str | None = None
    images: tuple[str, ...] = ()
    audio: str | None = None

    @property
    def labelled(self) -> bool:
        """Whether the row has an answer to learn from."""
        return bool(self.answers)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a text comes from.

    Attributes:
        teacher: the model that wrote it, or the file it was recorded in.
        prompt: fingerprint of the messages it answers; empty where they are not known.
        parameters: template, temperature, longest answer and whatever else was asked for, JSON-able.
        input_tokens: tokens read, as the endpoint counts them.
        output_tokens: tokens written.
        cost: in the currency of the recipe's prices; None without prices.
        seconds: from sending to answer; 0 from the cache.
        cached: whether it was paid for earlier.
    """

    teacher: str
    prompt: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    seconds: float = 0.0
    cached: bool = False


@dataclass(frozen=True, slots=True)
class Knowledge:
    """One piece of knowledge in words: what one step of generation made of one example.

    Attributes:
        id: the example's.
        step: `explain`, `critique`, `revise`, `counterfactual` ….
        text: what was written; None where nothing was, and `reasons` says why.
        choice: place of the option it argues for, where that is not the right one.
        sample: which of several.
        reasons: why it was rejected; empty where it is kept.
        provenance: who wrote it, on what prompt, at what cost.
        details: what else is known of it, JSON-able: the statement that it makes, which questions it rests on.
    """

    id: str
    step: str
    text: str | None
    choice: int | None = None
    sample: int = 0
    reasons: tuple[str, ...] = ()
    provenance: Provenance | None = None
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def kept(self) -> bool:
        """Whether it may be learned from."""
        return self.text is not None and not self.reasons


@dataclass(frozen=True, slots=True)
class Splits:
    """A data set cut into its four roles, with notes on what was found on the way (counts for the report)."""

    train: tuple[Example, ...]
    unlabelled: tuple[Example, ...]
    dev: tuple[Example, ...]
    test: tuple[Example, ...]
    notes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rows(self) -> tuple[Example, ...]:
        """All rows, role by role."""
        return (*self.train, *self.unlabelled, *self.dev, *self.test)

    @property
    def by_role(self) -> dict[str, tuple[Example, ...]]:
        """The rows of each role."""
        return {"train": self.train, "unlabelled": self.unlabelled, "dev": self.dev, "test": self.test}


class Tokens(TypedDict):
    """What one model reads, with its target positions beside it.

    Attributes:
        inputs: the keyword arguments of the model's own forward, `input_ids` and `attention_mask` `[B, S]`; for an
            encoder–decoder these are the encoder's, and `decoder_input_ids` and `decoder_attention_mask` `[B, S]`
            stand beside them, to whose positions the targets belong.
        target_mask: `[B, S]` bool; true at position t where token t+1 is a target token.
        target_ids: `[N]` the target tokens, in the order of `target_mask`.
        candidates: `[B, S]` bool, where targets are positions of the row: those that can be one. `target_mask` is then
            `[B, 2]` and says that each row has a start and an end. Of rows with options `[B, K]`, those that are there;
            `inputs` then hold all options of all rows one behind the other, and `target_mask` is `[B, 1]`. Absent where
            targets are tokens of a vocabulary.
        option_mask: `[M, S]` bool, where a model that writes scores options or several answers: where the next token is
            one of theirs.
        option_ids: these tokens, in the order of `option_mask`.
        owners: `[M]`, where rows are queries and passages: the row of each text of `inputs`. The first B are the
            queries, the others the distinct passages of all rows, which are the candidates of every one.
        images: names of the pictures of each row, by their content, where `inputs` hold pictures.
        audio: the same of each row's recording, where `inputs` hold what is heard of it (`input_features`
            `[B, mel, frames]` in place of the encoder's `input_ids`).
    """

    inputs: dict[str, Tensor]
    target_mask: Tensor
    target_ids: Tensor
    candidates: NotRequired[Tensor]
    option_mask: NotRequired[Tensor]
    option_ids: NotRequired[Tensor]
    owners: NotRequired[Tensor]
    images: NotRequired[list[tuple[str, ...]]]
    audio: NotRequired[list[str]]


AlignmentKind = Literal["exact", "min_edit", "start", "groups"]
"""How answers of two tokenizers are aligned: tokens that cover equal bytes, dynamic time warping over the tokens that
were read, the n-th token beside the n-th, runs of tokens between common boundaries."""


class Alignment(TypedDict, total=False):
    """Which target tokens of teacher and student belong together; −1 is none.

    Attributes:
        partners: `[N_s]` the teacher's target token beside each of the student's; of a group, of one token alone.
        student_groups: `[N_s]` the student's target token that stands for each token's group.
        teacher_groups: `[N_t]` the *student's* target token that stands for the group of each of the teacher's.
    """

    partners: Required[Tensor]
    student_groups: Tensor
    teacher_groups: Tensor


class TeacherTokens(TypedDict, total=False):
    """What a further teacher reads, and which of its target tokens belong to which of the student's.

    Attributes:
        tokens: as `Batch.teacher`.
        alignment: as `Batch.alignment`.
    """

    tokens: Required[Tokens]
    alignment: Alignment


class RolloutTokens(TypedDict, total=False):
    """What is known of a batch of answers that the student wrote.

    Attributes:
        logp: `[N]` log-probability of each target token when it was drawn; NaN where that is not known.
        stale: `[B]` bool; whether the row was not drawn from the student as it stands.
        age: `[B]` optimiser steps since the weights that drew it.
        finished: `[B]` bool; whether it ends with a stop token.
        repetition: `[B]` share of its trigrams that it had before.
        credit: `[N_t]` the student's target token at whose end each of the teacher's counts, where the two differ.
    """

    logp: Required[Tensor]
    stale: Required[Tensor]
    age: Required[Tensor]
    finished: Required[Tensor]
    repetition: Required[Tensor]
    credit: Tensor


class Batch(TypedDict, total=False):
    """One batch for student and teacher.

    Attributes:
        student: what the student reads.
        teacher: what the teacher reads; the same object as `student` where vocabulary **and** rendered prompt agree.
        gold_rows: `[B]` bool; whether a row's answer comes from the data set (not written by the teacher).
        weights: `[B]` weight of each row's target tokens in the loss; absent where all weigh 1. The collator puts
            the weight of the row's task, which the trainer multiplies by N / N_k, counted over the whole step.
        tasks: the task of each row (`data.tasks`); absent where there are none.
        use_teacher: `[B]` bool; whether the teacher is in the loss of a row; absent where it is in that of all.
        ids: the example ids, for messages.
        alignment: which target tokens belong together, where the method asks for it.
        others: what further teachers read that have tokens of their own, by their names.
        heard: `[B]` bool; the rows on which the teacher that is asked counts; absent where it counts on all. What it
            says of others has no weight.
        token_weights: `[N]` weight of each of the student's target tokens beside that of its row.
        teacher_weights: `[B]` what the teacher's part of a row's loss is multiplied by.
        rollouts: what is known of the answers, where the student wrote them; a batch holds only such, or none.
        scores: `[B, K]` a teacher's scores of each row's candidates, where rows hold several answers.
        shares: `[B, K]` of each candidate in what is written.
    """

    student: Required[Tokens]
    teacher: Tokens
    alignment: Alignment
    gold_rows: Required[Tensor]
    weights: Tensor
    tasks: list[str]
    use_teacher: Tensor
    ids: Required[list[str]]
    others: dict[str, TeacherTokens]
    heard: Tensor
    token_weights: Tensor
    teacher_weights: Tensor
    rollouts: RolloutTokens
    scores: Tensor
    shares: Tensor


@dataclass(frozen=True, slots=True)
class TokenPrompt:
    """Token ids in place of a conversation: to be gone on from, or to be scored.

    Attributes:
        ids: the tokens, as they are sent; a server that counts others is refused.
        first: place of the first token to be scored, at least 1, for nothing stands before token 0; 0: none is.
        k: how many of the likeliest tokens are asked for at each place.
    """

    ids: tuple[int, ...]
    first: int = 0
    k: int = 0


@dataclass(frozen=True, slots=True)
class TokenScores:
    """What a server says of the tokens of a `TokenPrompt` from `first` on; natural log-probabilities at temperature 1.

    Attributes:
        ids: of each place the k likeliest tokens, the likeliest first.
        logp: theirs.
        chosen: of the token that stands there.
    """

    ids: tuple[tuple[int, ...], ...]
    logp: tuple[tuple[float, ...], ...]
    chosen: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Continuation:
    """What a server writes behind the tokens of a `TokenPrompt`.

    Attributes:
        text: without special tokens.
        finished: whether the model stopped by itself.
    """

    text: str
    finished: bool


@dataclass(frozen=True, slots=True)
class Request:
    """One question to a language model that answers in text.

    Attributes:
        id: the caller's own name for it, unique within one call of `Completer.complete`.
        messages: the conversation; empty where `tokens` are asked about.
        schema: JSON schema of the answer; an answer that breaks it is asked for again, then counts as missing.
        sample: which of several answers to the same messages; answers are cached by everything but `id`.
        temperature: sampling temperature; None: the completer's own.
        max_tokens: longest answer; None: the completer's own.
        tokens: what is asked about in place of a conversation, where the completer's interface takes token ids.
    """

    id: str
    messages: tuple[Message, ...]
    schema: Mapping[str, Any] | None = None
    sample: int = 0
    temperature: float | None = None
    max_tokens: int | None = None
    tokens: TokenPrompt | None = None


PASSING_FAULTS = ("rate limit", "server", "connection", "timeout", "unreadable")
"""Kinds of reason for which no answer came that another time may not hold (`completers/faults.py` has all kinds)."""


def is_passing(reason: str) -> bool:
    """Whether a completion's reason is one that another time may not hold, so that it is worth asking again."""
    return reason.partition(":")[0] in PASSING_FAULTS


@dataclass(frozen=True, slots=True)
class Completion:
    """What became of a request: an answer, or the reason why there is none.

    Attributes:
        id: the request's.
        text: the answer; None where there is none.
        value: the answer parsed and checked, where the request has a schema; where it has tokens, their `TokenScores`
            or their `Continuation`.
        reason: why there is no answer; empty where there is one.
        input_tokens: tokens read, as the endpoint counts them.
        output_tokens: tokens written.
        seconds: from sending to answer, retries included; 0 from the cache.
        cached: whether it was paid for earlier.
    """

    id: str
    text: str | None
    value: Any = None
    reason: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    cached: bool = False


class Completer(Protocol):
    """A language model that turns messages into text: in this process or behind an endpoint."""

    @property
    def name(self) -> str:
        """The model's name, for signatures."""
        ...

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """One completion a request, in the order in which they are ready; requests are taken as they are needed."""
        ...
