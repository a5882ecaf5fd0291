"""Records of tables in text: separated by commas, semicolons, tabs or bars, each with its line number.

A quotation mark means two things in the world's tab-separated files: some writers quote as in CSV, others write it as a
character like any other. Here it is a character, except around a cell that could not be read otherwise: one that holds
a tab, a line break or doubled quotation marks, or any cell where the header itself is quoted. A cell that could be
either is read as the certain ones of its file are; where these tell nothing, or not the same, it is a bad row.
"""

from __future__ import annotations

import csv
import io
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from understudy.data.json_rows import Item, undecoded
from understudy.data.rows import Cell
from understudy.errors import DataError, shortened

MAX_COLUMNS = 10_000
"""Most columns of a table; beyond it a file is not what it seems."""
_MAX_LINES_OF_A_CELL = 1_000

_EITHER = "a cell in quotation marks, which may belong to its text or stand around it"
_HINT = "write it as .csv with every such cell quoted, or take the quotation marks out"


def comma_separated(text: str, name: str) -> Iterator[Item]:
    """The records of a CSV file, cut by the first of comma, semicolon, tab and bar that its header holds.

    Raises:
        DataError: the header cannot be read, names a column twice, or has more than `MAX_COLUMNS`.
    """
    header = text.split("\n", 1)[0]
    return _quoted_records(text, next((mark for mark in ",;\t|" if mark in header), ","), name)


def tab_separated(text: str, name: str) -> Iterator[Item]:
    """The records of a TSV file.

    Raises:
        DataError: as `comma_separated`.
    """
    first = text.split("\n", 1)[0]
    if '"' not in text or any(_is_quoted(cell) for cell in first.rstrip("\r").split("\t")):
        return _quoted_records(text, "\t", name)
    return _records_with_quotation_marks(text, name)


def _quoted_records(text: str, delimiter: str, name: str) -> Iterator[Item]:
    """Records that quote as CSV does; one that does not fit its header comes back as text with its fault."""
    csv.field_size_limit(min(sys.maxsize, 2**31 - 1))
    lines, begin = _lines(text), 0
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        header = _checked_header(next(reader, []), name)
    except csv.Error as error:
        raise DataError(f"{name}:1: the header cannot be read: {error}") from error
    while True:
        first = begin + reader.line_num
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            covered = lines[first : begin + reader.line_num]
            if begin + reader.line_num == len(lines) and _are_records(covered[1:], delimiter, len(header)):
                # One mark that nobody closes must not swallow the rest of the file.
                yield Item(covered[0], first + 1, fault="broken record: a quotation mark that is never closed")
                begin = first + 1
                reader = csv.reader(lines[begin:], delimiter=delimiter, strict=True)
            else:
                yield Item("".join(covered), first + 1, fault=f"broken record: {error}")
            continue
        yield from _record(header, cells, lines[first : begin + reader.line_num], first + 1)


def _are_records(lines: Sequence[str], delimiter: str, width: int) -> bool:
    """Whether most of these lines, each by itself, have the cells of a record: rows, then, not text of one cell."""
    sample = [line for line in lines[:1_000] if line.strip()]
    fitting = sum(len(cells) == width for cells in csv.reader(sample, delimiter=delimiter))
    return width > 1 and 2 * fitting > len(sample) > 0


@dataclass(frozen=True, slots=True)
class _Reading:
    """How the lines of one record can be read: as they stand, as CSV quotes, or either way."""

    number: int
    count: int
    cells: list[str]
    way: Literal["plain", "quoted", "either"]


def _records_with_quotation_marks(text: str, name: str) -> Iterator[Item]:
    """Records of a TSV file whose header is not quoted, though some cell may be.

    Where all that is certain in the file is read in one way, so is what could be read either way.
    """
    lines = _lines(text)
    header = _checked_header(_cells(lines[0]), name)
    readings = list(_readings(lines, len(header)))
    ways = {reading.way for reading in readings if '"' in lines[reading.number]}
    if ways == {"quoted", "either"}:
        yield from _quoted_records(text, "\t", name)
        return
    for reading in readings:
        covered = range(reading.number, reading.number + reading.count)
        if reading.way != "either":
            yield from _record(header, reading.cells, lines[covered.start : covered.stop], reading.number + 1)
            continue
        for number in covered:
            if "plain" in ways and "quoted" not in ways:
                yield from _record(header, _cells(lines[number]), [lines[number]], number + 1)
            else:
                yield Item(lines[number], number + 1, fault=f"{_EITHER}; {_HINT}")


def _readings(lines: Sequence[str], width: int) -> Iterator[_Reading]:
    number = 1
    while number < len(lines):
        reading = _reading(lines, number, width)
        yield reading
        number += reading.count


def _reading(lines: Sequence[str], number: int, width: int) -> _Reading:
    cells = _cells(lines[number])
    plain = _Reading(number, 1, cells, "plain")
    if not any(cell.startswith('"') for cell in cells):
        return plain
    quoted, count = _quoted_record(lines, number)
    if quoted is None or len(quoted) != width:
        return plain
    if any(len(_cells(line)) != width for line in lines[number : number + count]):
        return _Reading(number, count, quoted, "quoted")
    certain = count == 1 and _doubles_its_quotation_marks(cells, quoted)
    return _Reading(number, count, quoted, "quoted" if certain else "either")


def _quoted_record(lines: Sequence[str], number: int) -> tuple[list[str] | None, int]:
    """The record that begins with a line, read as CSV quotes, and how many lines it takes; None where it is none."""
    reader = csv.reader(lines[number : number + _MAX_LINES_OF_A_CELL], delimiter="\t", strict=True)
    try:
        return next(reader), reader.line_num
    except (csv.Error, StopIteration):
        return None, 1


def _doubles_its_quotation_marks(cells: Sequence[str], quoted: Sequence[str]) -> bool:
    """Whether each quoted cell of a line holds quotation marks, doubled as only a writer that quotes writes them."""
    pairs = [(cell, text) for cell, text in zip(cells, quoted, strict=True) if cell.startswith('"')]
    return all(cell == '"' + text.replace('"', '""') + '"' and ('"' in text or not text) for cell, text in pairs)


def _record(header: Sequence[str], cells: Sequence[str], lines: Sequence[str], line: int) -> Iterator[Item]:
    if not any(cell.strip() for cell in cells):
        return
    fault = "" if len(cells) == len(header) else f"{len(cells)} cells under a header of {len(header)}"
    if not fault and any("\0" in cell for cell in cells):
        fault = "a NUL in the row, which no text has"
    raw = "".join(lines)
    if fault := fault or undecoded(raw):
        yield Item(raw, line, fault=fault)
    else:
        yield Item(dict(zip(header, map(Cell, cells), strict=True)), line)


def _checked_header(cells: Sequence[str], name: str) -> list[str]:
    header = [cell.strip() for cell in cells]
    if len(header) > MAX_COLUMNS:
        raise DataError(
            f"{name}:1: a header of {len(header):,} columns; a table may have {MAX_COLUMNS:,}",
            hint="check that this is the file you mean, and how its cells are separated",
        )
    if repeated := sorted(column for column, count in Counter(header).items() if count > 1):
        raise DataError(
            f"{name}:1: the column {shortened(repeated[0])!r} stands twice in the header", hint="rename one of them"
        )
    return header


def _lines(text: str) -> list[str]:
    return io.StringIO(text, newline="").readlines()


def _cells(line: str) -> list[str]:
    return line.rstrip("\r\n").split("\t")


def _is_quoted(cell: str) -> bool:
    return len(cell) > 1 and cell[0] == cell[-1] == '"'
