"""Predictions of any tool: a table with one row an item, `{id: text}`, or plain text with one answer a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from understudy.data.columns import column_names
from understudy.data.read import SUFFIXES, read_source
from understudy.errors import DataError, listed
from understudy.evaluation.answer_tables import COLUMNS, Item, by_id, check_fields, table_of
from understudy.evaluation.reference_files import join, read_lines, read_references
from understudy.recipe import DataConfig
from understudy.records import Prediction

TABLES = SUFFIXES - {".txt"}
"""Endings of tables; a file with any other ending is read as plain text, one answer a line."""


@dataclass(frozen=True)
class FileOptions:
    """How files of predictions are read.

    Attributes:
        references: where the right answers stand, if not beside the predictions: anything that `data.source` takes, a
            table with ids, questions or the same order, or plain text with one answer a line; several: several right
            answers an item.
        data: format and columns as a recipe's section `data` has them; the format is that of `references`, a column
            counts in whatever file has it.
        final_answer: marks of final answers (`final_answers.MARKS`); none: texts are compared whole.
    """

    references: Sequence[str | Path] = ()
    data: DataConfig = field(default_factory=DataConfig)
    final_answer: Sequence[str] = ()


@dataclass(frozen=True)
class PredictionTable:
    """The rows of one file of predictions.

    Attributes:
        items: the predictions with their right answers, as they are written.
        has_ids: whether they go by names of their own; else an item's `id` is its place.
        notes: where the right answers come from, in words.
        columns: those of the file and of its right answers.
    """

    items: list[Item]
    has_ids: bool
    notes: tuple[str, ...] = ()
    columns: frozenset[str] = frozenset()

    @property
    def rows(self) -> list[Prediction]:
        """The predictions as records."""
        return [item.record() for item in self.items]


def read_predictions(
    path: Path, references: Sequence[str | Path] = (), options: FileOptions | None = None
) -> PredictionTable:
    """Read a file of predictions with the right answers beside them.

    Args:
        path: JSONL, JSON, CSV, TSV or Parquet with a column for the prediction, or JSON `{id: text}`; any other file is
            plain text.
        references: as in `FileOptions`; those of `options` come behind them.
        options: columns, and how the right answers are read.

    Raises:
        DataError: a file is absent, unreadable or empty, a column is missing, or right answers do not fit.
        ConfigError: a field of `columns` or a format that there is not.
    """
    options = options or FileOptions()
    sources = [*map(str, references), *map(str, options.references)]
    columns = options.data.columns_of("test")
    check_fields(columns)
    items, has_ids, present = _read(path, columns, elsewhere=bool(sources))
    files = [read_references(source, options.data) for source in sources]
    notes = []
    for item in items if files else ():
        item.references = ()
    for file in files:
        items, has_ids, note = join(items, has_ids, str(path), file)
        notes.append(note)
    return PredictionTable(items, has_ids, tuple(notes), frozenset(present.union(*(file.columns for file in files))))


def _read(path: Path, columns: dict[str, str], *, elsewhere: bool) -> tuple[list[Item], bool, set[str]]:
    """Items, whether they have ids, and the columns of the file."""
    if path.is_dir():
        raise DataError(f"{path} is a folder, neither a run nor a file of predictions")
    if path.suffix.lower() not in TABLES:
        lines = enumerate(read_lines(path), start=1)
        if not elsewhere:
            raise DataError(f"{path} holds no right answers", hint="give a file of them with --references")
        return [Item(str(number), prediction=line) for number, line in lines], False, set()
    source = read_source(str(path))
    present = set(column_names(source.rows))
    raw = table_of(source, columns, elsewhere=elsewhere)
    table = by_id(raw, "prediction")
    if table is not raw and not elsewhere:
        raise DataError(
            f"{path} holds texts by id ({listed(raw.names)}) and no right answers",
            hint="give a file of them with --references; a row of its own would need a column `prediction`",
        )
    if "prediction" not in table.columns:
        raise DataError(
            f"{path} has no column with predictions; it has: {listed(table.names)}",
            hint=f"name it `prediction` ({', '.join(COLUMNS['prediction'][1:6])} … will do too), "
            "or say --columns prediction=YOURS",
        )
    if not elsewhere and "references" not in table.columns:
        raise DataError(
            f"{path} has no column with right answers; it has: {listed(table.names)}",
            hint="name it `reference` or `answers`, or give a file of them with --references",
        )
    return table.items(), "id" in table.columns, present
