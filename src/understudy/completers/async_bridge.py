"""Asynchronous work behind a plain generator.

The caller's thread draws an item only when there is room for it and takes results as they are ready; an event loop in
a thread of its own does the work. So memory does not grow with the number of items, the source of the items may be any
generator of the caller's, and nothing outlives the generator: closing it, an exception in it, or Ctrl-C cancels all
that is under way.
"""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Awaitable, Callable, Iterable, Iterator
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")
Work = Callable[[Item], Awaitable[Result]]
OpenWork = Callable[[], AbstractAsyncContextManager[Work]]

_NOTHING = object()
_SECONDS_TO_CLOSE = 10.0


@dataclass(frozen=True, slots=True)
class _Raised:
    error: BaseException


def as_ready(items: Iterable[Item], open_work: OpenWork, *, window: int) -> Iterator[Any]:
    """Apply asynchronous work to items; yield results in the order in which they are ready.

    Args:
        items: drawn one at a time, in the caller's thread, at most `window` ahead of what was yielded.
        open_work: an asynchronous context that gives the work; entered and left inside the loop.
        window: items under way or waiting for their turn.

    Raises:
        BaseException: whatever the source, the context or the work raised.
    """
    source = iter(items)
    background: _Background = _Background(open_work)
    try:
        background.start()
        outstanding, more = 0, True
        while more or outstanding:
            if more and outstanding < window:
                item = next(source, _NOTHING)
                if item is _NOTHING:
                    more = False
                    continue
                background.submit(item)
                outstanding += 1
            # One in, one out: the window stays full, yet nothing that is ready waits for a slow source.
            if outstanding >= window or not more or background.has_result():
                outstanding -= 1
                yield background.result()
    finally:
        background.close()


class _Background(Generic[Item, Result]):
    """An event loop in a thread, with a queue of results."""

    def __init__(self, open_work: OpenWork) -> None:
        self._open_work = open_work
        self._results: queue.SimpleQueue[Result | _Raised] = queue.SimpleQueue()
        self._started: Future[asyncio.AbstractEventLoop] = Future()
        self._tasks: set[asyncio.Future] = set()
        self._thread = threading.Thread(target=self._run, name="completions", daemon=True)

    def start(self) -> None:
        self._thread.start()
        self._loop = self._started.result()

    def submit(self, item: Item) -> None:
        self._loop.call_soon_threadsafe(self._start, item)

    def has_result(self) -> bool:
        return not self._results.empty()

    def result(self) -> Result:
        result = self._results.get()
        if isinstance(result, _Raised):
            raise result.error
        return result

    def close(self) -> None:
        # The loop is closed already where it ended by a fault, and absent where it never began.
        with suppress(RuntimeError, AttributeError):
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(_SECONDS_TO_CLOSE)

    def _run(self) -> None:
        try:
            asyncio.run(self._main())
        except BaseException as error:
            if not self._started.done():
                self._started.set_exception(error)
            self._results.put(_Raised(error))

    async def _main(self) -> None:
        self._stop = asyncio.Event()
        async with self._open_work() as work:
            self._work = work
            self._started.set_result(asyncio.get_running_loop())
            await self._stop.wait()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    def _start(self, item: Item) -> None:
        task = asyncio.ensure_future(self._work(item))
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Future) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            error = task.exception()
            self._results.put(_Raised(error) if error else task.result())
