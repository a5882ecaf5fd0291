"""The tables of a study's database, and the steps by which an older database becomes one of today."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

from understudy import database as databases
from understudy.database import Migration
from understudy.study.config import HIGHEST, LOWEST

METADATA = MetaData()


def _rater() -> Column:
    return Column("rater", Integer, ForeignKey("raters.id", ondelete="CASCADE"), nullable=False)


def _of_page(*columns: Column) -> tuple[Column, ...]:
    """What every page with an item stores; `seconds` is empty where a clock went backwards."""
    return (
        *columns,
        Column("position", Integer, nullable=False),
        Column("seconds", Float),
        Column("comment", Text, nullable=False, default=""),
        Column("answered", Float, nullable=False),
    )


META = Table("meta", METADATA, Column("key", String(40), primary_key=True), Column("value", Text, nullable=False))

RATERS = Table(
    "raters",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("slot", Integer, nullable=False),
    Column("holds", Boolean, nullable=False, default=True),
    Column("status", String(20), nullable=False, default="invited"),
    Column("page", Integer, nullable=False, default=0),
    Column("language", String(5), nullable=False),
    Column("consent", String(40), nullable=False, default=""),
    Column("tries", Integer, nullable=False, default=0),
    Column("created", Float, nullable=False),
    Column("started", Float),
    Column("seen", Float),
    Column("finished", Float),
    Column("code", String(80), nullable=False, default=""),
    Column("comment", Text, nullable=False, default=""),
    Column("panel_id", String(200), unique=True),
    Column("panel", JSON, nullable=False),
    Column("about", JSON, nullable=False),
    Column("excluded", Boolean, nullable=False, default=False),
    Column("reason", Text, nullable=False, default=""),
    sqlite_autoincrement=True,
)
# Whoever has left a slot keeps the number of it; one rater at most holds it.
Index("one_holder", RATERS.c.slot, unique=True, sqlite_where=RATERS.c.holds, postgresql_where=RATERS.c.holds)

LINKS = Table(
    "links",
    METADATA,
    Column("hash", String(64), primary_key=True),
    _rater(),
    Column("expires", Float, nullable=False),
    Column("first_page", Integer, nullable=False, default=0),
)

VISITS = Table(
    "visits",
    METADATA,
    *_of_page(_rater(), Column("item", Text, nullable=False), Column("method", Text, nullable=False)),
    PrimaryKeyConstraint("rater", "item"),
)

RATINGS = Table(
    "ratings",
    METADATA,
    _rater(),
    Column("item", Text, nullable=False),
    Column("construct", String(40), nullable=False),
    Column("rating", Integer, CheckConstraint(f"rating BETWEEN {LOWEST} AND {HIGHEST}"), nullable=False),
    PrimaryKeyConstraint("rater", "item", "construct"),
)

PAIRS = Table(
    "pairs",
    METADATA,
    *_of_page(
        _rater(),
        Column("item", Text, nullable=False),
        Column("first", Text, nullable=False),
        Column("second", Text, nullable=False),
        Column("preferred", Text, nullable=False),
    ),
    PrimaryKeyConstraint("rater", "item"),
)

SIMULATIONS = Table(
    "simulations",
    METADATA,
    *_of_page(
        _rater(),
        Column("item", Text, nullable=False),
        Column("method", Text, nullable=False),
        Column("predicted", Text, nullable=False),
        Column("correct", Boolean),
    ),
    PrimaryKeyConstraint("rater", "item"),
)

ATTENTION = Table(
    "attention",
    METADATA,
    _rater(),
    Column("number", Integer, nullable=False),
    Column("wanted", Integer, nullable=False),
    Column("given", JSON, nullable=False),
    Column("passed", Boolean, nullable=False),
    PrimaryKeyConstraint("rater", "number"),
)

EVENTS = Table(
    "events",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("what", String(40), nullable=False),
    Column("detail", Text, nullable=False, default=""),
)

OF_RATER = (LINKS, VISITS, RATINGS, PAIRS, SIMULATIONS, ATTENTION)
"""Tables with rows of one rater, all of which go when the rater is forgotten."""


def _first(connection: Connection) -> None:
    METADATA.create_all(connection)


MIGRATIONS: Sequence[Migration] = (_first,)
"""Step n leads from version n to n + 1. A released step is never edited: a change of the tables is a further one,
and the first one then gets a copy of the tables as they are now."""


def upgrade(connection: Connection, migrations: Sequence[Migration] = MIGRATIONS) -> None:
    """Bring a study's database to today's version; see `understudy.database.upgrade`."""
    databases.upgrade(connection, METADATA, migrations)
