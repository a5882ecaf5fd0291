"""The corpus that is searched: passages out of a file."""

from __future__ import annotations

import functools
from pathlib import Path

from understudy.data.columns import column_names
from understudy.data.read import read_source
from understudy.data.rows import BadRow, as_mapping, as_text
from understudy.errors import DataError

OF_CORPUS = ("passage", "positive", "document", "text", "context")
"""Columns in which a file of passages may have them, the likeliest first."""
EMBEDDED = "embedded:telecom-passages"


def corpus_of(source: str | None) -> tuple[str, ...]:
    """The distinct passages that `data.corpus` names, in their order; none where it names nothing.

    Args:
        source: a file, or `embedded:telecom-passages`.

    Raises:
        DataError: the file is absent or empty, has no column of passages, or a row without one.
    """
    if source is None:
        return ()
    if source == EMBEDDED:
        from understudy.data.embedded.telecom import passages

        return passages()
    if source.startswith("embedded:"):
        raise DataError(f"data.corpus: there are no passages {source!r}", hint=f"{EMBEDDED}, or a file of your own")
    path = Path(source)
    if not path.is_file():
        raise DataError(f"data.corpus: no such file: {source}", hint="it is relative to the current folder")
    return _read(source, path.stat().st_mtime_ns, path.stat().st_size)


@functools.lru_cache(maxsize=4)
def _read(source: str, changed: int, size: int) -> tuple[str, ...]:
    rows = read_source(source).rows
    there = column_names(rows)
    plain = {name.strip().lower(): name for name in there}
    column = next((plain[name] for name in OF_CORPUS if name in plain), None)
    if column is None:
        raise DataError(
            f"data.corpus: {source} has no column of passages, but {', '.join(there) or 'none at all'}",
            hint=f"name it {OF_CORPUS[0]} (or {', '.join(OF_CORPUS[1:])})",
        )
    found: dict[str, None] = {}
    for row in rows:
        try:
            value = as_mapping(row).get(column)
            for text in value if isinstance(value, list) else [value]:
                found[as_text(text, column)] = None
        except BadRow as bad:
            raise DataError(f"data.corpus: {row.where}: {bad}", hint="correct the row, or leave it out") from bad
    return tuple(found)
