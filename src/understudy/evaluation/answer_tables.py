"""Tables of answers as tools write them: one row an item, columns by the names that tools give them, or `{id: text}`.

The word `answer` is the one that tools disagree on: it is the right answer where no other column holds one, and the
prediction where some other column does, or where the right answers stand in a file of their own.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any

from understudy.data.choices import column_label, resolve_all
from understudy.data.columns import column_names, renamed
from understudy.data.formats import FORMATS
from understudy.data.plain_formats import QA_FIELDS, options_of
from understudy.data.read import Source
from understudy.data.rows import BadRow, Cell, Row, lowered
from understudy.errors import DataError, listed, shortened, unknown
from understudy.records import Prediction
from understudy.strict_json import JsonFault, parse_json

COLUMNS: dict[str, tuple[str, ...]] = {
    "id": ("id", "item_id", "example_id", "question_id", "doc_id", "qid", "uid"),
    "references": (
        *("references", "reference", "ground_truth", "ground_truths", "gold", "target", "targets"),
        *("expected", "expected_output", "ideal", "label", "labels", "answers", "answer"),
    ),
    "prediction": (
        *("prediction", "predictions", "predicted", "pred", "response", "output", "generated_text", "generation"),
        *("model_output", "hypothesis", "completion", "filtered_resps", "prediction_text", "answer"),
    ),
    "question": ("question", "query", "user_input", "prompt", "input", "instruction"),
    "context": ("context", "contexts", "retrieved_contexts", "passage", "document"),
    "group": ("group", "fact", "cluster"),
    "system": ("system", "model", "arm", "method"),
    "kind": ("kind", "category"),
    "choices": ("choices",),
    "choice_scores": ("choice_scores",),
}
"""Our name of a column -> what it may be called in a file, the first one found counts."""

_OURS = {"answer": "references", "answers": "references"}
_PREDICTION = "prediction"


@dataclass
class Item:
    """One row of a table of answers.

    Attributes:
        id: its name; its place, counted from 1, where it has none of its own.
        question, context, group, kind, system: as the table has them.
        choices: the options, where it is multiple choice.
        labels: what the row itself calls its options; empty where it does not.
        references: the right answers.
        prediction: the answer; None where there is none.
        place: the option that the answer is, counted from 0, where it is a number and no text.
        choice_scores: log-likelihood of each option.
        impossible: whether the context leaves the question open.
    """

    id: str
    question: str | None = None
    context: str | None = None
    group: str | None = None
    kind: str | None = None
    system: str = ""
    choices: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    references: tuple[str, ...] = ()
    prediction: str | None = None
    place: int | None = None
    choice_scores: tuple[float | None, ...] | None = None
    impossible: bool = False

    def record(self) -> Prediction:
        """The item as scores take it."""
        return Prediction(
            id=self.id,
            kind=self.kind,
            group=self.group,
            question=self.question,
            context=self.context,
            choices=self.choices,
            references=self.references,
            prediction=self.prediction,
            choice_scores=self.choice_scores,
        )


@dataclass(frozen=True)
class Table:
    """The rows of a file, and which of its columns is which of ours (our name -> the file's)."""

    name: str
    rows: tuple[Row, ...]
    columns: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """The columns that some row has."""
        return column_names(self.rows)

    def items(self) -> list[Item]:
        """Every row as an item.

        Raises:
            DataError: an id is empty, or the options of a row cannot be read.
        """
        return [_item(row, self.columns, number, self.name) for number, row in enumerate(self.rows, start=1)]


def check_fields(columns: Mapping[str, str]) -> None:
    """Refuse a field that neither predictions nor any format of data has.

    Raises:
        ConfigError: there is no such field.
    """
    known = {*COLUMNS, *(field for form in FORMATS.values() for field in form.fields)}
    for field in columns:
        if field not in known and not column_label(field):
            usual = sorted({*COLUMNS, *QA_FIELDS, "option 1"})
            raise unknown("field", field, usual, where="--columns", hint="write FIELD=COLUMN")


def table_of(source: Source, columns: Mapping[str, str], *, elsewhere: bool = False) -> Table:
    """The rows of a source as a table of answers.

    Args:
        source: as it was read.
        columns: field -> the file's own column; those that this file lacks are passed over.
        elsewhere: whether the right answers stand in another file, so that `answer` is the prediction.

    Raises:
        DataError: a row cannot be read, or is no row of named columns.
    """
    rows = []
    for row in source.rows:
        if row.fault or not isinstance(row.value, Mapping):
            raise DataError(f"{row.where}: {row.fault or 'not a row of named columns'}")
        rows.append(replace(row, value=_clean(row.value)))
    present = column_names(rows)
    mine = {_OURS.get(field, field): column for field, column in columns.items() if column in present}
    rows = renamed(rows, mine)
    found = _columns(rows)
    if elsewhere and _PREDICTION not in found and _plain(found.get("references", "")) == "answer":
        found[_PREDICTION] = found.pop("references")
    if "id" not in found and all(row.key for row in rows):
        rows = [replace(row, value={"id": row.key, **row.value}) for row in rows]
        found["id"] = "id"
    return Table(source.name, tuple(rows), found)


def by_id(table: Table, column: str) -> Table:
    """`{id: text}` as a JSON file, the form of SQuAD's predictions, becomes a table of `id` and a column.

    Another table comes back as it is.
    """
    row, *others = table.rows
    texts = row.value
    known = others or table.columns or PurePosixPath(table.name).suffix.lower() != ".json"
    if known or not texts or not all(map(_is_answer, texts.values())):
        return table
    rows = (Row({"id": name, column: text}, row.where, row.id) for name, text in texts.items())
    return Table(table.name, tuple(rows), {"id": "id", column: column})


def _is_answer(value: Any) -> bool:
    return isinstance(value, str | int | float | None) or (
        isinstance(value, list) and all(isinstance(item, str) for item in value)
    )


def check_columns(columns: Mapping[str, str], present: Iterable[str]) -> None:
    """Refuse a column that no file has.

    Args:
        columns: field -> column, as asked for.
        present: the columns of all files.

    Raises:
        DataError: it is in none of them.
    """
    present = sorted(set(present))
    for field, column in columns.items():
        if column not in present:
            raise DataError(
                f"--columns {field}={shortened(column)}: no file has this column; they have: {listed(present)}",
                hint="write FIELD=COLUMN, the column as it is spelled in the file",
            )


def _clean(value: Any) -> Any:
    """What can be written down again: halves of a character become `?`, and NaN, which pandas writes, is nothing."""
    if isinstance(value, str):
        return value if value.isascii() else type(value)(value.encode("utf-8", "replace").decode("utf-8"))
    if isinstance(value, float):
        return None if value != value else value
    if isinstance(value, Mapping):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def _columns(rows: Sequence[Row]) -> dict[str, str]:
    """Our name -> the file's name of each column there is."""
    present = {_plain(str(key)): key for row in rows[:100] for key in row.value}
    columns: dict[str, str] = {}
    for column, names in COLUMNS.items():
        name = next((name for name in names if name in present and present[name] not in columns.values()), None)
        if name is not None:
            columns[column] = present[name]
    return columns


def _plain(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def _item(row: Row, columns: Mapping[str, str], number: int, name: str) -> Item:
    def value(field: str) -> Any:
        return row.value.get(columns[field]) if field in columns else None

    identity, system, scores = value("id"), value("system"), value("choice_scores")
    if "id" in columns and (identity is None or identity == ""):
        raise DataError(f"{name}, row {number}: the id is empty", hint="give every item an id, or none at all")
    choices, labels = _choices(row, value("choices"))
    prediction = _first(value("prediction"))
    return Item(
        id=str(number) if identity is None else str(identity),
        kind=_optional(value("kind")),
        group=_optional(value("group")),
        question=_optional(value("question")),
        context=_optional(_joined(value("context"))),
        choices=choices,
        labels=labels,
        references=_right_answers(value("references"), choices, labels),
        prediction=None if prediction is None else str(prediction),
        place=prediction if isinstance(prediction, int) and not isinstance(prediction, bool) else None,
        choice_scores=tuple(scores) if isinstance(scores, list) else None,
        system="" if system is None else str(system),
    )


def _choices(row: Row, choices: Any) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The options of a row and their labels, read as data reads them; none where there are none."""
    choices = _parsed(choices)
    fields = {name: value for name, value in lowered(row).items() if name.lower() != "choices"}
    try:
        return options_of(fields | ({"choices": choices} if choices else {}), row)[:2]
    except BadRow as bad:
        # A column `options` or `A` may hold something else in a file of predictions.
        if choices:
            raise DataError(f"{row.where}: {bad}", hint="a choice needs two options or more, each a text") from bad
        return (), ()


def _optional(value: Any) -> str | None:
    return None if value is None or value == "" else str(value)


def _joined(value: Any) -> Any:
    parsed = _parsed(value)
    return "\n\n".join(map(str, parsed)) if isinstance(parsed, list) else value


def _parsed(value: Any) -> Any:
    """A list of texts as JSON in a cell of CSV or TSV is a list, and so is one as Python prints it (pandas does).

    Every other format tells a list from a text that looks like one, and a list of numbers is an interval or a vector.
    """
    if isinstance(value, Cell) and value.startswith("[") and value.endswith("]"):
        for read in (parse_json, ast.literal_eval):
            try:
                parsed = read(str(value))
            except (JsonFault, ValueError, SyntaxError, MemoryError, RecursionError):
                continue
            texts = isinstance(parsed, list) and all(isinstance(item, str | None) for item in parsed)
            return _clean(parsed) if texts else value
    return value


def _first(value: Any) -> Any:
    """One answer; the first of a list, as tools write that ask for several; None: not answered."""
    while isinstance(value, list):
        value = value[0] if value else None
    return value


def _right_answers(value: Any, choices: Sequence[str], labels: Sequence[str]) -> tuple[str, ...]:
    """The right answers of an item: a text, a list of them, a list as JSON in a cell, or SQuAD's `{"text": […]}`.

    Where there are options, the texts of those that are named.
    """
    value = _parsed(value)
    if isinstance(value, Mapping):
        value = value.get("text")
    if value is None or value == "":
        return ()
    values = [item for item in (value if isinstance(value, list) else [value]) if item is not None]
    texts = (text for item in values for text in named_options(item, choices, labels) or (str(item),))
    return tuple(dict.fromkeys(texts)) if choices else tuple(texts)


def named_options(answer: Any, choices: Sequence[str], labels: Sequence[str] = ()) -> tuple[str, ...]:
    """The texts of the options that an answer names, in data's reading of it; none where it names none.

    Args:
        answer: `option 3`, `C`, `(C)`, `C) Paris`, `**C**`, `Option C: Paris`, the option's text; several with commas
            or `and`; a number that is no text is a place, counted from 0.
        choices: the options; without any, none is named.
        labels: what the row itself calls them.
    """
    try:
        return tuple(choices[place] for place in resolve_all(answer, choices, "answer", labels)) if choices else ()
    except BadRow:
        return ()
