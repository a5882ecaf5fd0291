"""The tables of a monitor's database."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Connection,
    Float,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)

from understudy.database import Migration

METADATA = MetaData()

META = Table("meta", METADATA, Column("key", String(40), primary_key=True), Column("value", Text, nullable=False))

REQUESTS = Table(
    "requests",
    METADATA,
    Column("id", String(100), primary_key=True),
    Column("at", Float, nullable=False),
    Column("endpoint", String(60), nullable=False),
    Column("key", String(100)),
    Column("model", String(200), nullable=False),
    Column("source", String(60), nullable=False),
    Column("question", Text, nullable=False),
    Column("history", JSON, nullable=False),
    Column("context", Text),
    Column("choices", JSON, nullable=False),
    Column("answer", Text),
    Column("student_answer", Text),
    Column("confidence", Float),
    Column("threshold", Float),
    Column("decision", String(20), nullable=False),
    Column("prompt_tokens", Integer, nullable=False),
    Column("completion_tokens", Integer, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("first_seconds", Float),
    Column("streamed", Boolean, nullable=False),
    Column("status", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("refused", Boolean, nullable=False),
    Column("repeated", Float, nullable=False),
    Column("held_out", Boolean, nullable=False),
)
Index("requests_by_time", REQUESTS.c.at)


def _request() -> Column:
    return Column("request", String(100), ForeignKey("requests.id", ondelete="CASCADE"), primary_key=True)


SHADOWS = Table(
    "shadows",
    METADATA,
    _request(),
    Column("at", Float, nullable=False),
    Column("probability", Float, nullable=False),
    Column("teacher", String(200), nullable=False),
    Column("answer", Text, nullable=False),
    Column("agreement", Float, nullable=False),
    Column("current", String(200), nullable=False),
    Column("candidate", String(200), nullable=False),
    Column("candidate_answer", Text),
    Column("candidate_agreement", Float),
)

THUMBS = Table(
    "thumbs",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("request", String(100), nullable=False),
    Column("key", String(100)),
    Column("verdict", String(4), nullable=False),
    Column("question", Text, nullable=False),
    Column("answer", Text, nullable=False),
    Column("correction", Text),
)

ALERTS = Table(
    "alerts",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("at", Float, nullable=False),
    Column("rule", String(60), nullable=False),
    Column("message", Text, nullable=False),
    Column("told", Boolean, nullable=False, default=False),
)

STATE = Table("state", METADATA, Column("key", String(40), primary_key=True), Column("value", JSON, nullable=False))
"""What the watching process last said of itself: intervals, levels of the detectors."""


def _first(connection: Connection) -> None:
    METADATA.create_all(connection)


MIGRATIONS: Sequence[Migration] = (_first,)
"""Step n leads from version n to n + 1. A released step is never edited."""
