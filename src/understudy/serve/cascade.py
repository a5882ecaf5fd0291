"""Student first, teacher where the student is unsure.

```text
hold    the student answers whole; its confidence decides; then the answer, its own or the teacher's, goes out
first   its first tokens decide (`confidence.NUM_EARLY` of them); from there on it is streamed
```

With `hold` nothing is sent before the student has finished: the first token comes after the student's whole answer,
and after the teacher's first token where the teacher is asked. With `first` it comes after the student's first tokens.
A teacher that cannot be asked leaves the student's answer, and says so.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Literal

from understudy.confidence import NUM_EARLY, Calibration, Confidence
from understudy.serve.answers import probability
from understudy.serve.work import Engine, EngineFault, Piece, Token, Work, confidence_of

Mode = Literal["hold", "first"]


@dataclass(frozen=True)
class Cascade:
    """When the teacher is asked.

    Attributes:
        threshold: the teacher is asked where the student's confidence lies below it.
        early_threshold: likewise, of the first tokens.
        mode: when it is decided.
        calibration: what turns measures into confidence; None: the geometric mean of the tokens' probabilities.
        patience: seconds that the teacher is given for its first piece.
    """

    threshold: float
    early_threshold: float
    mode: Mode = "hold"
    calibration: Calibration | None = None
    patience: float = 60.0

    def asks(self, confidence: Confidence, *, early: bool) -> tuple[bool, float | None]:
        """Whether the teacher is asked, and the confidence that says so; whoever tells none is not trusted."""
        value = probability(confidence, self.calibration, early=early)
        return value is None or value < (self.early_threshold if early else self.threshold), value


@dataclass
class Verdict:
    """What became of one answer, filled while it is written; what stands at the first piece holds to the end.

    Attributes:
        source: whose answer it is.
        confidence: of the student.
        measures: what it was made of.
        threshold: below which the teacher is asked.
        decision: see `exchange.Decision`.
        teacher_fault: why the teacher did not answer.
        student_answer: what the student said where it was not kept.
        teacher_tokens: read and written by the teacher.
        student_tokens: read and written by the student where it was not kept.
    """

    source: str
    confidence: float | None = None
    measures: Confidence | None = None
    threshold: float | None = None
    decision: str = ""
    teacher_fault: str = ""
    student_answer: str | None = None
    teacher_tokens: int = 0
    student_tokens: int = 0


async def cascaded(
    cascade: Cascade,
    student: Engine,
    work: Work,
    teacher: Engine | None,
    teacher_work: Work | None,
    verdict: Verdict,
    name: str,
) -> AsyncIterator[Piece]:
    """The pieces of an answer: the student's, or the teacher's where the student is unsure.

    Args:
        cascade: the rule.
        student: asked first.
        work: what it is asked.
        teacher: asked where the student is unsure; None where it does not write.
        teacher_work: the same for the teacher; None where the question does not fit into it.
        verdict: what became of it; filled before the first piece.
        name: of the teacher, as a source.

    Raises:
        EngineFault: neither of them answers.
    """
    early = cascade.mode == "first" and work.streams
    verdict.threshold = cascade.early_threshold if early else cascade.threshold
    pieces = aiter(student.write(work))
    try:
        held, tokens = await _until_decided(pieces, early)
        verdict.measures = confidence_of(tokens)
        unsure, verdict.confidence = cascade.asks(verdict.measures, early=early)
        if unsure:
            answered = False
            async for piece in _teacher(cascade, teacher, teacher_work, verdict):
                if not answered:
                    verdict.source, verdict.decision, answered = name, "asked", True
                    verdict.student_answer = "".join(p.text for p in held)
                    verdict.student_tokens = max(p.prompt_tokens + p.completion_tokens for p in held) or len(tokens)
                if piece.finish:
                    verdict.teacher_tokens = piece.prompt_tokens + piece.completion_tokens
                yield piece
            if answered:
                return
        verdict.decision = "unavailable" if unsure else "kept"
        for piece in held:
            yield piece
        if not held[-1].finish:
            async for piece in pieces:
                yield piece
    finally:
        await pieces.aclose()  # pyright: ignore[reportAttributeAccessIssue]


async def _until_decided(pieces: AsyncIterator[Piece], early: bool) -> tuple[list[Piece], list[Token]]:
    """What the student has said by the time a decision can fall."""
    held: list[Piece] = []
    tokens: list[Token] = []
    async for piece in pieces:
        held.append(piece)
        tokens += piece.tokens
        if piece.finish or (early and len(tokens) >= NUM_EARLY):
            break
    return held, tokens


async def _teacher(
    cascade: Cascade, teacher: Engine | None, work: Work | None, verdict: Verdict
) -> AsyncIterator[Piece]:
    """The teacher's pieces; none, with the reason in the verdict, where its first does not come.

    Raises:
        EngineFault: it broke off after its first piece.
    """
    if teacher is None or work is None:
        verdict.teacher_fault = "the teacher cannot be asked this question"
        return
    pieces = aiter(teacher.write(work))
    try:
        async with asyncio.timeout(cascade.patience):
            first = await anext(pieces)
    except (EngineFault, StopAsyncIteration, TimeoutError) as error:
        timeout = isinstance(error, TimeoutError)
        verdict.teacher_fault = f"no answer in {cascade.patience:g} s" if timeout else str(error) or "no answer"
        return
    try:
        yield first
        if not first.finish:
            async for piece in pieces:
                yield piece
    finally:
        await pieces.aclose()  # pyright: ignore[reportAttributeAccessIssue]
