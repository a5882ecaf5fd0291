"""Rows out of JSON text – an array, an object of rows, or one value a line – each with its line number.

A row that cannot be read is an item with a fault, and the rows around it are read: a number too long, nesting too deep
or a key that stands twice costs no more than its own row. What breaks the syntax of a whole document costs the file.

Left out on purpose: streaming. A data set for fine-tuning fits into memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from understudy.errors import DataError
from understudy.strict_json import JsonFault, parse_json

_SPACE = re.compile(r"[ \t\r\n]*")
_MARK = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[\[\]{},]', re.DOTALL)
_UNDECODED = re.compile("[\udc80-\udcff]")
_DECODER = json.JSONDecoder()


class Item(NamedTuple):
    """A JSON value with the line it begins on, its key inside an object, and why it could not be read."""

    value: Any
    line: int
    key: str = ""
    fault: str = ""


def from_lines(text: str) -> Iterator[Item]:
    """One JSON value a line; blank lines are passed over, a line that cannot be read is an item with a fault."""
    for number, line in enumerate(text.split("\n"), start=1):
        if reason := undecoded(line):
            yield Item(line, number, fault=reason)
        elif line.strip():
            yield _item(line, number)


def undecoded(text: str) -> str:
    """Why a text is not what its bytes say: they were no UTF-8 (`surrogateescape`); empty where they were."""
    match = _UNDECODED.search(text)
    return f"not UTF-8 at character {match.start() + 1}; if the file has another encoding, convert it" if match else ""


def from_document(text: str, name: str) -> Iterator[Item]:
    """The rows of a JSON file, whatever its layout.

    An array of rows, an object of rows by key (TeleQnA), an object that holds its rows under `data` (SQuAD), a
    single row, or one value a line under the wrong extension (ORAN-Bench).

    Raises:
        DataError: neither one JSON document nor JSON lines; the line is named.
    """
    try:
        value = parse_json(text)
    except JsonFault as fault:
        if not fault.syntax:
            return _piece_by_piece(text, name)
        if not _first_line_is_json(text):
            raise DataError(fault.at(name)) from fault
        return from_lines(text)
    start = _skip(text, 0)
    if isinstance(value, Mapping) and isinstance(value.get("data"), list):
        start = next(place for key, place, _ in _members(text, start, _end_of_sound) if key == "data")
        value = value["data"]
    elif not _is_table(value):
        return iter([Item(value, _line(text, start))])
    places = _with_lines(text, start, _end_of_sound)
    # No key stands twice in what was read whole, so values and places go side by side.
    values = value.values() if isinstance(value, Mapping) else value
    return (Item(row, line, key) for row, (key, line, _) in zip(values, places, strict=True))


def _item(text: str, line: int, key: str = "") -> Item:
    """The value of a text. Questions of an article (SQuAD) are rows of their own, so what is sound of it stays."""
    try:
        return Item(parse_json(text), line, key)
    except JsonFault as fault:
        if '"paragraphs"' in text and not fault.syntax:
            try:
                return Item(parse_json(text, keep_going=True), line, key)
            except JsonFault:
                pass
        return Item(text, line, key, fault.reason)


def _piece_by_piece(text: str, name: str) -> Iterator[Item]:
    """The rows of a document in which something cannot be read, found by its brackets alone."""
    start = _skip(text, 0)
    if _skip(text, _end(text, start, name)) < len(text):
        return from_lines(text)

    def end(text: str, place: int) -> int:
        return _end(text, place, name)

    members = list(_members(text, start, end)) if text[start] in "[{" else []
    rows = sum(text[place] in ("[{" if text[start] == "[" else "{") for _, place, _ in members)
    data = next((place for key, place, _ in members if key == "data" and text[place] == "["), None)
    if data is not None:
        return _rows(text, data, end)
    if members and (rows == len(members) if text[start] == "[" else 2 * rows > len(members)):
        return _rows(text, start, end)
    return iter([_item(text, _line(text, start))])


Ending = Callable[[str, int], int]
"""Where the value ends that begins at a place of a text."""


def _rows(text: str, start: int, end: Ending) -> Iterator[Item]:
    for key, line, (place, after) in _with_lines(text, start, end):
        yield _item(text[place:after], line, key)


def _with_lines(text: str, start: int, end: Ending) -> Iterator[tuple[str, int, tuple[int, int]]]:
    line, counted = _line(text, start), start
    for key, place, after in _members(text, start, end):
        line, counted = line + text.count("\n", counted, place), place
        yield key, line, (place, after)


def _members(text: str, start: int, end: Ending) -> Iterator[tuple[str, int, int]]:
    """Key (empty in an array), first and last place of each member of the array or object that begins at `start`.

    Equal keys of one object all come out: nothing is lost.
    """
    place = _skip(text, start + 1)
    while text[place : place + 1] not in ("]", "}", ""):
        key = ""
        if text[start] == "{":
            after = end(text, place)
            key = _key(text[place:after])
            place = _skip(text, _skip(text, after) + 1)
        after = end(text, place)
        yield key, place, after
        place = _skip(text, after)
        if text[place : place + 1] == ",":
            place = _skip(text, place + 1)


def _key(text: str) -> str:
    try:
        return str(parse_json(text))
    except JsonFault:
        return text.strip('"')


def _end_of_sound(text: str, place: int) -> int:
    return _DECODER.raw_decode(text, place)[1]


def _end(text: str, place: int, name: str) -> int:
    """Where a value ends, by its quotation marks and brackets; whether it can be read does not matter.

    Raises:
        DataError: it does not end, or there is none.
    """
    depth = 0
    for mark in _MARK.finditer(text, place):
        if mark[0] in ("]", "}", ",") and depth == 0:
            if mark.start() == place:
                break
            return mark.start()
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(mark[0], 0)
        if depth == 0 and mark[0] != ",":
            return mark.end()
    if depth == 0 and place < len(text):
        return len(text)
    raise DataError(f"{name}:{_line(text, place)}: not valid JSON: a value that does not end")


def _is_table(value: Any) -> bool:
    if isinstance(value, list):
        return all(isinstance(item, list | Mapping) for item in value)
    # A single row may hold an object in some field, a table holds one under nearly every key.
    return isinstance(value, Mapping) and 2 * sum(isinstance(item, Mapping) for item in value.values()) > len(value)


def _first_line_is_json(text: str) -> bool:
    first = text.lstrip().split("\n", 1)[0]
    try:
        return isinstance(parse_json(first), list | dict)
    except JsonFault as fault:
        return not fault.syntax


def _skip(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    return match.end() if match else place


def _line(text: str, place: int) -> int:
    return text.count("\n", 0, place) + 1
