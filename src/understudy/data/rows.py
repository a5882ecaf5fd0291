"""A row as it was read, and the ways to take a field out of it or to say what is wrong with it."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from understudy.strict_json import JsonFault, parse_json, unreadable_in


class Cell(str):
    """Text of a table that has nothing but text (CSV, TSV), where a list can only be written as JSON.

    Other formats tell a text from a list themselves: there `"[0, 1]"` is a text that looks like a list.
    """

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Row:
    """One raw row with the place it came from.

    Attributes:
        value: what stands there: a mapping, a list, or the raw text of a line that could not be read.
        where: file and line (or row number), as an error names them: `train.csv:17`.
        id: the id that the row gets where it brings none: file stem and row number.
        key: the row's key, where the file is one JSON object of rows (`question 12`).
        fault: why the row could not even be read; empty for a sound row.
        notes: blemishes that were looked past, as the data set's notes count them.
    """

    value: Any
    where: str
    id: str
    key: str = ""
    fault: str = ""
    notes: list[str] = field(default_factory=list, compare=False)

    def note(self, blemish: str) -> None:
        """Count a blemish of the row whose meaning is plain all the same."""
        self.notes.append(blemish)


class BadRow(Exception):
    """A row that cannot become an example: the field, and what is wrong with it."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


def missing(value: Any) -> bool:
    """Whether a cell holds nothing: None, blank text, or the NaN that a table puts into an empty cell."""
    if isinstance(value, float):
        return math.isnan(value)
    return value is None or (isinstance(value, str) and not value.strip())


def as_text(value: Any, field: str) -> str:
    """A cell as text without outer white space; numbers are written out.

    Raises:
        BadRow: the cell is empty, no text, an infinite number, or text with a NUL or that is not valid Unicode.
    """
    if missing(value):
        raise BadRow(field, "empty")
    if not isinstance(value, str) and (reason := unreadable_in(value)):
        raise BadRow(field, reason)
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise BadRow(field, f"expected text, found {_kind(value)}")
    if isinstance(value, float) and math.isinf(value):
        raise BadRow(field, "an infinite number")
    text = str(value).strip()
    if "\0" in text:
        raise BadRow(field, f"a NUL at character {text.index(chr(0)) + 1}")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadRow(field, f"not valid Unicode (lone surrogate at character {error.start + 1})") from error
    return text


def present(fields: Mapping[str, Any], field: str, name: str = "") -> Any:
    """What stands in a field that must be there, and be filled.

    Args:
        fields: the row's, or those of a part of it.
        field: which of them.
        name: what messages call it, where that is more than `field`.

    Raises:
        BadRow: the field is absent, or empty.
    """
    if missing(fields.get(field)):
        raise BadRow(name or field, "empty" if field in fields else "absent")
    return fields[field]


def required(fields: Mapping[str, Any], field: str) -> str:
    """The text of a field that must be there.

    Raises:
        BadRow: the field is absent, empty or no text.
    """
    return as_text(present(fields, field), field)


def optional(fields: Mapping[str, Any], field: str) -> str | None:
    """The text of a field that may be absent or empty.

    Raises:
        BadRow: the field is there, but no text.
    """
    value = fields.get(field)
    return None if missing(value) else as_text(value, field)


def as_answers(row: Row, value: Any, field: str) -> tuple[str, ...]:
    """Right answers, read like `as_texts`; empty ones behind a good first are left out and counted.

    Raises:
        BadRow: the first is empty, or one is no text.
    """
    value = _list_of_texts(value, field)
    if not isinstance(value, list) or not value:
        return as_texts(value, field)
    kept = [value[0], *(item for item in value[1:] if not missing(item))]
    if len(kept) < len(value):
        row.note("further answers that were empty")
    return as_texts(kept, field)


def as_texts(value: Any, field: str) -> tuple[str, ...]:
    """Several texts: a list, a `{"text": […]}` mapping, a single text, or any of these as JSON in a `Cell`.

    JSON is looked for only in fields named in the plural: an `answer` may well be the text `["a", "b"]`.

    Raises:
        BadRow: an item is empty or no text; it is named by its place, counted from 0.
    """
    value = _list_of_texts(value, field)
    if not isinstance(value, list):
        return (as_text(value, field),)
    return tuple(as_text(item, f"{field}[{place}]") for place, item in enumerate(value))


def _list_of_texts(value: Any, field: str) -> Any:
    """The list that stands in a field, its items still unread; anything else as it is.

    Raises:
        BadRow: an object among the items has no `text`.
    """
    if field.endswith("s"):
        value = unpack(value, field)
    if isinstance(value, Mapping) and "text" in value:
        value = value["text"]
    if not isinstance(value, list | tuple):
        return value
    for place, item in enumerate(value):
        if isinstance(item, Mapping) and "text" not in item:
            raise BadRow(f"{field}[{place}].text", "absent")
    return [item["text"] if isinstance(item, Mapping) else item for item in value]


def unpack(value: Any, field: str, *, never_text: bool = False) -> Any:
    """A list of texts or objects, or an object, that a table keeps as JSON in a cell; anything else as it is.

    Args:
        value: what stands in the field.
        field: its name, for the error.
        never_text: whether a text would make no sense in this field (messages, choices), so that one which looks like
            a list is a list in every format, not in a `Cell` alone.

    Raises:
        BadRow: the cell begins like such JSON, but cannot be read as such.
    """
    if not isinstance(value, str if never_text else Cell) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        parsed = parse_json(value)
    except JsonFault as fault:
        if value.lstrip().startswith(("[{", '["', '{"')) or not fault.syntax:
            raise BadRow(field, fault.reason) from fault
        return value
    texts = isinstance(parsed, list) and all(isinstance(item, str | Mapping) for item in parsed)
    return parsed if texts or isinstance(parsed, Mapping) else value


def as_mapping(row: Row) -> Mapping[str, Any]:
    """The row's fields.

    Raises:
        BadRow: the row is no mapping.
    """
    if not isinstance(row.value, Mapping):
        raise BadRow("", f"expected an object of fields, found {_kind(row.value)}")
    return row.value


def lowered(row: Row) -> dict[str, Any]:
    """The fields under lower-case names, so that a table may write `Question`; an exact name wins."""
    fields = as_mapping(row)
    exact = {str(name): value for name, value in fields.items()}
    return {**{name.strip().lower(): value for name, value in exact.items()}, **exact}


def row_id(fields: Mapping[str, Any], row: Row) -> str:
    """The row's own id, or the one made from file and row number."""
    return optional(fields, "id") or row.id


def rationale_texts(fields: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    """The explanations in these fields, empty ones left out."""
    return tuple(text for name in names if not missing(fields.get(name)) for text in as_texts(fields[name], name))


def leftovers(fields: Mapping[str, Any], used: frozenset[str] | set[str]) -> dict[str, Any]:
    """Every non-empty field that no one has used, JSON-able, for `Example.meta`."""
    return {
        name: jsonable(value)
        for name, value in fields.items()
        if name and name.lower() not in used and not missing(value)
    }


def jsonable(value: Any) -> Any:
    """The value with dates, bytes, decimals and the like written as text; of an opened picture a digest."""
    if hasattr(value, "tobytes") and hasattr(value, "convert"):  # Its text would name a place in memory.
        return f"picture {hashlib.sha256(value.convert('RGBA').tobytes()).hexdigest()[:16]}"
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [jsonable(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Cell):
        return str(value)
    return value if value is None or isinstance(value, str | int | float | bool) else str(value)


def dump_raw(value: Any) -> str:
    """A raw row as one line of JSON that any reader can open, lone surrogates escaped."""
    text = json.dumps(jsonable(value), ensure_ascii=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(jsonable(value))
    return text


def _kind(value: Any) -> str:
    if isinstance(value, Mapping):
        return "an object"
    if isinstance(value, list | tuple):
        return "a list"
    return "a truth value" if isinstance(value, bool) else "text" if isinstance(value, str) else type(value).__name__
