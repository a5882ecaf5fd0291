"""Progress of a command that is no run: a line on standard error now and then."""

from __future__ import annotations

import sys
import time


class ProgressLines:
    """Prints how far each piece of work is.

    Args:
        every: seconds between two lines of one piece.
    """

    def __init__(self, every: float = 5.0) -> None:
        self._every = every
        self._said_at: dict[str, float] = {}

    def __call__(self, done: int, total: int, note: str) -> None:
        """So many of so many are done of the piece that `note` names."""
        now = time.monotonic()
        if done < total and now - self._said_at.get(note, -self._every) < self._every:
            return
        self._said_at[note] = now
        print(f"{note}: {done:,} of {total:,}", file=sys.stderr)
