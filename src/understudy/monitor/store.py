"""Requests, shadows, thumbs and alerts on the disk: what a call returned from is there after a kill."""

from __future__ import annotations

import hashlib
import secrets
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, func, select

from understudy.database import Database, engine_of, opening, upgrade, upsert
from understudy.errors import DataError, RunError
from understudy.monitor.config import MonitorConfig
from understudy.monitor.redaction import Redaction
from understudy.monitor.signals import is_refusal, repetition
from understudy.monitor.tables import ALERTS, META, METADATA, MIGRATIONS, REQUESTS, SHADOWS, STATE, THUMBS
from understudy.normal_form import normalise
from understudy.serve.exchange import Exchange, Thumb

_DAY = 86_400
_KIND = "monitor"


@dataclass(frozen=True, slots=True)
class Shadow:
    """What the teacher said to a sampled request.

    Attributes:
        request: id of the request.
        probability: with which it was sampled.
        teacher: whose answer it is.
        answer: the teacher's.
        agreement: of the student's answer with it, in [0, 1].
        current: whose answer was compared.
        candidate: name of the candidate of a canary; empty without one.
        candidate_answer: its answer.
        candidate_agreement: of that answer with the teacher's.
        at: when, in seconds since 1970; 0: now.
    """

    request: str
    probability: float
    teacher: str
    answer: str
    agreement: float
    current: str = "student"
    candidate: str = ""
    candidate_answer: str | None = None
    candidate_agreement: float | None = None
    at: float = 0.0


def database_url(name: str | Path) -> str:
    """The URL of a database that is named by file or by URL."""
    return str(name) if "://" in str(name) else f"sqlite:///{Path(name).expanduser().resolve()}"


class MonitorStore:
    """The database of a monitor.

    Args:
        name: file, or `postgresql://USER@HOST/NAME`.
        config: what is kept, and of what.
        new: whether it may be made; otherwise it has to be there.

    Raises:
        ConfigError: the URL cannot be read or its driver is not installed.
        DataError: there is no such file.
        RunError: the database cannot be reached, or belongs to something else.
    """

    def __init__(self, name: str | Path, config: MonitorConfig | None = None, *, new: bool = True) -> None:
        self.config, self._redact = config or MonitorConfig(), Redaction((config or MonitorConfig()).redact)
        if not new and "://" not in str(name) and not Path(name).expanduser().is_file():
            raise DataError(f"no such file: {name}", hint="give the database that the monitor writes")
        self.database = Database(engine_of(database_url(name), "monitor"))
        with opening(self.database) as connection:
            upgrade(connection, METADATA, MIGRATIONS)
            self._claim(connection)
        self._salt, self._hold_out = self._meta("salt"), float(self._meta("hold_out"))

    def _claim(self, connection: Connection) -> None:
        known = dict(connection.execute(select(META.c.key, META.c.value)).all())
        if "kind" not in known:
            if "study" in known:
                raise RunError("the database belongs to a study", hint="give the monitor one of its own")
            rows = {"kind": _KIND, "salt": secrets.token_hex(16), "hold_out": str(self.config.hold_out)}
            connection.execute(META.insert(), [{"key": key, "value": value} for key, value in rows.items()])

    def _meta(self, key: str) -> str:
        with self.database.read() as connection:
            return connection.execute(select(META.c.value).where(META.c.key == key)).scalar() or ""

    @property
    def hold_out(self) -> float:
        """Share of the questions that is never harvested, as the database was begun with: it cannot be changed."""
        return self._hold_out

    def is_held_out(self, question: str) -> bool:
        """Whether a question stays in the test set: however often and by whom it is asked, it is or it is not."""
        digest = hashlib.sha256(f"{self._salt}|{normalise(question)}".encode("utf-8", "replace")).digest()
        return int.from_bytes(digest[:8], "big") < self._hold_out * 2**64

    def write(self, exchanges: Sequence[Exchange], shadows: Sequence[Shadow] = (), *, at: float | None = None) -> None:
        """Requests and shadows, redacted, all of them on the disk when this returns.

        A request that is told twice counts once. A shadow's request is written with or before it.
        """
        with self.database.write() as connection:
            for exchange in exchanges:
                upsert(connection, REQUESTS, self._row(exchange))
            for shadow in shadows:
                upsert(connection, SHADOWS, self._shadow_row(shadow, at))

    def _row(self, exchange: Exchange) -> dict[str, Any]:
        question, history = question_of(exchange)
        texts = {
            "question": question,
            "history": history,
            "context": exchange.context,
            "choices": list(exchange.choices),
            "answer": exchange.answer,
            "student_answer": exchange.student_answer,
        }
        if not self.config.keep_texts:
            texts = {
                "question": "",
                "history": [],
                "context": None,
                "choices": [],
                "answer": None,
                "student_answer": None,
            }
        names = ("id", "endpoint", "key", "model", "source", "confidence", "threshold", "decision", "prompt_tokens")
        names += ("completion_tokens", "seconds", "first_seconds", "streamed", "status")
        row: dict[str, Any] = {name: getattr(exchange, name) for name in names} | {"at": exchange.time}
        row |= {name: self._redact(value) for name, value in texts.items()}
        row |= {"error": self._redact(exchange.error)[:500], "model": self._redact(exchange.model)[:200]}
        row["refused"] = exchange.status < 400 and is_refusal(exchange.answer or "")
        row["repeated"] = repetition(exchange.answer or "")
        return row | {"held_out": self.is_held_out(row["question"])}

    def _shadow_row(self, shadow: Shadow, at: float | None) -> dict[str, Any]:
        row = {name: getattr(shadow, name) for name in shadow.__slots__} | {"at": shadow.at or at or time.time()}
        kept = self.config.keep_texts
        row["answer"] = self._redact(shadow.answer) if kept else ""
        row["candidate_answer"] = self._redact(shadow.candidate_answer) if kept else None
        return row

    def write_thumb(self, thumb: Thumb, *, at: float | None = None) -> None:
        """A user's thumb, redacted, on the disk when this returns."""
        row = {"request": thumb.id[:100], "key": thumb.key, "verdict": thumb.verdict, "at": at or time.time()}
        texts = {"question": thumb.question, "answer": thumb.answer, "correction": thumb.correction}
        with self.database.write() as connection:
            connection.execute(
                THUMBS.insert().values(**row, **{name: self._redact(text) for name, text in texts.items()})
            )

    def write_alert(self, rule: str, message: str, *, at: float | None = None) -> int:
        """An alert; its number."""
        with self.database.write() as connection:
            result = connection.execute(
                ALERTS.insert().values(at=at or time.time(), rule=rule, message=self._redact(message), told=False)
            )
            key: Any = result.inserted_primary_key
            return int(key[0])

    def mark_told(self, alert: int) -> None:
        """The webhook took the alert."""
        with self.database.write() as connection:
            connection.execute(ALERTS.update().where(ALERTS.c.id == alert).values(told=True))

    def write_state(self, values: Mapping[str, Any]) -> None:
        """What the watching process says of itself, in place of what it said before."""
        with self.database.write() as connection:
            for key, value in values.items():
                upsert(connection, STATE, {"key": key, "value": value})

    def state(self) -> dict[str, Any]:
        """What the watching process last said of itself."""
        with self.database.read() as connection:
            return dict(connection.execute(select(STATE.c.key, STATE.c.value)).all())

    def forget_old(self, now: float | None = None) -> int:
        """Delete what is older than `keep_days`, with all that hangs on it; how many requests that were."""
        before = (now or time.time()) - self.config.keep_days * _DAY
        with self.database.write() as connection:
            gone = connection.execute(delete(REQUESTS).where(REQUESTS.c.at < before)).rowcount
            for table in (THUMBS, ALERTS):
                connection.execute(delete(table).where(table.c.at < before))
        return int(gone)

    def count(self) -> int:
        """Requests that are kept."""
        with self.database.read() as connection:
            return int(connection.execute(select(func.count()).select_from(REQUESTS)).scalar() or 0)

    def request(self, id: str) -> Row | None:
        """One request; None where it is not kept."""
        with self.database.read() as connection:
            return connection.execute(select(REQUESTS).where(REQUESTS.c.id == id)).first()

    @contextmanager
    def reading(self) -> Iterator[Connection]:
        """A transaction for questions of other modules."""
        with self.database.read() as connection:
            yield connection

    def shadows(self) -> list[Row]:
        """All shadows, in the order in which they came."""
        with self.database.read() as connection:
            return list(connection.execute(select(SHADOWS).order_by(SHADOWS.c.at, SHADOWS.c.request)))

    def close(self) -> None:
        """Let go of the database."""
        self.database.close()


def question_of(exchange: Exchange) -> tuple[str, list[dict[str, str]]]:
    """The last words of the user, and the turns before them; parts of a message that are no text are left out."""
    turns = [
        {"role": str(turn.get("role", "")), "content": _content(turn.get("content"))} for turn in exchange.messages
    ]
    last = max((place for place, turn in enumerate(turns) if turn["role"] == "user"), default=-1)
    return (turns[last]["content"], turns[:last]) if last >= 0 else ("", turns)


def _content(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list | tuple) else ()
    return "\n".join(str(part["text"]) for part in parts if isinstance(part, Mapping) and "text" in part)
