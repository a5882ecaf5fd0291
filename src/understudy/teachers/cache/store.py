"""The files of a cache: shards of records, and beside each an index that says which row lies where.

```text
cache.json          what the targets are and what they are bound to (`identity`)
shard-00000.data    records of rows, one row behind the other
shard-00000.index   40 bytes a row: which row, which tokens, where, how many, checksum of its records, its own checksum
```

Rows are appended: first their records, then their entries, each flushed to the disk. An entry counts when its checksum
holds and its records lie before the end of the shard, so a kill at any moment loses at most the rows of the last few
seconds. A shard that is cut short or has a flipped bit costs the rows that are in it and no other; they are named, and
`repair` forgets them, so that they are written anew.

Rows are read one at a time by their place, never mapped: what is read does not stay in memory.
"""

from __future__ import annotations

import os
import time
import weakref
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from understudy.errors import RunError
from understudy.files import atomic, locked, unwritable

SHARD_BYTES = 256 << 20
FLUSH_SECONDS = 2.0
"""How much work a kill may cost."""
FLUSH_BYTES = 4 << 20

ENTRY = np.dtype(
    [
        ("row", "<u8"),
        ("tokens", "<u8"),
        ("offset", "<u8"),
        ("count", "<u4"),
        ("data", "<u4"),
        ("unused", "<u4"),
        ("check", "<u4"),
    ]
)
"""Which row and which token ids (hashes), where its records begin, how many, their CRC-32, and that of the entry."""


@dataclass(frozen=True, slots=True)
class Key:
    """Which row, and which token ids it was read as: hashes of 64 bits (`keys.row_keys`)."""

    row: int
    tokens: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where the records of a row lie: shard, first byte, target tokens, CRC-32."""

    shard: int
    offset: int
    count: int
    data: int


@dataclass
class Damage:
    """What is wrong with the files of a cache.

    Attributes:
        lines: one a fault: the file and what is wrong with it.
        rows: how many rows are lost by it.
    """

    lines: list[str]
    rows: int = 0

    def __bool__(self) -> bool:
        return bool(self.lines)

    @property
    def words(self) -> str:
        """All of it in one line."""
        return "; ".join(self.lines)


class Index:
    """Which rows a folder of shards holds.

    Args:
        folder: of the cache.
        record_bytes: bytes of a target token.
    """

    def __init__(self, folder: Path, record_bytes: int) -> None:
        self.folder, self.record_bytes = folder, record_bytes
        self.places: dict[Key, Place] = {}
        self.known_rows: set[int] = set()
        self.damage = Damage([])
        for shard in shards(folder):
            self._read(shard)

    def _read(self, shard: int) -> None:
        path = index_path(self.folder, shard)
        raw = path.read_bytes() if path.is_file() else b""
        whole = len(raw) // ENTRY.itemsize
        entries = np.frombuffer(raw, ENTRY, count=whole)
        size = data_path(self.folder, shard).stat().st_size
        bad, beyond = 0, 0
        for entry, stored in zip(entries, _raw_entries(raw, whole), strict=True):
            if zlib.crc32(stored[:-4]) != entry["check"]:
                bad += 1
            elif int(entry["offset"]) + int(entry["count"]) * self.record_bytes > size:
                beyond += 1
            else:
                self._add(Key(int(entry["row"]), int(entry["tokens"])), _place(shard, entry))
        if bad:
            self.damage.lines.append(f"{path.name}: {bad:,} damaged {'entry' if bad == 1 else 'entries'}")
        if beyond:
            name = data_path(self.folder, shard).name
            self.damage.lines.append(f"{name}: cut short, {beyond:,} rows lie behind its end")
        self.damage.rows += bad + beyond

    def _add(self, key: Key, place: Place) -> None:
        self.places[key] = place
        self.known_rows.add(key.row)

    def __contains__(self, key: Key) -> bool:
        return key in self.places

    def __len__(self) -> int:
        return len(self.places)

    @property
    def tokens(self) -> int:
        """Target tokens of all rows."""
        return sum(place.count for place in self.places.values())

    @property
    def bytes(self) -> int:
        """Bytes of all files."""
        paths = [path(self.folder, shard) for shard in shards(self.folder) for path in (data_path, index_path)]
        return sum(path.stat().st_size for path in paths if path.is_file())


class Reader:
    """Reads rows by their keys, one `pread` each.

    Args:
        index: of the folder.
    """

    def __init__(self, index: Index) -> None:
        self.index = index
        self._files: dict[int, int] = {}
        weakref.finalize(self, _close, self._files)

    def records(self, key: Key) -> NDArray[np.uint8]:
        """`[n, record_bytes]` the records of a row.

        Raises:
            KeyError: the row is not there.
            RunError: its records are not what was written.
        """
        place = self.index.places[key]
        raw = self._raw(place)
        if raw is None:
            raise RunError(
                f"a row of {data_path(self.index.folder, place.shard)} is damaged (at byte {place.offset:,})",
                hint="`understudy cache RECIPE` finds all that is damaged and has the teacher say it anew",
            )
        return np.frombuffer(raw, np.uint8).reshape(place.count, self.index.record_bytes)

    def damaged(self) -> Iterator[tuple[Key, Place]]:
        """The rows whose records are not what was written; reads everything."""
        for key, place in sorted(self.index.places.items(), key=lambda item: (item[1].shard, item[1].offset)):
            if self._raw(place) is None:
                yield key, place

    def _raw(self, place: Place) -> bytes | None:
        if place.shard not in self._files:
            self._files[place.shard] = os.open(data_path(self.index.folder, place.shard), os.O_RDONLY)
        raw = os.pread(self._files[place.shard], place.count * self.index.record_bytes, place.offset)
        return raw if zlib.crc32(raw) == place.data else None


class Writer:
    """Appends rows to a folder; holds its lock.

    Use it as a context: what was added is on the disk when it is left, also by an error.

    Args:
        folder: of the cache.
        record_bytes: bytes of a target token.
    """

    def __init__(self, folder: Path, record_bytes: int) -> None:
        self.folder, self.record_bytes = folder, record_bytes
        busy = RunError(
            f"another process is writing the cache {folder}", hint="wait for it, or give this run a cache of its own"
        )
        self._lock = locked(folder / ".lock", busy)
        self._records: list[bytes] = []
        self._entries: list[Any] = []
        self._pending = 0
        self._flushed = time.monotonic()

    def __enter__(self) -> Self:
        self._lock.__enter__()
        last = max(shards(self.folder), default=0)
        self._open(last)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.flush()
        finally:
            self._lock.__exit__(kind, error, trace)

    def _open(self, shard: int) -> None:
        self.shard = shard
        data = data_path(self.folder, shard)
        self._size = data.stat().st_size if data.is_file() else 0
        index = index_path(self.folder, shard)
        odd = index.stat().st_size % ENTRY.itemsize if index.is_file() else 0
        if odd:
            os.truncate(index, index.stat().st_size - odd)  # a kill in the middle of an entry

    def add(self, key: Key, records: NDArray[np.uint8]) -> None:
        """Append a row."""
        if self._size and self._size + records.nbytes > SHARD_BYTES:
            self.flush()
            self._open(self.shard + 1)
        raw = records.tobytes()
        entry = np.zeros((), ENTRY)
        values = (key.row, key.tokens, self._size, len(records), zlib.crc32(raw))
        for name, value in zip(("row", "tokens", "offset", "count", "data"), values, strict=True):
            entry[name] = value
        entry["check"] = zlib.crc32(entry.tobytes()[:-4])
        self._records.append(raw)
        self._entries.append(entry.tobytes())
        self._size += len(raw)
        self._pending += len(raw)
        if self._pending > FLUSH_BYTES or time.monotonic() - self._flushed > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Put what was added on the disk.

        Raises:
            RunError: the disk is full or the folder cannot be written.
        """
        records, entries = b"".join(self._records), b"".join(self._entries)
        # What fails is not tried again when the context is left: a rerun goes on from what is on the disk.
        self._records, self._entries, self._pending, self._flushed = [], [], 0, time.monotonic()
        _append(data_path(self.folder, self.shard), records)
        _append(index_path(self.folder, self.shard), entries)


def is_whole(folder: Path, record_bytes: int) -> bool:
    """Whether every byte of a cache is what was written; reads everything."""
    index = Index(folder, record_bytes)
    return not index.damage and next(Reader(index).damaged(), None) is None


def repair(folder: Path, record_bytes: int) -> Damage:
    """Check every byte of a cache and forget the rows that are damaged; the others stay.

    Returns:
        What was found.

    Raises:
        RunError: another process is writing the cache.
    """
    index = Index(folder, record_bytes)
    damage, reader = index.damage, Reader(index)
    lost: dict[int, int] = {}
    for key, place in list(reader.damaged()):
        del index.places[key]
        lost[place.shard] = lost.get(place.shard, 0) + 1
    damage.rows += sum(lost.values())
    damage.lines += [
        f"{data_path(folder, shard).name}: {number:,} {'row is' if number == 1 else 'rows are'} not what was written"
        for shard, number in lost.items()
    ]
    if damage:
        busy = RunError(f"another process is writing the cache {folder}", hint="wait for it, then run this again")
        with locked(folder / ".lock", busy):
            for shard in shards(folder):
                _write_index(folder, shard, index.places.items())
    return damage


def _write_index(folder: Path, shard: int, places: Iterable[tuple[Key, Place]]) -> None:
    kept = [(key, place) for key, place in places if place.shard == shard]
    with atomic(index_path(folder, shard), "wb") as handle:
        for key, place in kept:
            entry = np.array((key.row, key.tokens, place.offset, place.count, place.data, 0, 0), ENTRY)
            entry["check"] = zlib.crc32(entry.tobytes()[:-4])
            handle.write(entry.tobytes())


def shards(folder: Path) -> list[int]:
    """Numbers of the shards of a folder."""
    return sorted(int(path.stem.removeprefix("shard-")) for path in folder.glob("shard-*.data"))


def data_path(folder: Path, shard: int) -> Path:
    """The records of a shard."""
    return folder / f"shard-{shard:05}.data"


def index_path(folder: Path, shard: int) -> Path:
    """The index of a shard."""
    return folder / f"shard-{shard:05}.index"


def _raw_entries(raw: bytes, number: int) -> Iterator[bytes]:
    size = ENTRY.itemsize
    return (raw[place * size : (place + 1) * size] for place in range(number))


def _place(shard: int, entry: Any) -> Place:
    return Place(shard, int(entry["offset"]), int(entry["count"]), int(entry["data"]))


def _close(files: dict[int, int]) -> None:
    for descriptor in files.values():
        os.close(descriptor)


def _append(path: Path, raw: bytes) -> None:
    try:
        with open(path, "ab") as handle:
            handle.write(raw)
            handle.flush()
            os.fsync(handle.fileno())
    except OSError as error:
        raise unwritable(path, error) from error
