"""A user's own column names: given the names that the formats know, guessed where plain, and back for messages."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from understudy.data.choices import column_label
from understudy.data.formats import FORMATS, Format
from understudy.data.read import Source
from understudy.data.rows import Row
from understudy.errors import DataError, listed, shortened, unknown
from understudy.types import Example

GUESSES: dict[str, tuple[str, ...]] = {
    "question": ("query", "q", "user_input", "user", "instruction", "input", "problem", "utterance", "request"),
    "answer": (
        *("reply", "response", "answer_text", "a", "output", "completion", "target", "solution", "gold", "reference"),
        *("ground_truth", "expected_output", "ideal"),
    ),
    "completion": ("response", "reply", "answer", "output", "target", "chosen"),
    "context": ("input", "passage", "document", "contexts"),
    "session": ("session_id", "sessionid", "basket", "basket_id", "order_id"),
    "item": ("item_id", "itemid", "asin", "product", "product_id", "sku"),
    "bundle": ("bundle_id", "bundleid"),
    "audio": ("file_name", "wav", "recording", "audio_path"),
    "text": ("transcript", "transcription", "sentence", "normalized_text"),
    "title": ("name", "product_name", "item_name", "product_title", "item_title"),
}
"""Our field -> what others call it, the likeliest first; looked at only where a column of our name is absent."""

EXAMPLE = "{question: Frage, answer: Antwort}"
OF_SESSIONS = "{session: basket, item: sku, bundle: set}"
OF_CATALOGUE = "{catalogue: {item: sku, title: name}}"
"""How columns are named, for rows of each kind."""

_IDS = (
    *("item_id", "example_id", "question_id", "doc_id", "row_id", "sample_id", "qid", "uid", "uuid", "guid", "_id"),
    *("key", "index", "idx", "number", "no", "no.", "nr", "nr."),
)


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
        if field not in known and not column_label(field):
            raise unknown("field", field, known, where="data.columns", hint="write {field: your column}")
    present = column_names(source.rows)
    for field, column in columns.items():
        if column not in present:
            raise no_column(source, column, present, f" (data.columns.{field})", _example(columns))
    return renamed(source.rows, columns)


def renamed(rows: Sequence[Row], columns: Mapping[str, str]) -> tuple[Row, ...]:
    """The rows with columns under our names (field -> column)."""
    if not columns:
        return tuple(rows)
    mine = set(columns.values()) | set(columns)
    return tuple(
        replace(
            row,
            value={field: row.value[column] for field, column in columns.items() if column in row.value}
            | {name: value for name, value in row.value.items() if name not in mine},
        )
        if isinstance(row.value, Mapping)
        else row
        for row in rows
    )


def guessed(rows: Sequence[Row], form: Format, labelled: bool) -> dict[str, str]:
    """Field -> column for each field that a format needs and the rows have under another of its names.

    Empty where any of them cannot be guessed, so that the error names what is there.
    """
    present = {_plain(name): name for name in column_names(rows)}
    guesses: dict[str, str] = {}
    for need in (*form.needs, *(form.answer if labelled else ())):
        names = need.split("|")
        if any(_plain(name) in present for name in names):
            continue
        column = _guess(names[0], present, guesses.values())
        if column is None:
            return {}
        guesses[names[0]] = column
    # Instruction, input and output: what stands beside an instruction is what it is about.
    if _plain(guesses.get("question", "")) == "instruction" and "context" not in present:
        context = _guess("context", present, guesses.values())
        guesses |= {"context": context} if context else {}
    return guesses


def guess(field: str, names: Iterable[str]) -> str | None:
    """The column among these that is plainly meant by a field of ours; None where there is none."""
    return _guess(field, {_plain(name): name for name in names}, ())


def _guess(field: str, present: Mapping[str, str], taken: Iterable[str]) -> str | None:
    return next((present[n] for n in GUESSES.get(field, ()) if n in present and present[n] not in set(taken)), None)


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def column_notes(
    rows: Sequence[Row], examples: Sequence[Example], guesses: Mapping[str, str], columns: Mapping[str, str]
) -> dict[str, str]:
    """What became of the columns of a source, in words: guessed, kept in `meta`, and what ids were made of."""
    notes: dict[str, str] = {}
    if guesses:
        notes["columns_guessed"] = ", ".join(f"{column} as {field}" for field, column in guesses.items())
    kept = {name for example in examples for name in example.meta}
    in_meta = [columns.get(name, name) for name in column_names(rows) if name in kept]
    if in_meta:
        notes["columns_kept_in_meta"] = listed(in_meta, most=20)
    places = {row.id for row in rows}
    if in_meta and all(example.id in places for example in examples):
        instead = next((name for name in in_meta if _plain(name) in _IDS), None)
        hint = f"; data.columns={{id: {instead}}} takes those of {instead}, which went into meta"
        notes["ids"] = f"made of file and row{hint if instead else ''}"
    return notes


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
            raise no_column(source, need.split("|")[0], column_names(source.rows), example=_example(form.fields))


def own_name(field: str, row: Row, columns: Mapping[str, str]) -> str:
    """The field under the name that stands in the user's file."""
    if field in columns:
        return columns[field]
    names = row.value if isinstance(row.value, Mapping) else ()
    return next((str(name) for name in names if str(name).strip().lower() == field.lower()), field)


def column_names(rows: Sequence[Row]) -> list[str]:
    """Every column that some row has, in the order in which they appear."""
    return list(dict.fromkeys(str(name) for row in rows if isinstance(row.value, Mapping) for name in row.value))


def _example(fields: Iterable[str]) -> str:
    return OF_SESSIONS if {"session", "item", "items", "bundle"} & {field.lower() for field in fields} else EXAMPLE


def cannot_tell(source: Source, names: Sequence[str]) -> DataError:
    """The error of rows whose layout is not plain."""
    return DataError(
        f"cannot tell the format of {source.name}; it has: {listed(names) if names else 'no named columns'}",
        hint=f"name your own columns in data.columns, as in {_example(names)}, or set data.format",
    )


def no_column(
    source: Source, column: str, present: Sequence[str], where: str = "", example: str = EXAMPLE
) -> DataError:
    """The error of a column that a source lacks."""
    return DataError(
        f"{source.name} has no column {shortened(column)!r}{where}; it has: {listed(present)}",
        hint=f"name your own columns in data.columns, for example {example}",
    )
