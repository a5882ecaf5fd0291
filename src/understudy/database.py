"""Databases that rooms keep: SQLite in a file, or PostgreSQL by URL, brought to today's version in one transaction.

Needs `sqlalchemy`; nothing outside the rooms that keep a database imports this.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, MetaData, Table, create_engine, event, inspect, make_url, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError
from sqlalchemy.pool import QueuePool

from understudy.errors import ConfigError, RunError, shortened

_BUSY_SECONDS = 30
_CONNECTIONS = 16
_READS = "only_reads"
_HINT = "sqlite:///FILE or postgresql://USER@HOST/NAME"

DATABASE_FAULTS = SQLAlchemyError
"""What a database raises when it fails."""
Migration = Callable[[Connection], None]


class Database:
    """The engine of a database, made ready.

    Args:
        engine: connected to a database of today's version that belongs to whoever asks.
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

    def close(self) -> None:
        """Let go of all connections."""
        self.engine.dispose()


@contextmanager
def opening(database: Database) -> Iterator[Connection]:
    """The transaction in which a database is made ready; where that fails, its connections are let go.

    Raises:
        RunError: the database cannot be reached or says no.
    """
    try:
        with database.write() as connection:
            yield connection
    except DBAPIError as error:
        database.close()
        reason = str(error.orig).strip().splitlines()[0] if error.orig else type(error).__name__
        raise RunError(
            f"the database cannot be opened: {shortened(reason, 200)}", hint="check --database and that it runs"
        ) from error
    except BaseException:
        database.close()
        raise


def engine_of(url: str, extra: str) -> Engine:
    """An engine that is sure of its commits.

    Args:
        url: `postgresql://user@host/name` or `sqlite:///file.db`.
        extra: of this package, that brings the drivers.

    Raises:
        ConfigError: the URL cannot be read or its driver is not installed.
    """
    try:
        parsed = make_url(url)
        if parsed.drivername in ("postgresql", "postgres"):
            parsed = parsed.set(drivername="postgresql+psycopg")
        backend = parsed.get_backend_name()
        if backend not in ("sqlite", "postgresql"):
            raise ConfigError(f"no database of the kind {backend}", hint=_HINT)
        if backend == "postgresql":
            return create_engine(parsed, pool_size=_CONNECTIONS, pool_pre_ping=True)
        return _sqlite(parsed)
    except ArgumentError as error:
        # The URL may hold a password: it is not repeated.
        raise ConfigError("--database is no URL of a database", hint=_HINT) from error
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the database needs the package {error.name}", hint=f"install understudy-distil[{extra}]"
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
    statement = insert(table).values(row)
    connection.execute(
        statement.on_conflict_do_update(index_elements=key, set_=changed)
        if changed
        else statement.on_conflict_do_nothing(index_elements=key)
    )


def upgrade(connection: Connection, metadata: MetaData, migrations: Sequence[Migration]) -> None:
    """Bring a database to today's version, in the transaction of the connection: all of it or nothing.

    Args:
        connection: in a transaction.
        metadata: of its tables; `meta`, with `key` and `value`, holds the version.
        migrations: all steps from an empty database on.

    Raises:
        RunError: a later release made the database, or it holds tables of something else.
    """
    meta = metadata.tables["meta"]
    version = _version(connection, metadata)
    if version > len(migrations):
        raise RunError(
            f"the database has version {version}, and this release knows {len(migrations)}",
            hint="open it with the release that wrote it, or a later one",
        )
    for step in migrations[version:]:
        step(connection)
    if version < len(migrations):
        connection.execute(meta.delete().where(meta.c.key == "version"))
        connection.execute(meta.insert().values(key="version", value=str(len(migrations))))


def _version(connection: Connection, metadata: MetaData) -> int:
    present, meta = set(inspect(connection).get_table_names()), metadata.tables["meta"]
    if "meta" not in present:
        clash = sorted(present & set(metadata.tables))
        if clash:
            raise RunError(f"the database has a table {clash[0]} of something else", hint="give it one of its own")
        return 0
    value = connection.execute(select(meta.c.value).where(meta.c.key == "version")).scalar()
    return int(value or 0)
