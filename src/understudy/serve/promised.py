"""What the thread of an engine owes somebody who waits in an event loop."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Generic, TypeVar

T = TypeVar("T")


class Promised(Generic[T]):
    """An outcome that is not there yet; made in the event loop, told from a thread.

    Attributes:
        outcome: what is waited for.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.outcome: asyncio.Future[T] = self._loop.create_future()

    @property
    def left(self) -> bool:
        """Whether nobody waits any more."""
        return self.outcome.cancelled()

    def tell(self, outcome: T | Exception) -> None:
        """Hand it over; nobody hears it once the loop is closed."""
        with contextlib.suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._settle, outcome)

    def _settle(self, outcome: T | Exception) -> None:
        if self.outcome.done():
            return
        if isinstance(outcome, Exception):
            self.outcome.set_exception(outcome)
        else:
            self.outcome.set_result(outcome)
