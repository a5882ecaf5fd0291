"""A model of this process as an engine: one thread that answers what is waiting, in small batches.

Requests that arrive while a batch is written form the next one; nobody waits for others to come. Within a batch each
row has its own length, sampling, stop texts and end. A batch is over when its last row is, so a short answer behind a
long one waits for it at most once; a server with batching of its own (`--upstream`) has no such limit.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

from understudy.models.generate import writing_kind
from understudy.models.live_decoding import WrittenToken, decode_watched
from understudy.serve.text_stream import TextStream, TokenStream
from understudy.serve.work import EngineFault, Piece, Token, Work
from understudy.tokens.template import Template

BATCH = 16
"""Answers written side by side, at most."""


class LocalEngine:
    """Writes with a model of this process.

    Args:
        model: that writes.
        template: of it.
        batch: answers side by side, at most.
        name: of the thread.
    """

    def __init__(self, model: Any, template: Template, *, batch: int = BATCH, name: str = "engine") -> None:
        self._model, self._template, self._batch = model.eval(), template, batch
        self._kind = writing_kind(model)
        self._waiting: deque[_Row] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._running = 0
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def load(self) -> tuple[int, int]:
        """Rows that wait, and rows that are being written."""
        return len(self._waiting), self._running

    async def write(self, work: Work) -> AsyncIterator[Piece]:
        """See `Engine`."""
        at_once = not work.streams and not work.stop
        text = TextStream(work.stop, plain=work.plain)
        stream = TokenStream(self._template, text, plain=work.plain, at_once=at_once)
        row = _Row(work, stream, asyncio.get_running_loop())
        with self._changed:
            if self._closed:
                raise EngineFault("the server is going down")
            self._waiting.append(row)
            self._changed.notify()
        try:
            while True:
                piece = await row.pieces.get()
                if isinstance(piece, Exception):
                    raise piece
                yield piece
                if piece.finish:
                    return
        finally:
            row.left = True

    async def close(self) -> None:
        """See `Engine`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, 30)

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while rows := self._next():
            self._running = len(rows)
            try:
                self._answer(rows)
            except Exception as error:
                # Whatever a model does to itself, the next request is served.
                fault = EngineFault(f"the model failed: {type(error).__name__}: {error}")
                for row in rows:
                    row.tell(fault)
            finally:
                self._running = 0
        for row in self._waiting:
            row.tell(EngineFault("the server is going down"))

    def _next(self) -> list[_Row]:
        with self._changed:
            while True:
                while self._waiting and self._waiting[0].left:
                    self._waiting.popleft()
                if self._closed or self._waiting:
                    break
                self._changed.wait()
            rows: list[_Row] = []
            while self._waiting and len(rows) < self._batch and not self._closed:
                row = self._waiting.popleft()
                if not row.left:
                    rows.append(row)
            return rows

    def _answer(self, rows: Sequence[_Row]) -> None:
        def on_step(tokens: Sequence[WrittenToken | None]) -> list[bool]:
            told: list[tuple[_Row, Piece]] = []
            ends = [self._step(row, token, told) for row, token in zip(rows, tokens, strict=True)]
            _hand_over(told)
            return [end or self._closed for end in ends]

        decode_watched(
            self._kind,
            self._model,
            self._template,
            [list(row.work.prompt) for row in rows],
            max_new_tokens=max(row.work.max_tokens for row in rows),
            samplings=[row.work.sampling for row in rows],
            num_top=max(row.work.num_top or 0 for row in rows),
            on_step=on_step,
        )
        for row in rows:
            if not row.over:
                row.tell(EngineFault("the server is going down"))

    def _step(self, row: _Row, token: WrittenToken | None, told: list[tuple[_Row, Piece]]) -> bool:
        """Take one token of a row; whether the row ends."""
        if token is None or row.over:
            return True
        if row.left:
            row.over = True
            return True
        row.count += 1
        stops = token.id in self._template.stop_ids
        row.text += "" if stops else row.stream.add(token.id)
        row.tokens.append(self._token(token, row.work.num_top, stops=stops))
        length = row.count == row.work.max_tokens
        row.over = stops or row.stream.stopped or length
        finish = ("length" if length and not stops and not row.stream.stopped else "stop") if row.over else None
        if row.over:
            row.text += row.stream.end()
        if row.over or row.work.streams:
            counts = (len(row.work.prompt), row.count) if row.over else (0, 0)
            told.append((row, Piece(row.text, tuple(row.tokens), finish, *counts)))
            row.text, row.tokens = "", []
        return row.over

    def _token(self, token: WrittenToken, num_top: int | None, *, stops: bool) -> Token:
        other = next(logp for place, logp in token.top if place != token.id)
        margin = token.logp - other
        if num_top is None:
            return Token("", token.logp, margin, stops=stops)
        spelled = self._template.spelled
        top = tuple((spelled([place]), logp) for place, logp in token.top[:num_top])
        return Token(spelled([token.id]), token.logp, margin, top, stops)


class _Row:
    """One answer under way."""

    def __init__(self, work: Work, stream: TokenStream, loop: asyncio.AbstractEventLoop) -> None:
        self.work, self.stream, self.loop = work, stream, loop
        self.pieces: asyncio.Queue[Piece | Exception] = asyncio.Queue()
        self.count, self.text = 0, ""
        self.tokens: list[Token] = []
        self.left = self.over = False

    def tell(self, error: Exception) -> None:
        """Hand over that there will be no more."""
        self.over = True
        _hand_over([(self, error)])


def _hand_over(told: Sequence[tuple[_Row, Piece | Exception]]) -> None:
    """To each row in the event loop that it is waited for in: those of a batch may wait in several.

    One call a loop, for each wakes it. Nobody hears what comes once a loop is closed.
    """
    for loop in dict.fromkeys(row.loop for row, _ in told):
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(_put_all, [(row, piece) for row, piece in told if row.loop is loop])


def _put_all(told: Sequence[tuple[_Row, Piece | Exception]]) -> None:
    for row, piece in told:
        row.pieces.put_nowait(piece)
