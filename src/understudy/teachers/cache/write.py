"""Fills a cache: the rows that it lacks are read by the teacher, a batch of like lengths at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from understudy.models.output import CandidateOutput, VocabularyOutput
from understudy.teachers.cache.bare import FILE as HEAD_FILE
from understudy.teachers.cache.bare import FOLDER as HEAD_FOLDER
from understudy.teachers.cache.bare import write_bare
from understudy.teachers.cache.formats import StatesFormat, TargetFormat, row_seed
from understudy.teachers.cache.keys import row_keys
from understudy.teachers.cache.store import Index, Key, Writer
from understudy.teachers.local import LocalTeacher
from understudy.tokens.collate import EncodedRow, move
from understudy.types import Batch

BATCH_TOKENS = 4096
"""Positions of a batch, padding included."""
TIMED_BATCHES = 4


@dataclass(frozen=True)
class Costs:
    """Seconds a target token: the teacher itself, putting what it says into records, and reading these.

    A training that hears the teacher live pays `teacher` for each token and epoch; one that is cached pays
    `teacher + record` once, and `read` each epoch.
    """

    teacher: float
    record: float
    read: float

    @property
    def epochs(self) -> float:
        """Passes over the rows after which the cache has cost less than hearing the teacher in each of them."""
        saved = self.teacher - self.read
        return (self.teacher + self.record) / saved if saved > 0 else float("inf")


@dataclass(frozen=True)
class Row:
    """A row that a teacher is to read: its key, and what it is in a batch of one."""

    key: Key
    row: EncodedRow


def rows_to_read(rows: Sequence[EncodedRow], pad_id: int) -> list[Row]:
    """The rows that are different to the teacher, each once."""
    different: dict[Key, Row] = {}
    for row in rows:
        # Rows on which the teacher is not heard stand in the same batches, and it is asked for all of a batch.
        key = row_keys(teacher_batch([row], pad_id))[0]
        different.setdefault(key, Row(key, row))
    return list(different.values())


def teacher_batch(rows: Sequence[EncodedRow], pad_id: int) -> Batch:
    """A batch of what the teacher alone reads."""
    sides = [row.teacher for row in rows]
    kept = [side for side in sides if side is not None]
    assert len(kept) == len(rows), "rows were encoded without a teacher"
    tokens = type(kept[0]).batched(kept, pad_id)
    return {"student": tokens, "teacher": tokens, "gold_rows": torch.ones(len(rows)), "ids": [row.id for row in rows]}


def batches(rows: Sequence[Row], pad_id: int) -> Iterator[tuple[list[Row], Batch]]:
    """Rows of like lengths together, the longest first: what does not fit into memory shows at once."""
    ordered = sorted(rows, key=lambda row: -_length(row.row))
    while ordered:
        size = max(1, BATCH_TOKENS // _length(ordered[0].row))
        taken, ordered = ordered[:size], ordered[size:]
        yield taken, teacher_batch([row.row for row in taken], pad_id)


def _length(row: EncodedRow) -> int:
    return len(row.teacher.ids) if row.teacher else 0


def time_costs(
    teacher: LocalTeacher, rows: Sequence[Row], targets: TargetFormat, pad_id: int, device: torch.device
) -> Costs:
    """Time a few batches from all over the rows; the first is not counted."""
    places = sorted({place * (len(rows) - 1) // TIMED_BATCHES for place in range(TIMED_BATCHES + 1)})
    seconds, tokens = [0.0, 0.0, 0.0], 0
    for number, place in enumerate([places[0], *places]):
        taken = sorted(rows, key=lambda row: -_length(row.row))[place : place + 8]
        batch = move(teacher_batch([row.row for row in taken], pad_id), device)
        spent, lengths = [], ()
        start = time.perf_counter()
        output: Any = teacher.signal(batch)
        _wait(device)
        spent.append(time.perf_counter() - start)
        start = time.perf_counter()
        records = targets.encode(output, [0] * len(output.lengths))
        spent.append(time.perf_counter() - start)
        start = time.perf_counter()
        lengths = output.lengths
        if isinstance(targets, StatesFormat):
            targets.states(records, device)
        else:
            targets.decode(records, output.target_ids, lengths, targets.temperatures[0], device)
        _wait(device)
        spent.append(time.perf_counter() - start)
        if number:
            seconds = [total + own for total, own in zip(seconds, spent, strict=True)]
            tokens += len(records)
    return Costs(*(value / max(tokens, 1) for value in seconds))


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def fill(
    folder: Path,
    targets: TargetFormat,
    teacher: LocalTeacher,
    rows: Sequence[Row],
    pad_id: int,
    device: torch.device,
    progress: Callable[[int, int, str], None],
    note: str = "",
) -> int:
    """Write the rows that the cache lacks.

    Args:
        folder: of the cache; its identity stands.
        targets: format of its targets.
        teacher: says what is written.
        rows: all that must be there in the end.
        pad_id: pads the teacher's rows.
        device: where the teacher is.
        progress: called with (rows that are there, all rows, note).
        note: said along.

    Returns:
        How many rows were written.
    """
    if isinstance(targets, StatesFormat) and not (folder / HEAD_FOLDER / HEAD_FILE).is_file():
        write_bare(teacher.model, folder)
    with Writer(folder, targets.record_bytes) as writer:
        # Looked at under the lock: another process may have written rows meanwhile.
        index = Index(folder, targets.record_bytes)
        missing = [row for row in rows if row.key not in index]
        done = len(rows) - len(missing)
        for taken, batch in batches(missing, pad_id):
            output = teacher.signal(move(batch, device))
            assert isinstance(output, VocabularyOutput | CandidateOutput)
            said: Any = output
            records = targets.encode(said, [row_seed(row.key.row, row.key.tokens) for row in taken])
            ends = np.cumsum(output.lengths)
            for row, own in zip(taken, np.split(records, ends[:-1]), strict=True):
                writer.add(row.key, own)
            done += len(taken)
            progress(done, len(rows), note)
    return len(missing)
