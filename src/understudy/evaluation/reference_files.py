"""Right answers in a file of their own, in any layout that data knows, and how they find their predictions."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from understudy.data.columns import column_names
from understudy.data.formats import FORMATS, detect
from understudy.data.load import read_examples
from understudy.data.plain_formats import options_of
from understudy.data.read import SUFFIXES, Source, read_source
from understudy.data.rows import BadRow, Row, lowered
from understudy.errors import DataError, UnderstudyError, shortened, unknown
from understudy.evaluation.answer_tables import COLUMNS, Item, Table, by_id, table_of
from understudy.files import read_text
from understudy.recipe import DataConfig
from understudy.types import Example

_GROUPS = COLUMNS["group"]
_OWN_TABLES = (None, "qa", "prompt")


@dataclass(frozen=True)
class ReferenceFile:
    """The right answers of one file.

    Attributes:
        name: of the file.
        layout: how it was read, in words.
        items: right answers, and whatever else stands beside them.
        has_ids: whether they go by names of their own.
        columns: the columns that it has.
        bad_rows: how many rows cannot be read; they stand among the items, without right answers.
    """

    name: str
    layout: str
    items: tuple[Item, ...]
    has_ids: bool
    columns: tuple[str, ...] = ()
    bad_rows: int = 0


def read_lines(path: Path) -> list[str]:
    """The lines of a file of plain text.

    Raises:
        DataError: it is absent, no UTF-8 or empty.
    """
    text = read_text(path)
    if not text:
        raise DataError(f"{path} is empty")
    # Not `splitlines`, which also cuts at characters that may stand inside an answer.
    return text.removesuffix("\n").replace("\r\n", "\n").split("\n")


def read_references(name: str, data: DataConfig) -> ReferenceFile:
    """Read right answers: a table by the names that tools give columns, else any layout of `data.source`, or lines.

    Args:
        name: a file, a folder of `datasets` or a hub id.
        data: format, columns, split and password, as a recipe has them.

    Raises:
        DataError: the source is absent, unreadable or empty, a row is bad, or no column holds right answers.
        ConfigError: an unknown format.
    """
    try:
        return _read(name, data)
    except UnderstudyError as error:
        # The readers speak of the fields of a recipe; here the same are options.
        error.message, error.hint = _as_options(error.message), _as_options(error.hint)
        raise


def _as_options(text: str) -> str:
    text = re.sub(r"\bdata\.(columns|format)\b", r"--\1", text)
    return re.sub(r"\bdata\.(hub_split|hub_config|password_env)\b", r"--data \1=…", text).replace(
        "data.source", "--references"
    )


def _read(name: str, data: DataConfig) -> ReferenceFile:
    wanted, columns = data.format_of("test"), data.columns_of("test")
    if wanted != "auto" and wanted not in FORMATS:
        raise unknown("format", wanted, ("auto", *FORMATS), where="--format")
    path = Path(name)
    if path.is_file() and wanted == "auto" and _is_lines(path):
        items = [Item(str(number), references=(line,) * bool(line)) for number, line in enumerate(read_lines(path), 1)]
        return ReferenceFile(name, "plain text", tuple(items), False)
    source = read_source(name, password_env=data.password_env, hub_split=data.hub_split, hub_config=data.hub_config)
    if wanted == "auto":
        table = _own_table(source, columns)
        if table is not None:
            layout = "table" if len(table.rows) == len(source.rows) else "{id: text}"
            has_ids, names = "id" in table.columns, tuple(column_names(source.rows))
            return ReferenceFile(name, layout, tuple(table.items()), has_ids, names)
    return _layout(source, data, columns)


def _is_lines(path: Path) -> bool:
    """Whether a file is plain text: any ending that data does not know, and `.txt` without JSON rows in it."""
    suffix = path.suffix.lower()
    if suffix != ".txt":
        return suffix not in SUFFIXES | {".zip"}
    try:
        return detect([row.value for row in read_source(str(path)).rows[:100] if not row.fault]) is None
    except DataError:
        return True


def _own_table(source: Source, columns: Mapping[str, str]) -> Table | None:
    """The source as a table of answers, where it is one: no layout of a data set, and a column of right answers."""
    values = [row.value for row in source.rows[:100] if not row.fault]
    if detect(values) not in _OWN_TABLES or not all(isinstance(value, Mapping) for value in values):
        return None
    table = by_id(table_of(source, columns), "references")
    if "references" not in table.columns and "prediction" in table.columns and len(table.names) == 1:
        table = replace(table, columns={"references": table.columns["prediction"]})
    return table if "references" in table.columns else None


def _layout(source: Source, data: DataConfig, columns: Mapping[str, str]) -> ReferenceFile:
    present = {name: name.strip().lower() for name in column_names(source.rows)}
    mine = {field: column for field, column in columns.items() if column in present and field not in _NOT_DATA}
    if "id" not in mine and "id" not in present.values():
        found = next((key for own in COLUMNS["id"] for key, plain in present.items() if plain == own), None)
        mine |= {"id": found} if found else {}
    reading = read_examples(data.model_copy(update={"columns": mine}), source.name, role="test")
    if reading.faults and data.on_bad_row == "error":
        more = f" (and {len(reading.faults) - 1:,} more bad rows)" if reading.faults[1:] else ""
        raise DataError(
            f"{next(iter(reading.faults))}{more}",
            hint="mend the row, name another layout with --format, or leave bad rows out with "
            "--data on_bad_row=quarantine",
        )
    guessed = reading.columns.get("columns_guessed")
    layout = f"{reading.format}, {guessed}" if guessed else reading.format
    items = [Item("") for _ in range(len(reading.examples) + len(reading.faults))]
    for place, example, row in zip(reading.places, reading.examples, reading.rows, strict=True):
        items[place] = _item(example, row)
    has_ids = all(example.id != row.id for example, row in zip(reading.examples, reading.rows, strict=True))
    return ReferenceFile(source.name, layout, tuple(items), has_ids, tuple(present), len(reading.faults))


_NOT_DATA = frozenset({"prediction", "references", "group", "system", "kind", "choice_scores"})


def _item(example: Example, row: Row) -> Item:
    return Item(
        example.id,
        question=example.question,
        context=example.context,
        group=next((str(example.meta[name]) for name in _GROUPS if example.meta.get(name) is not None), None),
        choices=example.choices,
        labels=_labels(row) if example.choices else (),
        references=example.answers,
        impossible=bool(example.meta.get("impossible")),
    )


def _labels(row: Row) -> tuple[str, ...]:
    """What the row itself calls its options."""
    if not isinstance(row.value, Mapping):
        return ()
    inner = row.value.get("question")
    row = replace(row, value=inner) if isinstance(inner, Mapping) else row
    try:
        return options_of(lowered(row), row)[1]
    except BadRow:
        return ()


# Pairing --------------------------------------------------------------------------------------------------------------


def join(items: list[Item], has_ids: bool, name: str, file: ReferenceFile) -> tuple[list[Item], bool, str]:
    """Put the right answers of a file beside predictions: by id, else by question, else by order.

    Args:
        items: the predictions.
        has_ids: whether they go by names of their own.
        name: of their file.
        file: the right answers.

    Returns:
        The predictions with right answers added to those they have; whether they go by names now; how it was done.
        Names are those of the right answers, where these have any. Without them, predictions that were found by
        question come in the order of the right answers.

    Raises:
        DataError: a prediction has no right answer, or several that differ, or the numbers differ.
    """
    places, how = _places(items, has_ids, name, file)
    right = [file.items[place] if place is not None else Item("") for place in places]
    joined = [_beside(item, own) for item, own in zip(items, right, strict=True)]
    named = [replace(item, id=own.id or item.id) for item, own in zip(joined, right, strict=True)]
    if how != "id" and file.has_ids and _are_distinct(named):
        joined, has_ids = named, True
    elif how == "question" and not has_ids:
        joined = [joined[n] for n in sorted(range(len(joined)), key=lambda n: (places[n] is None, places[n] or 0))]
    return joined, has_ids, _note(name, file, right, how)


def _note(name: str, file: ReferenceFile, right: Sequence[Item], how: str) -> str:
    """Which right answers were found by what, and how many of them stand alone."""
    key = _question if how == "question" else _id
    used = set(map(key, right))
    left = sum(bool(item.id) and key(item) not in used for item in file.items)
    found = f"right answers of {PurePosixPath(file.name).name} ({file.layout}) found by {how}"
    of = f"of its {len(file.items):,} items"
    bad = f"; {file.bad_rows:,} {of} are bad rows, which give none" if file.bad_rows else ""
    alone = f"; {left:,} {of} have no prediction and are not scored" if left else ""
    return f"{PurePosixPath(name).name}: {found}{bad}{alone}"


def _are_distinct(items: Sequence[Item]) -> bool:
    return max(Counter((item.system, item.id) for item in items).values()) == 1


def _beside(item: Item, right: Item) -> Item:
    own = {name: getattr(item, name) for name in ("question", "context", "group")}
    return replace(
        item,
        **{name: getattr(right, name) if value is None else value for name, value in own.items()},
        choices=item.choices or right.choices,
        labels=item.labels if item.choices else right.labels,
        references=item.references + right.references,
        impossible=item.impossible or right.impossible,
    )


def _places(items: Sequence[Item], has_ids: bool, name: str, file: ReferenceFile) -> tuple[list[int | None], str]:
    """The place of each prediction's right answer, and by what it was found.

    Where the file has bad rows, a prediction that is not found may be of one of these: its place is None.
    """
    if has_ids and file.has_ids:
        places = _index(file, _id, "item")
        found = [places.get(item.id) for item in items]
        some = any(place is not None for place in found)
        if None not in found or (some and file.bad_rows):
            return found, "id"
        if some or not _share_questions(items, file):
            absent = next(item.id for item, place in zip(items, found, strict=True) if place is None)
            raise DataError(f"{file.name} has no right answer for item {shortened(absent)!r} of {name}")
    if _share_questions(items, file):
        if _agree_in_order(items, file):
            return list(range(len(items))), "question"
        places = _index(file, _question, "question")
        for item in items if not file.bad_rows else ():
            if _question(item) not in places:
                raise DataError(
                    f"{file.name} has no right answer for the question {shortened(item.question or '')!r} of {name}",
                    hint="give both files a column `id`, or the same questions",
                )
        return [places.get(_question(item)) for item in items], "question"
    if len(file.items) != len(items):
        raise DataError(
            f"{name} has {len(items)} predictions, but {file.name} has {len(file.items)} right answers",
            hint="without ids or questions in both they are paired line by line",
        )
    return list(range(len(items))), "order"


def _id(item: Item) -> str:
    return item.id


def _question(item: Item) -> str:
    return " ".join((item.question or "").split())


def _share_questions(items: Sequence[Item], file: ReferenceFile) -> bool:
    """Whether any question stands in both."""
    return not {_question(item) for item in items}.isdisjoint({_question(item) for item in file.items} - {""})


def _agree_in_order(items: Sequence[Item], file: ReferenceFile) -> bool:
    """Whether the questions of both agree row by row; what a bad row (without an id) asks is not known."""
    return len(items) == len(file.items) and all(
        not right.id or _question(item) == _question(right) for item, right in zip(items, file.items, strict=True)
    )


def _index(file: ReferenceFile, key: Callable[[Item], str], kind: str) -> dict[str, int]:
    """Key -> place; a key may stand twice, if the right answers are the same.

    Raises:
        DataError: the right answers of one key differ.
    """
    places: dict[str, int] = {}
    for place, item in enumerate(file.items):
        if not key(item):
            continue
        first = file.items[places.setdefault(key(item), place)]
        if (first.references, first.choices) != (item.references, item.choices):
            raise DataError(
                f"{file.name} has two rows for {kind} {shortened(key(item))!r} with different right answers",
                hint="put all right answers of an item into one row, as a list"
                if kind == "item"
                else "give both files a column `id`",
            )
    return places
