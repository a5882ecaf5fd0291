"""What raters said, read from an export of ours or from a table of any other tool.

| file           | a row is            | columns that are needed                               |
|----------------|---------------------|-------------------------------------------------------|
| ratings        | one rating          | rater, item, method, construct, rating                |
| pairs          | one preference      | rater, item, first, second, preferred                 |
| simulation     | one guess           | rater, item, method, correct                          |
| raters         | one person          | rater                                                 |

CSV, TSV, JSON, JSONL and Parquet are read alike; further columns may be there.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from understudy.data.columns import renamed
from understudy.data.read import read_source
from understudy.errors import DataError, listed

QUALITY = "quality"
"""The mean of all constructs."""
FORESIGHT = "foresight"
"""Whether a rater foresaw the model's answer, 0 or 1."""
SUFFIXES = (".csv", ".parquet", ".tsv", ".jsonl", ".json")
_ESCAPED = ("'=", "'+", "'-", "'@")
_NAN = float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Ratings:
    """Ratings by explanation: row i is one explanation before one rater.

    Attributes:
        rater: `[n]` who rated.
        item: `[n]` which item.
        method: `[n]` whose explanation.
        constructs: names of the columns of `values`.
        values: `[n, C]` ratings; NaN where a construct was left open.
        position: `[n]` place among the rater's explanations; NaN where not known.
        seconds: `[n]` time on the page; NaN where not known.
        length: `[n]` of the explanation, in characters; NaN where not known.
    """

    rater: np.ndarray
    item: np.ndarray
    method: np.ndarray
    constructs: tuple[str, ...]
    values: np.ndarray
    position: np.ndarray
    seconds: np.ndarray
    length: np.ndarray

    def __len__(self) -> int:
        return len(self.rater)

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, sorted."""
        return tuple(sorted(set(self.method.tolist())))

    @property
    def num_raters(self) -> int:
        """How many people rated."""
        return len(set(self.rater.tolist()))

    def of(self, construct: str) -> np.ndarray:
        """`[n]` ratings of a construct; of `quality` the mean over the constructs of a row, where all are there."""
        if construct == QUALITY and QUALITY not in self.constructs:
            return self.values.mean(axis=1)
        return self.values[:, self.constructs.index(construct)]

    @property
    def outcomes(self) -> tuple[str, ...]:
        """The constructs, and quality where there are several."""
        several = len(self.constructs) > 1 and QUALITY not in self.constructs
        return (*self.constructs, QUALITY) if several else self.constructs

    def where(self, chosen: np.ndarray) -> Ratings:
        """The rows that a mask chooses."""
        columns = ("rater", "item", "method", "values", "position", "seconds", "length")
        return replace(self, **{name: getattr(self, name)[chosen] for name in columns})


@dataclass(frozen=True, slots=True)
class Preference:
    """One choice between two explanations of an item.

    Attributes:
        rater: who chose.
        item: of which item.
        first: the method that stood first.
        second: the other.
        outcome: 1 where the first was preferred, 0 where the second, ½ a tie.
        position: place among the rater's pairs; NaN where not known.
    """

    rater: str
    item: str
    first: str
    second: str
    outcome: float
    position: float


def read_ratings(path: Path, columns: Mapping[str, str] | None = None) -> Ratings:
    """Read ratings, one construct a row.

    Args:
        path: the table.
        columns: field -> column, where a table of another tool names them otherwise.

    Raises:
        DataError: a column is absent, a rating is no number, or a rater rated one thing twice.
    """
    rows = read_table(path, ("rater", "item", "method", "construct", "rating"), columns)
    cells: dict[tuple[str, str, str], dict[str, float]] = {}
    first_rows: dict[tuple[str, str, str], Mapping[str, Any]] = {}
    for line, row in rows:
        rating = _number(row["rating"], f"{path.name}, row {line}: rating")
        if math.isnan(rating):
            continue
        key = (_text(row["rater"]), _text(row["item"]), _text(row["method"]))
        construct = _text(row["construct"])
        if construct in cells.setdefault(key, {}):
            raise DataError(
                f"{path.name}, row {line}: {key[0]} rated {construct} of {key[1]} ({key[2]}) twice",
                hint="keep one rating of each construct a rater, item and method",
            )
        cells[key][construct] = rating
        first_rows.setdefault(key, row)
    return _table(cells, first_rows, path)


def _table(
    cells: Mapping[tuple[str, str, str], Mapping[str, float]],
    rows: Mapping[tuple[str, str, str], Mapping[str, Any]],
    path: Path,
) -> Ratings:
    if not cells:
        raise DataError(f"{path} holds no rating", hint="export the study again once somebody has rated")
    constructs = tuple(dict.fromkeys(name for row in cells.values() for name in row))
    values = np.array([[row.get(name, _NAN) for name in constructs] for row in cells.values()])
    rater, item, method = (np.array([key[place] for key in cells], dtype=object) for place in range(3))
    extras = [
        np.array([_number(row.get(name), f"{path.name}: {name}") for row in rows.values()])
        for name in ("position", "seconds", "length")
    ]
    return Ratings(rater, item, method, constructs, values, *extras)


def read_foresight(path: Path) -> Ratings:
    """Read forward simulation: whether raters foresaw the model's answer, as ratings of 0 and 1.

    Raises:
        DataError: a column is absent or has a word that is neither yes nor no.
    """
    rows = read_table(path, ("rater", "item", "method", "correct"))
    found = {}
    first_rows = {}
    for line, row in rows:
        right = _truth(row["correct"], f"{path.name}, row {line}: correct")
        if right is not None:
            key = (_text(row["rater"]), _text(row["item"]), _text(row["method"]))
            found[key], first_rows[key] = {FORESIGHT: float(right)}, row
    return _table(found, first_rows, path)


def read_preferences(path: Path) -> tuple[Preference, ...]:
    """Read preferences; `preferred` names a method, or says first, second or tie.

    Raises:
        DataError: a column is absent, or a preference is for neither of the two.
    """
    found = []
    for line, row in read_table(path, ("rater", "item", "first", "second", "preferred")):
        first, second, preferred = (_text(row[name]) for name in ("first", "second", "preferred"))
        outcomes = {first: 1.0, "first": 1.0, second: 0.0, "second": 0.0, "tie": 0.5}
        if preferred not in outcomes or first == second:
            raise DataError(
                f"{path.name}, row {line}: preferred is {preferred!r}, and {first!r} and {second!r} were shown",
                hint="a method's name, first, second or tie",
            )
        position = _number(row.get("position"), f"{path.name}, row {line}: position")
        found.append(Preference(_text(row["rater"]), _text(row["item"]), first, second, outcomes[preferred], position))
    if not found:
        raise DataError(f"{path} holds no preference", hint="export the study again once somebody has chosen")
    return tuple(found)


def read_table(
    path: Path, needed: Sequence[str], columns: Mapping[str, str] | None = None
) -> list[tuple[int, Mapping[str, Any]]]:
    """Rows of a table with their numbers, from 1.

    Raises:
        DataError: the file cannot be read, a row is damaged, or a column is absent.
    """
    rows = renamed(read_source(str(path)).rows, columns or {})
    for row in rows:
        if row.fault or not isinstance(row.value, Mapping):
            raise DataError(f"{row.where}: {row.fault or 'no row of a table'}", hint="mend the row, or leave it out")
    present = dict.fromkeys(name for row in rows for name in row.value)
    missing = [name for name in needed if name not in present]
    if missing:
        raise DataError(
            f"{path} has no column {listed(missing)}; there are: {listed(present)}",
            hint=f"name your own: --columns {missing[0]}=COLUMN",
        )
    return [(number, row.value) for number, row in enumerate(rows, start=1)]


def _text(value: Any) -> str:
    """A name; the apostrophe that an export puts before what a spreadsheet would take for a formula is taken off."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    text = str(value)
    return text[1:] if text.startswith(_ESCAPED) else text


def _number(value: Any, what: str) -> float:
    if value is None or (isinstance(value, str) and not value.strip()):
        return _NAN
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise DataError(f"{what} is {value!r}, no number", hint="leave what is not known empty") from None
    if math.isinf(number):
        raise DataError(f"{what} is {value!r}, no number", hint="leave what is not known empty")
    return number


def _truth(value: Any, what: str) -> bool | None:
    words = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": None, "none": None}
    word = str("" if value is None or value != value else value).strip().lower().removesuffix(".0")
    if word not in words:
        raise DataError(f"{what} is {value!r}", hint="true or false")
    return words[word]
