"""One database a study: SQLite beside it, or PostgreSQL by URL."""

from __future__ import annotations

import secrets

from sqlalchemy import Connection, select

from understudy import database as databases
from understudy.database import DATABASE_FAULTS, engine_of, opening, upsert
from understudy.errors import RunError
from understudy.study.folder import Study
from understudy.study.tables import EVENTS, META, RATERS, upgrade

__all__ = ["DATABASE_FAULTS", "Database", "note_event", "open_database", "upsert"]


class Database(databases.Database):
    """The engine of a study's database, made ready."""

    def meta(self, key: str) -> str | None:
        """A value that belongs to the whole study; None where there is none."""
        with self.read() as connection:
            return connection.execute(select(META.c.value).where(META.c.key == key)).scalar()


def open_database(study: Study, url: str | None = None) -> Database:
    """The database of a study, made or brought to today's version.

    Args:
        study: whose answers it holds.
        url: `postgresql://user@host/name` or `sqlite:///file.db`; None: the file beside the study.

    Raises:
        ConfigError: the URL cannot be read or its driver is not installed.
        RunError: the database cannot be reached, belongs to another study, or to this one before it was changed.
    """
    database = Database(engine_of(url or study.database_url, "study"))
    with opening(database) as connection:
        upgrade(connection)
        _claim(connection, study)
    return database


def _claim(connection: Connection, study: Study) -> None:
    """Write down whose database it is, or compare."""
    known = dict(connection.execute(select(META.c.key, META.c.value)).all())
    if "study" not in known:
        values = {"study": study.config.id, "design": study.design(), "secret": secrets.token_hex(32), "paused": ""}
        connection.execute(META.insert(), [{"key": key, "value": value} for key, value in values.items()])
        return
    if known["study"] != study.config.id:
        raise RunError(
            "the database belongs to another study", hint="give each study a database of its own with --database"
        )
    if known["design"] != study.design():
        _redesign(connection, study)


def _redesign(connection: Connection, study: Study) -> None:
    if connection.execute(select(RATERS.c.id).where(RATERS.c.page > 0).limit(1)).first():
        raise RunError(
            f"{study.folder}: items, places or questions were changed after the first rater came",
            hint="put the files back as they were, or create a new study",
        )
    connection.execute(META.update().where(META.c.key == "design").values(value=study.design()))


def note_event(connection: Connection, at: float, what: str, detail: str = "") -> None:
    """Write down something that whoever runs the study did; nothing in it tells of a forgotten rater."""
    connection.execute(EVENTS.insert().values(at=at, what=what, detail=detail))
