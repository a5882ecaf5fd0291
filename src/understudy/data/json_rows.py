"""Rows out of JSON text – an array, an object of rows, or one value a line – each with its line number.

Left out on purpose: streaming. A data set for fine-tuning fits into memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from understudy.errors import DataError

_SPACE = re.compile(r"[ \t\r\n]*")
_DECODER = json.JSONDecoder()


class Item(NamedTuple):
    """A JSON value with the line it begins on, its key inside an object, and why it could not be read."""

    value: Any
    line: int
    key: str = ""
    fault: str = ""


def from_lines(text: str) -> Iterator[Item]:
    """One JSON value a line; blank lines are passed over, a line that is no JSON is an item with a fault."""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield Item(json.loads(line), number)
        except json.JSONDecodeError as error:
            yield Item(line, number, fault=f"not valid JSON: {error.msg}")


def from_document(text: str, name: str) -> Iterator[Item]:
    """The rows of a JSON file, whatever its layout.

    An array of rows, an object of rows by key (TeleQnA), an object that holds its rows under `data` (SQuAD), a
    single row, or one value a line under the wrong extension (ORAN-Bench).

    Raises:
        DataError: neither one JSON document nor JSON lines; the line is named.
    """
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        if not _first_line_is_json(text):
            raise DataError(f"{name}:{error.lineno}: not valid JSON: {error.msg}") from error
        return from_lines(text)
    start = _skip(text, 0)
    if isinstance(value, Mapping) and isinstance(value.get("data"), list):
        start = next(place for key, _, place in _members(text, start) if key == "data")
    elif not _is_table(value):
        return iter([Item(value, _line(text, start))])
    return _items(text, start)


def _items(text: str, start: int) -> Iterator[Item]:
    line, counted = _line(text, start), start
    for key, value, place in _members(text, start):
        line, counted = line + text.count("\n", counted, place), place
        yield Item(value, line, key)


def _members(text: str, start: int) -> Iterator[tuple[str, Any, int]]:
    """Key (empty in an array), value and position of each member of the array or object that begins at `start`.

    The text is known to be valid JSON. Equal keys of one object all come out: nothing is lost.
    """
    place = _skip(text, start + 1)
    while text[place] not in "]}":
        key = ""
        if text[start] == "{":
            key, place = _DECODER.raw_decode(text, place)
            place = _skip(text, _skip(text, place) + 1)
        value, end = _DECODER.raw_decode(text, place)
        yield key, value, place
        place = _skip(text, end)
        if text[place] == ",":
            place = _skip(text, place + 1)


def _is_table(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, list | Mapping) for item in value)
    # A single row may hold an object in some field, a table holds one under nearly every key.
    return isinstance(value, Mapping) and 2 * sum(isinstance(item, Mapping) for item in value.values()) > len(value)


def _first_line_is_json(text: str) -> bool:
    first = text.lstrip().split("\n", 1)[0]
    try:
        return isinstance(json.loads(first), list | dict)
    except json.JSONDecodeError:
        return False


def _skip(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
