"""A model of this process as an engine: one thread that writes all answers side by side.

A request that comes joins those under way between two of their tokens, after `HELD` of these at most, and leaves when
it ends; each row has its own length, sampling, stop texts and end (`models/running_batch.py`). Models that keep
something else than keys and values of every token – encoder–decoders, sliding windows – write batch by batch: what
arrives in the meantime forms the next one, and a short answer waits for a long one at most once.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections import deque
from collections.abc import AsyncIterator, Sequence
from typing import Any

from understudy.models.generate import choice_scores, writing_kind
from understudy.models.live_decoding import WrittenToken, decode_watched
from understudy.models.running_batch import RunningBatch, rows_can_join
from understudy.serve.promised import Promised
from understudy.serve.text_stream import TextStream, TokenStream
from understudy.serve.work import EngineFault, Piece, Token, Work
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.template import Template

BATCH = 16
"""Answers written side by side, at most."""
HELD = 2
"""Tokens of those under way that a few newcomers wait for, so that prompts that come one behind the other are read at
once: reading one takes as long as a token of all, or longer. As many as half of those under way do not wait."""


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
        self._together = RunningBatch(model, template) if rows_can_join(model) else None
        self._rows: list[_Row] = []
        self._held = 0
        self._waiting: deque[_Row | _Options] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    @property
    def load(self) -> tuple[int, int]:
        """Rows that wait, and rows that are being written."""
        return len(self._waiting), len(self._rows)

    async def write(self, work: Work) -> AsyncIterator[Piece]:
        """See `Engine`."""
        at_once = not work.streams and not work.stop
        text = TextStream(work.stop, plain=work.plain)
        stream = TokenStream(self._template, text, plain=work.plain, at_once=at_once)
        row = _Row(work, stream, asyncio.get_running_loop())
        self._put(row)
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

    async def option_scores(self, options: Sequence[TokenizedExample]) -> list[float]:
        """Mean log-probability a token of each option as the answer to a question, as a run scores them.

        Raises:
            EngineFault: there are none.
        """
        asked = _Options(options)
        self._put(asked)
        return await asked.outcome

    def _put(self, asked: _Row | _Options) -> None:
        with self._changed:
            if self._closed:
                raise EngineFault("the server is going down")
            self._waiting.append(asked)
            self._changed.notify()

    async def close(self) -> None:
        """See `Engine`."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        await asyncio.to_thread(self._thread.join, 30)

    # -- in the thread -------------------------------------------------------------------------------------------------

    def _work(self) -> None:
        while not self._closed:
            taken = self._next()
            if isinstance(taken, _Options):
                self._score(taken)
                continue
            self._rows += taken
            try:
                if self._together is None:
                    self._write_all()
                else:
                    self._write_one(self._together, taken)
            except Exception as error:
                # Whatever a model does to itself, the next request is served.
                broken, self._rows = self._rows, []
                if self._together is not None:
                    self._together.clear()
                for row in broken:
                    row.tell(_failed(error))
        for asked in (*self._rows, *self._waiting):
            asked.tell(EngineFault("the server is going down"))

    def _next(self) -> list[_Row] | _Options:
        """What came, in its order: the options of one question, or rows for which there is room.

        Waits for it only while nothing is being written.
        """
        with self._changed:
            while not (self._waiting or self._rows or self._closed):
                self._changed.wait()
            taken: list[_Row] = []
            few = 2 * len(self._waiting) < len(self._rows)
            if few and self._waiting and self._held < HELD:
                self._held += 1
                return taken
            self._held = 0
            while self._waiting and len(self._rows) + len(taken) < self._batch and not self._closed:
                asked = self._waiting[0]
                if isinstance(asked, _Options):
                    return taken or self._waiting.popleft()  # pyright: ignore[reportReturnType]
                self._waiting.popleft()
                if not asked.left:
                    taken.append(asked)
            return taken

    def _score(self, asked: _Options) -> None:
        pad: Any = self._template.tokenizer.pad_token_id
        try:
            asked.tell(choice_scores(self._model, [asked.options], pad_id=pad, batch_size=self._batch)[0])
        except Exception as error:
            asked.tell(_failed(error))

    def _write_one(self, together: RunningBatch, came: Sequence[_Row]) -> None:
        """One token of each row, behind the prompts of those that came."""
        if came:
            together.join([row.work.prompt for row in came], [row.work.sampling for row in came])
        if not self._rows:
            return
        tokens = together.choose(max(row.work.num_top or 0 for row in self._rows))
        told: list[tuple[_Row, Piece]] = []
        ends = [self._step(row, token, told) for row, token in zip(self._rows, tokens, strict=True)]
        _hand_over(told)
        order = together.go_on([place for place, end in enumerate(ends) if not end])
        self._rows = [self._rows[place] for place in order]

    def _write_all(self) -> None:
        """The rows to their end."""
        rows = self._rows
        if not rows:
            return

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
        self._rows = []

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


class _Options(Promised[list[float]]):
    """Options whose likelihoods are wanted."""

    def __init__(self, options: Sequence[TokenizedExample]) -> None:
        super().__init__()
        self.options = options


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


def _failed(error: Exception) -> EngineFault:
    return EngineFault(f"the model failed: {type(error).__name__}: {error}")


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
