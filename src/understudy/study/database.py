"""One database a study: SQLite beside it, or PostgreSQL by URL."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Table, create_engine, event, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from understudy.errors import ConfigError, RunError, shortened
from understudy.study.folder import Study
from understudy.study.tables import EVENTS, META, RATERS, upgrade

_BUSY_SECONDS = 30
_CONNECTIONS = 16
_READS = "only_reads"


class Database:
    """The engine of a study's database, made ready.

    Args:
        engine: connected to a database of today's version that belongs to the study.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """A transaction that is on the disk when the block is left; an exception leaves nothing of it."""
        with self.engine.begin() as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A transaction that sees one state and writes nothing."""
        with self.engine.connect().execution_options(**{_READS: True}) as connection:
            yield connection

    def meta(self, key: str) -> str | None:
        """A value that belongs to the whole study; None where there is none."""
        with self.read() as connection:
            return connection.execute(select(META.c.value).where(META.c.key == key)).scalar()

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


def open_database(study: Study, url: str | None = None) -> Database:
    """The database of a study, made or brought to today's version.

    Args:
        study: whose answers it holds.
        url: `postgresql://user@host/name` or `sqlite:///file.db`; None: the file beside the study.

    Raises:
        ConfigError: the URL cannot be read or its driver is not installed.
        RunError: the database cannot be reached, belongs to another study, or to this one before it was changed.
    """
    database = Database(_engine(url or study.database_url))
    try:
        with database.write() as connection:
            upgrade(connection)
            _claim(connection, study)
    except DBAPIError as error:
        database.close()
        reason = str(error.orig).strip().splitlines()[0] if error.orig else type(error).__name__
        raise RunError(
            f"the database cannot be opened: {shortened(reason, 200)}", hint="check --database and that it runs"
        ) from error
    except BaseException:
        database.close()
        raise
    return database


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        backend = parsed.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise ConfigError(
                f"no database of the kind {backend}", hint="sqlite:///FILE or postgresql://USER@HOST/NAME"
            )
        if backend == "postgresql":
            return create_engine(parsed, pool_size=_CONNECTIONS, pool_pre_ping=True)
        return _sqlite(parsed)
    except ArgumentError as error:
        # The URL may hold a password: it is not repeated.
        raise ConfigError(
            "--database is no URL of a database", hint="sqlite:///FILE or postgresql://USER@HOST/NAME"
        ) from error
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the database needs the package {error.name}", hint="install understudy-distil[study]"
        ) from error


def _sqlite(url: Any) -> Engine:
    arguments = {"timeout": _BUSY_SECONDS, "check_same_thread": False}
    engine = create_engine(url, connect_args=arguments, poolclass=QueuePool, pool_size=_CONNECTIONS)
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "begin", _begin)
    return engine


def _prepare(connection: Any, _record: Any) -> None:
    """Readers beside one writer, every commit on the disk, and nothing left of what was deleted."""
    connection.isolation_level = None
    for setting in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=ON"):
        connection.execute(f"PRAGMA {setting}")


def _begin(connection: Connection) -> None:
    """A writer takes the lock at once: two that read first and write later could not both go on."""
    reads = connection.get_execution_options().get(_READS, False)
    connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")


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


def upsert(connection: Connection, table: Table, row: dict[str, Any], *, keep: tuple[str, ...] = ()) -> None:
    """Insert a row, or bring the one of the same primary key up to it.

    Args:
        connection: in a transaction.
        table: where it goes.
        row: column -> value.
        keep: columns that stay as they were first written.
    """
    insert: Callable[[Table], Any] = sqlite.insert if connection.dialect.name == "sqlite" else postgresql.insert
    key = [column.name for column in table.primary_key]
    changed = {name: value for name, value in row.items() if name not in (*key, *keep)}
    connection.execute(insert(table).values(row).on_conflict_do_update(index_elements=key, set_=changed))


def note_event(connection: Connection, at: float, what: str, detail: str = "") -> None:
    """Write down something that whoever runs the study did; nothing in it tells of a forgotten rater."""
    connection.execute(EVENTS.insert().values(at=at, what=what, detail=detail))


DATABASE_FAULTS = SQLAlchemyError
"""What a database raises when it fails."""
