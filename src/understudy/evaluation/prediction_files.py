"""Predictions of any tool: a table with one row an item, or plain text with one answer a line.

Columns go by the names that tools give them (`COLUMNS`), in any case. The word `answer` is the one that tools disagree
on: it is the right answer where no other column holds one, and the prediction where some other column does.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from understudy.data.columns import listed
from understudy.data.read import SUFFIXES, read_source
from understudy.data.rows import Cell
from understudy.errors import DataError
from understudy.files import read_text
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
        *("model_output", "hypothesis", "completion", "filtered_resps", "answer"),
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

TABLES = SUFFIXES - {".txt"}
"""Endings of tables; a file with any other ending is read as plain text, one answer a line."""


@dataclass(frozen=True)
class PredictionTable:
    """The rows of one file of predictions.

    Attributes:
        rows: the predictions.
        systems: which system made each; empty where the file does not tell.
        has_ids: whether the items go by names of their own; else a row's `id` is its place.
    """

    rows: list[Prediction]
    systems: list[str]
    has_ids: bool


def read_predictions(path: Path, references: Sequence[Path] = ()) -> PredictionTable:
    """Read a file of predictions with the right answers beside them.

    Args:
        path: JSONL, JSON, CSV, TSV or Parquet with a column for the prediction; any other file is plain text.
        references: where the right answers stand when they are not in `path`: a table with the same ids or the same
            order, or plain text files with one answer a line (several files: several right answers an item).

    Raises:
        DataError: a file is absent, unreadable or empty, a column is missing, or the lengths differ.
    """
    rows, columns = _read_rows(path)
    if "prediction" not in columns:
        raise DataError(
            f"{path} has no column with predictions; it has: {listed(rows[0])}",
            hint=f"name it `prediction` ({', '.join(COLUMNS['prediction'][1:6])} … will do too)",
        )
    has_ids = "id" in columns
    table = [_row(row, columns, number, path) for number, row in enumerate(rows, start=1)]
    if references:
        _join(table, has_ids, path, references)
    elif "references" not in columns:
        raise DataError(
            f"{path} has no column with right answers; it has: {listed(rows[0])}",
            hint="name it `reference` or `answers`, or give a file of them with --references",
        )
    return PredictionTable(list(map(Prediction.from_json, table)), [row["system"] for row in table], has_ids)


def _read_rows(path: Path) -> tuple[list[Mapping[str, Any]], dict[str, str]]:
    """The raw rows of a file, and which of its columns is which of ours."""
    if path.is_dir():
        raise DataError(f"{path} is a folder, neither a run nor a file of predictions")
    if path.suffix.lower() not in TABLES:
        text = read_text(path)
        if not text:
            raise DataError(f"{path} is empty")
        # Not `splitlines`, which also cuts at characters that may stand inside an answer.
        lines = text.removesuffix("\n").replace("\r\n", "\n").split("\n")
        return [{"prediction": line} for line in lines], {"prediction": "prediction"}
    rows = []
    for row in read_source(str(path)).rows:
        if row.fault or not isinstance(row.value, Mapping):
            raise DataError(f"{row.where}: {row.fault or 'not a row of named columns'}")
        rows.append(_clean(row.value))
    return rows, _columns(rows)


def _clean(value: Any) -> Any:
    """What can be written down again: halves of a character become `?`, and NaN, which pandas writes, is nothing."""
    if isinstance(value, str):
        return value if value.isascii() else type(value)(value.encode("utf-8", "replace").decode("utf-8"))
    if isinstance(value, float):
        return None if value != value else value
    if isinstance(value, Mapping):
        return {_clean(key): _clean(item) for key, item in value.items()}
    return [_clean(item) for item in value] if isinstance(value, list) else value


def _columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Our name -> the file's name of each column there is."""
    present = {str(key).strip().lower().replace(" ", "_").replace("-", "_"): key for row in rows[:100] for key in row}
    columns: dict[str, str] = {}
    for column, names in COLUMNS.items():
        name = next((name for name in names if name in present and present[name] not in columns.values()), None)
        if name is not None:
            columns[column] = present[name]
    return columns


def _row(raw: Mapping[str, Any], columns: Mapping[str, str], number: int, path: Path) -> dict[str, Any]:
    def value(name: str) -> Any:
        return raw.get(columns[name]) if name in columns else None

    identity = value("id")
    if "id" in columns and (identity is None or identity == ""):
        raise DataError(f"{path}, row {number}: the id is empty", hint="give every item an id, or none at all")
    system = value("system")
    return {
        "id": str(number) if identity is None else str(identity),
        "kind": _optional(value("kind")),
        "group": _optional(value("group")),
        "question": _optional(value("question")),
        "context": _optional(_joined(value("context"))),
        "choices": value("choices") if isinstance(value("choices"), list) else [],
        "references": _answer_texts(value("references")),
        "prediction": _text(value("prediction")),
        "choice_scores": value("choice_scores") if isinstance(value("choice_scores"), list) else None,
        "system": "" if system is None else str(system),
    }


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


def _text(value: Any) -> str | None:
    """One text; the first of a list, as tools write that ask for several answers; None: not answered."""
    while isinstance(value, list):
        value = value[0] if value else None
    return None if value is None else str(value)


def _answer_texts(value: Any) -> list[str]:
    """The right answers of an item: a text, a list of them, a list as JSON in a cell, or SQuAD's `{"text": […]}`."""
    value = _parsed(value)
    if isinstance(value, Mapping):
        value = value.get("text")
    if value is None or value == "":
        return []
    return [str(item) for item in value if item is not None] if isinstance(value, list) else [str(value)]


def _join(table: list[dict[str, Any]], has_ids: bool, path: Path, references: Sequence[Path]) -> None:
    """Put the right answers of other files beside the predictions: by id where both have ids, else by order."""
    for row in table:
        row["references"] = []
    for source in references:
        rows, columns = _read_rows(source)
        column = columns.get("references") or (columns.get("prediction") if len(rows[0]) == 1 else None)
        if column is None:
            raise DataError(f"{source} has no column with right answers", hint="name it `reference` or `answers`")
        if has_ids and "id" in columns:
            by_id: dict[str, Mapping[str, Any]] = {}
            for row in rows:
                name = str(row.get(columns["id"]))
                if _answer_texts(by_id.setdefault(name, row).get(column)) != _answer_texts(row.get(column)):
                    raise DataError(
                        f"{source} has two rows for item {name!r} with different right answers",
                        hint="put all right answers of an item into one row, as a list",
                    )
            absent = [row["id"] for row in table if row["id"] not in by_id]
            if absent:
                raise DataError(f"{source} has no right answer for item {absent[0]!r} of {path}")
            paired = [by_id[row["id"]] for row in table]
        elif len(rows) != len(table):
            raise DataError(
                f"{path} has {len(table)} predictions, but {source} has {len(rows)} right answers",
                hint="without ids in both they are paired line by line",
            )
        else:
            paired = rows
        for row, reference_row in zip(table, paired, strict=True):
            row["references"] += _answer_texts(reference_row.get(column))
            for field_name in ("question", "context", "group"):
                if row[field_name] is None and field_name in columns:
                    row[field_name] = _optional(reference_row.get(columns[field_name]))
