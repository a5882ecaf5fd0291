"""What an engine is asked for and what it gives: a prompt with how it is to be answered, and pieces of text."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from understudy.confidence import Confidence
from understudy.errors import UnderstudyError
from understudy.models.sampling import Sampling


class EngineFault(UnderstudyError):
    """An engine gave no answer; `wait` is after how many seconds it might."""

    def __init__(self, message: str, *, hint: str = "", wait: float | None = None) -> None:
        super().__init__(message, hint=hint)
        self.wait = wait


@dataclass(frozen=True, slots=True)
class Work:
    """One answer that is wanted.

    Attributes:
        prompt: token ids.
        messages: the conversation that they stand for, for servers that take no ids; empty for a plain text.
        max_tokens: longest answer.
        sampling: how it is drawn.
        num_top: likeliest tokens that are wanted of each place; None where the texts of tokens are not wanted either.
        stop: texts that end the answer; they are no part of it.
        streams: whether pieces are wanted as they come, or one at the end.
        plain: whether the answer is the continuation of a text: blanks count, and nothing is taken for a thought.
    """

    prompt: tuple[int, ...]
    messages: tuple[Mapping[str, str], ...] = ()
    max_tokens: int = 16
    sampling: Sampling = field(default_factory=Sampling)
    num_top: int | None = None
    stop: tuple[str, ...] = ()
    streams: bool = False
    plain: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """One written token.

    Attributes:
        text: what it writes; empty where nobody asked.
        logp: its natural-log probability, at temperature 1.
        margin: that minus the likeliest other token's, where the engine tells.
        top: the likeliest tokens of its place with theirs.
        stops: whether it is a stop token, which is counted and no part of the answer.
    """

    text: str
    logp: float
    margin: float | None = None
    top: tuple[tuple[str, float], ...] = ()
    stops: bool = False


@dataclass(frozen=True, slots=True)
class Piece:
    """What has come of an answer since the last piece.

    Attributes:
        text: further characters.
        tokens: further tokens; their texts run ahead of `text` where a character or a stop text is still open.
        finish: `stop` or `length` with the last piece.
        prompt_tokens: how many were read, with the last piece.
        completion_tokens: how many were written, with the last piece.
    """

    text: str = ""
    tokens: tuple[Token, ...] = ()
    finish: str | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0


class Engine(Protocol):
    """Whoever writes."""

    def write(self, work: Work) -> AsyncIterator[Piece]:
        """The pieces of an answer; whoever closes the iterator ends the writing.

        Raises:
            EngineFault: there is no answer.
        """
        ...

    async def close(self) -> None:
        """End what is under way and give back what is held."""
        ...


def confidence_of(tokens: Sequence[Token]) -> Confidence:
    """The measures of an answer's tokens, the stop token left out."""
    own = [token for token in tokens if not token.stops]
    return Confidence.of_tokens([token.logp for token in own], first_margin=own[0].margin if own else None)
