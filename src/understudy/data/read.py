"""Rows out of a file, a folder or a hub data set, each knowing where it came from."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from understudy.data.archive import read_zip
from understudy.data.json_rows import Item, from_document, from_lines
from understudy.data.rows import Row, jsonable
from understudy.data.session_folder import is_session_folder, read_session_folder
from understudy.data.table_rows import comma_separated, tab_separated
from understudy.errors import DataError, listed
from understudy.files import fingerprint, fingerprint_file, fingerprint_tree

SUFFIXES = frozenset({".jsonl", ".json", ".txt", ".csv", ".tsv", ".parquet"})
"""What a data file's name ends in; `.txt` holds JSON (TeleQnA is published so)."""

_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


@dataclass(frozen=True, slots=True)
class Source:
    """The raw rows of one source, with the fingerprint of its bytes (of its rows for a hub data set)."""

    name: str
    rows: tuple[Row, ...]
    fingerprint: str


def read_source(
    source: str, *, password_env: str = "", hub_split: str = "train", hub_config: str | None = None
) -> Source:
    """Read every row of a file, of a `datasets` folder or of a hub data set.

    Args:
        source: a path (.jsonl, .json, .txt, .csv, .tsv, .parquet, .zip, a folder of `datasets` or of sessions) or a
            hub id.
        password_env: environment variable with the password of an encrypted zip.
        hub_split: which split of a folder or hub data set.
        hub_config: which configuration of a hub data set.

    Raises:
        DataError: the source is absent, of no known kind, unreadable or empty. A single row that cannot be read is
            no error here: it comes back with its `fault`.
    """
    path = Path(source)
    if path.is_file():
        rows = _file_rows(path, password_env)
        digest = fingerprint_file(path)
    elif is_session_folder(path):
        rows = read_session_folder(path)
        digest = fingerprint_tree(path)
    elif path.is_dir() or _names_hub(source):
        rows = _hub_rows(source, hub_split, hub_config)
        digest = fingerprint([jsonable(row.value) for row in rows])
    else:
        raise DataError(f"no such file: {source}", hint="check the path; it is relative to the current folder")
    if not rows:
        raise DataError(
            f"{source} is empty: it holds no rows", hint="check data.source and, for a hub id, data.hub_split"
        )
    return Source(source, tuple(rows), digest)


def _names_hub(source: str) -> bool:
    if PurePosixPath(source).suffix.lower() in SUFFIXES | {".zip"} or source.startswith("."):
        return False
    # `data/qa` beside a folder `data` is a mistyped path: nobody wants the network asked for it.
    in_folder = "/" in source and Path(source).parent.is_dir()
    return bool(_HUB_ID.fullmatch(source)) and not in_folder


def _file_rows(path: Path, password_env: str) -> list[Row]:
    name, suffix = path.name, path.suffix.lower()
    try:
        if suffix == ".zip":
            member, content = read_zip(path, SUFFIXES, password_env)
            name, suffix = f"{path.name}/{member}", PurePosixPath(member).suffix.lower()
        elif suffix in SUFFIXES:
            content = path.read_bytes()
        else:
            raise DataError(f"{path}: unknown kind of file", hint=f"known: {', '.join(sorted(SUFFIXES))}, .zip")
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror or error}") from error
    return _READERS[suffix](content, name)


def _rows(items: Iterable[Item], name: str) -> list[Row]:
    stem = PurePosixPath(name).stem
    return [
        Row(item.value, f"{name}:{item.line}", f"{stem}-{number}", item.key, item.fault)
        for number, item in enumerate(items, start=1)
    ]


def _decode(content: bytes, name: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8 (byte {error.start})", hint="convert it to UTF-8 first") from error


def _decode_lines(content: bytes, name: str) -> str:
    """Text of a file that is read line by line: bytes that are no UTF-8 make their own row a bad one.

    Raises:
        DataError: the first line holds such bytes, so the file has another encoding, or is no text.
    """
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if b"\n" not in content[: error.start]:
            raise DataError(f"{name} is not UTF-8 (byte {error.start})", hint="convert it to UTF-8 first") from error
        return content.decode("utf-8-sig", "surrogateescape")


def _read_jsonl(content: bytes, name: str) -> list[Row]:
    return _rows(from_lines(_decode_lines(content, name)), name)


def _read_json(content: bytes, name: str) -> list[Row]:
    text = _decode(content, name)
    return _rows(from_document(text, name), name) if text.strip() else []


def _read_csv(content: bytes, name: str) -> list[Row]:
    return _rows(comma_separated(_decode_lines(content, name), name), name)


def _read_tsv(content: bytes, name: str) -> list[Row]:
    return _rows(tab_separated(_decode_lines(content, name), name), name)


def _read_parquet(content: bytes, name: str) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        values = pyarrow.parquet.read_table(pyarrow.BufferReader(content)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{name} is not a readable Parquet file: {_first_line(error)}") from error
    return _rows((Item(value, number) for number, value in enumerate(values, start=1)), name)


_READERS: dict[str, Callable[[bytes, str], list[Row]]] = {
    ".jsonl": _read_jsonl,
    ".json": _read_json,
    ".txt": _read_json,
    ".csv": _read_csv,
    ".tsv": _read_tsv,
    ".parquet": _read_parquet,
}


def _hub_rows(source: str, split: str, config: str | None) -> list[Row]:
    name = PurePosixPath(source).name or source
    try:
        table = _load_dataset(source, split, config)
        return _rows((Item(dict(value), number) for number, value in enumerate(table, start=1)), name)
    except DataError:
        raise
    except Exception as error:  # `datasets` raises whatever its many back ends raise
        known = "a folder that `datasets` can read" if Path(source).is_dir() else "a file or folder here"
        raise DataError(
            f"{source!r} is not {known}{'' if Path(source).is_dir() else ', and the hub did not give it'}: "
            f"{_first_line(error)}",
            hint="check the path or the hub id, data.hub_config and data.hub_split",
        ) from error


def _load_dataset(source: str, split: str, config: str | None) -> Any:
    import datasets

    path = Path(source)
    if not (path / "state.json").is_file() and not (path / "dataset_dict.json").is_file():
        return datasets.load_dataset(source, config, split=split)
    saved = datasets.load_from_disk(source)
    if not isinstance(saved, datasets.DatasetDict):
        return saved
    if split not in saved:
        raise DataError(f"{source} has no split {split!r}; it has: {listed(saved)}", hint="set data.hub_split")
    return saved[split]


def _first_line(error: Exception) -> str:
    text = str(error).strip()
    return text.splitlines()[0] if text else type(error).__name__
