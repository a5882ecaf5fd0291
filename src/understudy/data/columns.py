"""A user's own column names: given the names that the formats know, and back again for messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from understudy.data.formats import FORMATS, Format
from understudy.data.read import Source
from understudy.data.rows import Row
from understudy.errors import DataError, unknown


def rename(source: Source, columns: Mapping[str, str]) -> tuple[Row, ...]:
    """Give the user's own columns the names that the formats know.

    Raises:
        ConfigError: `columns` names a field that no format has.
        DataError: the source lacks one of the columns.
    """
    if not columns:
        return source.rows
    known = sorted({field for form in FORMATS.values() for field in form.fields})
    for field in columns:
        if field not in known:
            raise unknown("field", field, known, where="data.columns", hint="write {field: your column}")
    present = column_names(source.rows)
    for field, column in columns.items():
        if column not in present:
            raise no_column(source, column, present, f" (data.columns.{field})")
    mine = set(columns.values()) | set(columns)
    return tuple(
        replace(
            row,
            value={field: row.value[column] for field, column in columns.items() if column in row.value}
            | {name: value for name, value in row.value.items() if name not in mine},
        )
        if isinstance(row.value, Mapping)
        else row
        for row in source.rows
    )


def check_columns(
    source: Source, rows: Sequence[Row], form: Format, columns: Mapping[str, str], labelled: bool
) -> None:
    """Name a column that no row has once, instead of calling every row bad.

    Raises:
        DataError: no row has a column that the format needs.
    """
    present = column_names(rows)
    if not present or "paragraphs" in present:
        return
    lowered = {name.strip().lower() for name in present}
    for need in (*form.needs, *(form.answer if labelled else ())):
        if not any(field.lower() in lowered for field in need.split("|")):
            raise no_column(source, need.split("|")[0], column_names(source.rows))


def own_name(field: str, row: Row, columns: Mapping[str, str]) -> str:
    """The field under the name that stands in the user's file."""
    if field in columns:
        return columns[field]
    names = row.value if isinstance(row.value, Mapping) else ()
    return next((str(name) for name in names if str(name).strip().lower() == field.lower()), field)


def column_names(rows: Sequence[Row]) -> list[str]:
    """Every column that some row has, in the order in which they appear."""
    return list(dict.fromkeys(str(name) for row in rows if isinstance(row.value, Mapping) for name in row.value))


def no_column(source: Source, column: str, present: Sequence[str], where: str = "") -> DataError:
    """The error of a column that a source lacks."""
    names = ", ".join(name for name in present if name) or "none"
    return DataError(
        f"{source.name} has no column {column!r}{where}; it has: {names}",
        hint="name your own columns in data.columns, for example {question: Query, answer: Reply}",
    )
