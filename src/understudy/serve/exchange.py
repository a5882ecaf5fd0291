"""What passed between a client and a model, told to whoever watches when it is over.

The gateway tells every request that came as far as a model to its observers, answered or not. By default there are
none, and nothing of a conversation is kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from understudy.confidence import Confidence
from understudy.records.base import Record

Decision = Literal["", "kept", "asked", "unavailable"]
"""Of a cascade: there was none; the student was sure enough; the teacher answered; it should have, and could not."""


@dataclass(frozen=True, slots=True)
class Exchange(Record):
    """One finished request.

    Attributes:
        id: of the request, as the client was told.
        time: when it arrived, in seconds since 1970.
        endpoint: the path that was asked.
        key: id of the client's key; None where none is needed.
        model: which model was asked for.
        source: whose answer it is: `student`, `teacher`, `undistilled` or an arm; empty where there is none.
        messages: the conversation, as role and content.
        context: the text to read that came beside the question.
        choices: the options that came beside it.
        answer: what was answered; of several choices the first; None where there was none.
        student_answer: what the student said, where the teacher was asked after it.
        confidence: of the student's answer: the calibrated probability, else the geometric mean of its tokens'.
        measures: what the confidence was made of.
        threshold: below which the teacher is asked; None without a cascade.
        decision: of the cascade.
        teacher_fault: why the teacher did not answer.
        prompt_tokens: read by the model that answered.
        completion_tokens: written, of all choices.
        teacher_tokens: read and written by the teacher, in a cascade.
        seconds: from arrival to the last token.
        first_seconds: from arrival to the first token that was sent; None where none was.
        streamed: whether it was sent token by token.
        status: of HTTP; 499 where the client left before the end.
        error: what was wrong, in a line; empty where nothing was.
        finish_reason: `stop` or `length`; None without an answer.
    """

    id: str
    time: float
    endpoint: str
    key: str | None
    model: str
    source: str = ""
    messages: tuple[Mapping[str, Any], ...] = ()
    context: str | None = None
    choices: tuple[str, ...] = ()
    answer: str | None = None
    student_answer: str | None = None
    confidence: float | None = None
    measures: Confidence | None = None
    threshold: float | None = None
    decision: str = ""
    teacher_fault: str = ""
    prompt_tokens: int = 0
    completion_tokens: int = 0
    teacher_tokens: int = 0
    seconds: float = 0.0
    first_seconds: float | None = None
    streamed: bool = False
    status: int = 200
    error: str = ""
    finish_reason: str | None = None


class Observer(Protocol):
    """Whoever wants to know what was asked and answered."""

    def finished(self, exchange: Exchange) -> None:
        """A request is over. Called in the event loop: hand it on and return, for everybody waits meanwhile.

        What it raises is logged, and changes no answer.
        """
        ...


@dataclass(frozen=True, slots=True)
class Thumb(Record):
    """What a user thinks of an answer.

    Attributes:
        verdict: `up` or `down`.
        question: what was asked.
        answer: the answer that is judged.
        model: whose it is.
        context: what was there to read.
        choices: the options.
        correction: the right answer, where the user gave one.
        id: of the request, where it is known.
        key: id of the client's key.
        confidence: of the answer, where it is known.
    """

    verdict: Literal["up", "down"]
    question: str
    answer: str
    model: str = ""
    context: str | None = None
    choices: tuple[str, ...] = ()
    correction: str | None = None
    id: str = ""
    key: str | None = None
    confidence: float | None = None


class ThumbObserver(Protocol):
    """Whoever wants to know of thumbs beside the feedback file."""

    def thumbed(self, thumb: Thumb) -> None:
        """A thumb was given; as `Observer.finished`."""
        ...
