"""Rows on disk: what a kill, a cut shard, a flipped bit and a full disk leave of them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from understudy.errors import RunError
from understudy.teachers.cache import store
from understudy.teachers.cache.store import ENTRY, Index, Key, Reader, Writer, data_path, index_path, repair, shards

SIZE = 7


def records(row: int) -> np.ndarray:
    return np.random.default_rng(row).integers(0, 256, (row % 5 + 1, SIZE), dtype=np.uint8)


def written(folder: Path, rows: range) -> None:
    with Writer(folder, SIZE) as writer:
        for row in rows:
            writer.add(Key(row, row * 3), records(row))


def assert_whole(folder: Path, rows: range) -> None:
    index = Index(folder, SIZE)
    assert not index.damage
    reader = Reader(index)
    for row in rows:
        np.testing.assert_array_equal(reader.records(Key(row, row * 3)), records(row))


def test_rows_come_back_and_more_are_appended(tmp_path: Path) -> None:
    written(tmp_path, range(20))
    written(tmp_path, range(20, 50))
    assert_whole(tmp_path, range(50))
    index = Index(tmp_path, SIZE)
    assert index.tokens == sum(len(records(row)) for row in range(50))
    assert index.bytes == index.tokens * SIZE + 50 * ENTRY.itemsize
    assert Key(3, 9) in index
    assert Key(3, 10) not in index
    assert 3 in index.known_rows


def test_shards_are_closed_when_they_are_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SHARD_BYTES", 100)
    written(tmp_path, range(30))
    assert len(shards(tmp_path)) > 3
    assert max(data_path(tmp_path, shard).stat().st_size for shard in shards(tmp_path)) <= 100
    assert_whole(tmp_path, range(30))


@pytest.mark.parametrize("cut", [1, SIZE, 40])
def test_a_shard_cut_short_loses_the_rows_behind_its_end_and_no_other(tmp_path: Path, cut: int) -> None:
    written(tmp_path, range(20))
    path = data_path(tmp_path, 0)
    os.truncate(path, path.stat().st_size - cut)
    index = Index(tmp_path, SIZE)
    assert "shard-00000.data: cut short" in index.damage.words
    lost = [row for row in range(20) if Key(row, row * 3) not in index]
    assert lost == list(range(lost[0], 20))
    assert sum(len(records(row)) for row in lost[1:]) * SIZE < cut
    assert repair(tmp_path, SIZE).rows == len(lost)
    assert not repair(tmp_path, SIZE)
    with Writer(tmp_path, SIZE) as writer:
        for row in lost:
            writer.add(Key(row, row * 3), records(row))
    assert_whole(tmp_path, range(20))


@pytest.mark.parametrize("seed", range(8))
def test_a_flipped_bit_anywhere_is_found_and_costs_one_row(tmp_path: Path, seed: int) -> None:
    written(tmp_path, range(20))
    draw = random.Random(seed)
    path = [data_path, index_path][seed % 2](tmp_path, 0)
    raw = bytearray(path.read_bytes())
    raw[draw.randrange(len(raw))] ^= 1 << draw.randrange(8)
    path.write_bytes(raw)
    index = Index(tmp_path, SIZE)
    reader, right, damaged = Reader(index), 0, index.damage.words
    for row in range(20):
        try:
            np.testing.assert_array_equal(reader.records(Key(row, row * 3)), records(row))
            right += 1
        except KeyError:
            pass
        except RunError as error:
            damaged += error.message
    assert path.name in damaged
    assert right == 19
    damage = repair(tmp_path, SIZE)
    assert damage.rows == 1
    assert path.name in damage.words
    assert len(Index(tmp_path, SIZE)) == 19
    assert not Index(tmp_path, SIZE).damage


def test_an_index_cut_within_an_entry_goes_on(tmp_path: Path) -> None:
    written(tmp_path, range(20))
    path = index_path(tmp_path, 0)
    os.truncate(path, path.stat().st_size - 13)
    written(tmp_path, range(19, 25))
    assert_whole(tmp_path, range(25))


def test_two_writers_do_not_write_at_once(tmp_path: Path) -> None:
    with Writer(tmp_path, SIZE), pytest.raises(RunError, match="another process"):
        Writer(tmp_path, SIZE).__enter__()


WRITING = """
import sys, time
sys.path.insert(0, sys.argv[3])
from test_cache_store import Index, Key, Writer, records, SIZE
from pathlib import Path
from understudy.teachers.cache import store
store.FLUSH_SECONDS, store.SHARD_BYTES = 0.01, 4000
folder = Path(sys.argv[1])
with Writer(folder, SIZE) as writer:
    index = Index(folder, SIZE)
    print("ready", flush=True)
    for row in range(int(sys.argv[2])):
        if Key(row, row * 3) not in index:
            writer.add(Key(row, row * 3), records(row))
            time.sleep(0.0005)
"""


def test_twenty_kills_leave_no_wrong_row(tmp_path: Path) -> None:
    """SIGKILL at random moments of writing; what stands after each is right, and the last start finishes."""
    draw, rows, seen = random.Random(1), 3000, 0
    command = [sys.executable, "-c", WRITING, str(tmp_path), str(rows), str(Path(__file__).parent)]
    for _ in range(20):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(draw.uniform(0.01, 0.15))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        index = Index(tmp_path, SIZE)
        assert not index.damage
        assert len(index) >= seen
        seen = len(index)
        reader = Reader(index)
        assert not list(reader.damaged())
        assert 0 < seen < rows
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    assert_whole(tmp_path, range(rows))
