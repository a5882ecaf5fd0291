"""One request's answers over HTTP: written side by side, whole or streamed, ended when the client leaves."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import anyio
from fastapi import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from understudy.errors import UnderstudyError
from understudy.serve.answers import Answer, Manner, probability
from understudy.serve.cascade import Cascade, Verdict
from understudy.serve.exchange import Exchange
from understudy.serve.gateway import Gateway
from understudy.serve.keys import Key
from understudy.serve.sides import Side
from understudy.serve.web.faults import ApiError, Json, as_api_error
from understudy.serve.web.wire import DONE, Choice, Envelope, event, headers
from understudy.serve.work import Piece, Work, confidence_of
from understudy.types import Example


@dataclass(frozen=True)
class Job:
    """One answer that a request wants.

    Attributes:
        work: for the model that is asked.
        teacher_work: for the teacher of a cascade.
    """

    work: Work
    teacher_work: Work | None = None


@dataclass
class Call:
    """One request on its way.

    Attributes:
        gateway: that it came to.
        envelope: around its answers.
        side: the model that is asked.
        cascade: the rule that goes with it.
        jobs: the answers that it wants.
        exchange: what is known of it before it is answered.
        with_usage: whether a stream ends with the counts.
        doors: what is held while it is under way; closed when it is over.
        spend: counts its tokens against its key.
    """

    gateway: Gateway
    envelope: Envelope
    side: Side
    cascade: Cascade | None
    jobs: Sequence[Job]
    exchange: Exchange
    with_usage: bool = False
    doors: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    spend: Any = None

    def __post_init__(self) -> None:
        self._began = time.monotonic()
        self._deadline = self._began + self.gateway.bounds.seconds
        self._first: float | None = None
        self._is_over = False
        self._writings = [self.gateway.pieces(self.side, self.cascade, job.work, job.teacher_work) for job in self.jobs]
        self.choices = [Choice(place, writing.verdict) for place, writing in enumerate(self._writings)]

    def enter(self, key: Key | None) -> None:
        """Let it in, by what its key may do and by what the server has room for.

        Raises:
            Refused: not now.
        """
        with contextlib.ExitStack() as doors:
            self.spend = doors.enter_context(self.gateway.meter.metered(key))
            doors.enter_context(self.gateway.admission.admitted(len(self.jobs)))
            self.doors = doors.pop_all()

    async def respond(self, request: Request) -> Response:
        """The response, which has its status when the first piece is there.

        Raises:
            ApiError: there is no answer.
        """
        pieces = self._merged()
        try:
            first = await self._within(request, anext(pieces))
            if self.jobs[0].work.streams:
                named = headers(self.choices[0].verdict, self.envelope.id)
                return Events(self._events(first, pieces), named, functools.partial(self._abandoned, pieces))
            self._take(*first)
            await self._within(request, self._rest(pieces))
        except BaseException as error:
            await pieces.aclose()  # pyright: ignore[reportAttributeAccessIssue]
            raise self._over(error) from error
        self._finish(200)
        return Json(self.envelope.whole(self.choices), 200, headers(self.choices[0].verdict, self.envelope.id))

    # -- pieces --------------------------------------------------------------------------------------------------------

    async def _merged(self) -> AsyncIterator[tuple[Choice, Piece]]:
        """The pieces of all answers as they come."""
        if len(self._writings) == 1:
            pieces = self._writings[0].pieces
            try:
                async for piece in pieces:
                    yield self.choices[0], piece
            finally:
                await pieces.aclose()  # pyright: ignore[reportAttributeAccessIssue]
            return
        queue: asyncio.Queue[tuple[Choice, Piece | BaseException | None]] = asyncio.Queue()
        tasks = [
            asyncio.create_task(_feed(choice, writing.pieces, queue))
            for choice, writing in zip(self.choices, self._writings, strict=True)
        ]
        try:
            left = len(tasks)
            while left:
                choice, piece = await queue.get()
                if isinstance(piece, BaseException):
                    raise piece
                left -= piece is None
                if piece is not None:
                    yield choice, piece
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _rest(self, pieces: AsyncIterator[tuple[Choice, Piece]]) -> None:
        async for choice, piece in pieces:
            self._take(choice, piece)

    def _take(self, choice: Choice, piece: Piece) -> None:
        if self._first is None:
            self._first = time.monotonic() - self._began
        choice.text += piece.text
        choice.tokens += piece.tokens
        if piece.finish:
            choice.finish = piece.finish
            choice.prompt_tokens, choice.completion_tokens = piece.prompt_tokens, piece.completion_tokens
            choice.text = self._answer_of(choice)
            if choice.verdict.measures is None:
                choice.verdict.measures = confidence_of(choice.tokens)
                calibration = self.gateway.calibration_of(self.side)
                choice.verdict.confidence = probability(choice.verdict.measures, calibration)

    def _answer_of(self, choice: Choice) -> str:
        """What a student that learned tasks answers in the text that it wrote; streamed, it goes out as it stands."""
        own = choice.verdict.source == self.side.name and not self.jobs[0].work.streams
        return self.side.answer_of(choice.text) if own and self.envelope.kind == "chat" else choice.text

    async def _within(self, request: Request, wanted: Any) -> Any:
        return await within(request, wanted, self._deadline)

    # -- streams -------------------------------------------------------------------------------------------------------

    async def _events(
        self, first: tuple[Choice, Piece], pieces: AsyncIterator[tuple[Choice, Piece]]
    ) -> AsyncIterator[bytes]:
        begun: set[int] = set()
        status, fault = 499, "the client left"
        try:
            yield self._event(*first, begun)
            while True:
                left = max(0.0, self._deadline - time.monotonic())
                try:
                    # In this very task: a client that leaves cancels it, and then nothing may go on reading.
                    async with asyncio.timeout(left):
                        choice, piece = await anext(pieces)
                except StopAsyncIteration:
                    break
                yield self._event(choice, piece, begun)
            if self.with_usage:
                yield event(self.envelope.usage_chunk(self.choices))
            yield DONE
            status, fault = 200, ""
        except (TimeoutError, UnderstudyError) as error:
            refusal = _as_refusal(error, self.gateway.bounds.seconds)
            status, fault = refusal.status, refusal.message
            yield event(refusal.body)
            yield DONE
        finally:
            try:
                await pieces.aclose()  # pyright: ignore[reportAttributeAccessIssue]
            finally:
                self._finish(status, fault)

    def _event(self, choice: Choice, piece: Piece, begun: set[int]) -> bytes:
        first = choice.index not in begun
        begun.add(choice.index)
        self._take(choice, piece)
        return event(self.envelope.chunk(choice, piece.text, piece.tokens, first=first))

    # -- the end -------------------------------------------------------------------------------------------------------

    def _over(self, error: BaseException) -> BaseException:
        """The end of a request without an answer, and what is raised of it."""
        if isinstance(error, asyncio.CancelledError) and self.gateway.draining:
            # The server was told twice to end: whoever waits is told why.
            refusal = going_down()
            self._finish(refusal.status, refusal.message)
            return refusal
        if isinstance(error, ClientLeft | asyncio.CancelledError):
            self._finish(499, "the client left")
            return ApiError(499, "the client left", "left") if isinstance(error, ClientLeft) else error
        if isinstance(error, TimeoutError | UnderstudyError):
            refusal = _as_refusal(error, self.gateway.bounds.seconds)
            self._finish(refusal.status, refusal.message)
            return refusal
        self._finish(500, type(error).__name__)
        return error

    async def _abandoned(self, pieces: AsyncIterator[tuple[Choice, Piece]]) -> None:
        """The end of a stream of which nothing was sent."""
        if not self._is_over:
            await pieces.aclose()  # pyright: ignore[reportAttributeAccessIssue]
            self._finish(499, "the client left")

    def _finish(self, status: int, fault: str = "") -> None:
        self._is_over = True
        self.doors.close()
        first, verdict = self.choices[0], self.choices[0].verdict
        read = sum(choice.prompt_tokens for choice in self.choices[:: self.envelope.each])
        written = sum(choice.completion_tokens or len(choice.tokens) for choice in self.choices)
        self.spend(read + written + sum(choice.verdict.student_tokens for choice in self.choices))
        self.gateway.tell(
            replace(
                self.exchange,
                source=verdict.source if first.tokens or first.text else "",
                answer=first.text if first.finish else None,
                student_answer=verdict.student_answer,
                confidence=verdict.confidence,
                measures=verdict.measures,
                threshold=verdict.threshold,
                decision=verdict.decision,
                teacher_fault=verdict.teacher_fault,
                prompt_tokens=read,
                completion_tokens=written,
                teacher_tokens=sum(choice.verdict.teacher_tokens for choice in self.choices),
                seconds=time.monotonic() - self._began,
                first_seconds=self._first,
                streamed=self.jobs[0].work.streams,
                status=status,
                error=fault,
                finish_reason=first.finish,
            )
        )


@dataclass(frozen=True)
class WholeAnswer:
    """One answer in a form of our own, which is not streamed.

    Attributes:
        gateway: that it came to.
        side: the model that is asked.
        cascade: the rule that goes with it.
        example: the question.
    """

    gateway: Gateway
    side: Side
    cascade: Cascade | None
    example: Example

    async def within(self, request: Request, exchange: Exchange, spend: Any, began: float) -> tuple[Answer, Verdict]:
        """The answer, while there is time and the client is there; whoever watches is told.

        Raises:
            ApiError: there is none.
        """
        asked = self.gateway.answer(self.side, self.cascade, self.example, Manner())
        answer, verdict = await whole(self.gateway, request, asked, exchange, began)
        spend(answer.prompt_tokens + answer.completion_tokens + verdict.student_tokens)
        finished(
            self.gateway,
            exchange,
            began,
            source=verdict.source,
            answer=answer.answer,
            student_answer=verdict.student_answer,
            confidence=verdict.confidence,
            measures=verdict.measures,
            threshold=verdict.threshold,
            decision=verdict.decision,
            teacher_fault=verdict.teacher_fault,
            prompt_tokens=answer.prompt_tokens,
            completion_tokens=answer.completion_tokens,
            teacher_tokens=verdict.teacher_tokens,
            finish_reason=answer.finish_reason,
        )
        return answer, verdict


async def whole(gateway: Gateway, request: Request, wanted: Any, exchange: Exchange, began: float) -> Any:
    """What is wanted in one piece, while there is time and the client is there; of a fault whoever watches is told.

    Raises:
        ApiError: there is none.
    """
    try:
        return await within(request, wanted, began + gateway.bounds.seconds)
    except (ClientLeft, asyncio.CancelledError) as error:
        finished(gateway, exchange, began, status=499, error="the client left")
        if isinstance(error, ClientLeft):
            raise ApiError(499, "the client left", "left") from error
        raise
    except (TimeoutError, UnderstudyError) as error:
        refusal = _as_refusal(error, gateway.bounds.seconds)
        finished(gateway, exchange, began, status=refusal.status, error=refusal.message)
        raise refusal from error


def finished(gateway: Gateway, exchange: Exchange, began: float, **facts: Any) -> None:
    """Tell whoever watches that a request is over."""
    gateway.tell(replace(exchange, seconds=time.monotonic() - began, **facts))


async def within(request: Request, wanted: Any, deadline: float) -> Any:
    """Wait for what is wanted, as long as there is time and the client is there.

    Raises:
        TimeoutError: the time is over.
        ClientLeft: nobody waits for it.
    """
    task, watch = asyncio.ensure_future(wanted), asyncio.create_task(_left(request))
    try:
        left = max(0.0, deadline - time.monotonic())
        await asyncio.wait({task, watch}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise ClientLeft if watch.done() else TimeoutError
    finally:
        for other in (task, watch):
            other.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


class Events(StreamingResponse):
    """A stream that is over when its sending is, even where that is broken off in the middle of a piece.

    Whoever iterates over a generator and is cancelled elsewhere leaves it where it stands, with what it holds, until
    it is collected as garbage; one that was never begun does not even come to its end then.

    Args:
        events: of the stream.
        named: headers.
        over: is called once it is over.
    """

    def __init__(
        self, events: AsyncIterator[bytes], named: Mapping[str, str], over: Callable[[], Awaitable[None]]
    ) -> None:
        super().__init__(events, 200, named, "text/event-stream")
        self._over = over

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and close what makes it."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            with anyio.CancelScope(shield=True):
                await self.body_iterator.aclose()  # pyright: ignore[reportAttributeAccessIssue]
                await self._over()


class ClientLeft(Exception):
    """Nobody waits for the answer any more."""


async def _feed(choice: Choice, pieces: AsyncIterator[Piece], queue: asyncio.Queue[Any]) -> None:
    try:
        async for piece in pieces:
            queue.put_nowait((choice, piece))
        queue.put_nowait((choice, None))
    except UnderstudyError as error:
        queue.put_nowait((choice, error))
    finally:
        await pieces.aclose()  # pyright: ignore[reportAttributeAccessIssue]


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def going_down() -> ApiError:
    """What is said to whoever comes, or still waits, when the server ends."""
    return ApiError(503, "the server is going down", "draining", {"Retry-After": "5", "Connection": "close"})


def _as_refusal(error: BaseException, seconds: float) -> ApiError:
    if isinstance(error, TimeoutError):
        return ApiError(504, f"there was no answer in {seconds:g} s", "timeout", {"Retry-After": "5"})
    assert isinstance(error, UnderstudyError)
    return as_api_error(error)
