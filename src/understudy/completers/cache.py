"""Answers that were paid for, on disk, under the hash of what was asked – and what was spent on them.

One SQLite file in write-ahead mode. A statement is either in it or not, whenever the process is killed; several
processes may read and write it at once; and nothing of it is held in memory. It is not made for network file systems.

What the key leaves out on purpose: the caller's own name for a request, and the host. The same model answers the same
on another host, so a run may move; two different models need two names or two folders.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from understudy.errors import DataError, RunError
from understudy.files import fingerprint
from understudy.types import Message, Request

FILE_NAME = "completions.sqlite"

_TABLES = """
CREATE TABLE IF NOT EXISTS answers (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, text TEXT NOT NULL,
    input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, seconds REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spending (
    account TEXT PRIMARY KEY, calls INTEGER NOT NULL, tokens INTEGER NOT NULL, cost INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
"""

_SPEND = """
UPDATE spending SET calls = calls + 1, tokens = tokens + :tokens, cost = cost + :cost WHERE account = :account
AND (:max_calls IS NULL OR calls < :max_calls)
AND (:max_tokens IS NULL OR tokens + :tokens <= :max_tokens OR (:alone AND tokens < :max_tokens))
AND (:max_cost IS NULL OR cost + :cost <= :max_cost OR (:alone AND cost < :max_cost))
"""


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """What an endpoint wrote, and what it cost.

    Attributes:
        text: the answer.
        input_tokens: tokens read, as the endpoint counts them.
        output_tokens: tokens written.
        seconds: from sending to answer.
    """

    text: str
    input_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0


def clean(text: str) -> str:
    """Text that can be written as UTF-8: halves of surrogate pairs become question marks."""
    return text.encode("utf-8", "replace").decode("utf-8")


def request_key(model: str, request: Request, *, temperature: float, max_tokens: int) -> str:
    """The hash of all that can change an answer: model, conversation or tokens, schema, sampling, number of the sample.

    Args:
        model: the model's name.
        request: what is asked; its own temperature and length win.
        temperature: the completer's.
        max_tokens: the completer's.
    """
    identity = {
        "model": model,
        "messages": [[turn.role, clean(turn.content)] for turn in request.messages],
        "schema": dict(request.schema) if request.schema is not None else None,
        "temperature": float(temperature if request.temperature is None else request.temperature),
        "max_tokens": max_tokens if request.max_tokens is None else request.max_tokens,
        "sample": request.sample,
    }
    if request.tokens is not None:
        identity["tokens"] = [list(request.tokens.ids), request.tokens.first, request.tokens.k]
    return fingerprint(identity, length=40)


def content_bytes(messages: tuple[Message, ...]) -> int:
    """Bytes of a conversation."""
    return sum(len(turn.content.encode("utf-8", "replace")) for turn in messages)


class AnswerCache:
    """The file of answers and of spending; without a folder it lives as long as the object."""

    def __init__(self, folder: str | os.PathLike[str] | None = None) -> None:
        """Open or create the file.

        Raises:
            RunError: the folder cannot be written.
            DataError: the file is there and is no cache.
        """
        self.path = None if folder is None else Path(folder) / FILE_NAME
        # Asking happens in a thread of its own, so the connection passes from one thread to another, one at a time.
        self._lock = threading.Lock()
        with self._faults():
            if self.path is not None:
                self.path.parent.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(
                self.path or ":memory:", timeout=60.0, isolation_level=None, check_same_thread=False
            )
            self._database.execute("PRAGMA journal_mode=WAL")
            # A kill loses nothing; only a power cut can lose the last answers, never the file.
            self._database.execute("PRAGMA synchronous=NORMAL")
            self._database.executescript(_TABLES)
            self._add_cost()
        weakref.finalize(self, self._database.close)

    def get(self, key: str) -> CachedAnswer | None:
        """The answer under a key, or None."""
        with self._faults(), self._lock:
            row = self._database.execute(
                "SELECT text, input_tokens, output_tokens, seconds FROM answers WHERE key = ?", (key,)
            ).fetchone()
        return CachedAnswer(*row) if row else None

    def put(self, key: str, model: str, answer: CachedAnswer) -> None:
        """Keep an answer; the first one under a key stays."""
        with self._faults(), self._lock:
            self._database.execute(
                "INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?)",
                (key, model, answer.text, answer.input_tokens, answer.output_tokens, answer.seconds),
            )

    def spent(self, account: str) -> tuple[int, int]:
        """Calls and tokens spent by an account, what is under way counted in full."""
        with self._faults(), self._lock:
            row = self._database.execute("SELECT calls, tokens FROM spending WHERE account = ?", (account,)).fetchone()
        return row or (0, 0)

    def spent_cost(self, account: str) -> int:
        """Money spent by an account, in billionths, what is under way counted in full."""
        with self._faults(), self._lock:
            row = self._database.execute("SELECT cost FROM spending WHERE account = ?", (account,)).fetchone()
        return row[0] if row else 0

    def spend(
        self,
        account: str,
        tokens: int,
        cost: int = 0,
        *,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        max_cost: int | None = None,
        alone: bool,
    ) -> bool:
        """Take one call, so many tokens and so much money off an account, unless that would pass a limit.

        With `alone`, the last call may pass `max_tokens` and `max_cost`, provided that something was left before it.
        """
        limits = {
            "account": account,
            "tokens": tokens,
            "cost": cost,
            "max_calls": max_calls,
            "max_tokens": max_tokens,
            "max_cost": max_cost,
            "alone": alone,
        }
        with self._faults(), self._lock:
            if self._database.execute(_SPEND, limits).rowcount:
                return True
            # Not admitted, or the account's first call.
            opened = self._database.execute("INSERT OR IGNORE INTO spending VALUES (?, 0, 0, 0)", (account,)).rowcount
            return bool(opened) and self._database.execute(_SPEND, limits).rowcount == 1

    def correct(self, account: str, *, calls: int, tokens: int, cost: int = 0) -> None:
        """Add to an account's spending, mostly something below zero: the estimate was too high."""
        with self._faults(), self._lock:
            self._database.execute(
                "UPDATE spending SET calls = calls + ?, tokens = tokens + ?, cost = cost + ? WHERE account = ?",
                (calls, tokens, cost, account),
            )

    def _add_cost(self) -> None:
        """Files of an earlier version count no money."""
        columns = [row[1] for row in self._database.execute("PRAGMA table_info(spending)")]
        if "cost" not in columns:
            try:
                self._database.execute("ALTER TABLE spending ADD COLUMN cost INTEGER NOT NULL DEFAULT 0")
            except sqlite3.OperationalError as error:
                # Another process was quicker.
                if "duplicate column" not in str(error):
                    raise

    def __len__(self) -> int:
        with self._faults(), self._lock:
            return self._database.execute("SELECT COUNT(*) FROM answers").fetchone()[0]

    def close(self) -> None:
        """Close the file; what was written stays."""
        with self._lock:
            self._database.close()

    @contextmanager
    def _faults(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.OperationalError, OSError) as error:
            raise RunError(
                f"cannot use the cache of answers {self.path}: {error}",
                hint="free some space or choose another folder, then run the same command again: it goes on from here",
            ) from error
        except sqlite3.DatabaseError as error:
            raise DataError(
                f"{self.path} is no cache of answers: {error}",
                hint="move it away; answers that only it holds are asked for again",
            ) from error
