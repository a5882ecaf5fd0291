"""Files are whole or absent, whatever interrupts the writing."""

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import DataError, RunError
from understudy.files import (
    atomic,
    cache_folder,
    disk_fault,
    fingerprint,
    fingerprint_file,
    fingerprint_folder,
    is_locked,
    locked,
    read_json,
    read_jsonl,
    write_json,
    write_jsonl,
)

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
# A lone surrogate is no text that a file could hold.
JSON = JSON.filter(lambda value: "\\ud" not in ascii(value))


@given(JSON)
def test_json_comes_back_as_it_went(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert read_json(path) == value


@given(st.lists(JSON))
def test_lines_come_back_as_they_went(tmp_path_factory: pytest.TempPathFactory, rows: list) -> None:
    path = tmp_path_factory.getbasetemp() / "rows.jsonl"
    write_jsonl(path, rows)
    assert read_jsonl(path) == rows


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_json(path, {"old": 1})
    with pytest.raises(ZeroDivisionError), atomic(path) as handle:
        handle.writelines(str(1 // (2 - number)) for number in range(4))
    assert read_json(path) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.json"]


def test_a_kill_in_mid_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_json(path, {"old": 1})
    program = (
        "import sys, time\nfrom understudy.files import atomic\n"
        f"with atomic({str(path)!r}) as handle:\n"
        "    handle.write('half' * 100_000); handle.flush(); print('written', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert read_json(path) == {"old": 1}
    [left] = [entry for entry in tmp_path.iterdir() if entry != path]
    assert left.name.endswith(".part")


def test_a_full_disk_is_one_sentence_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "scores.json"
    write_json(path, {"old": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(RunError, match=r"cannot write .*scores\.json: File too large") as caught:
            write_json(path, {"new": "x" * 1000})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "run the same command again" in caught.value.hint
    assert read_json(path) == {"old": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["scores.json"]


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(RunError, match="cannot write"):
        write_json(tmp_path / "taken" / "scores.json", 1)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), "No space left on device"),
        (OSError(errno.EROFS, os.strerror(errno.EROFS), "/x"), "Read-only file system"),
        (Exception("No space left on device (os error 28)"), "No space left on device"),
        (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), "could not be written"),
        (ValueError("no space for a fifth choice"), ""),
        (FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "x"), ""),
    ],
)
def test_a_full_disk_is_known_by_whatever_name_it_comes(error: Exception, reason: str) -> None:
    assert reason in disk_fault(error)
    assert bool(reason) == bool(disk_fault(error))


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'{"a": 1}\n{"a": \n', r"rows\.jsonl:2: not valid JSON"), (b"\xff\xfe\x00", r"rows\.jsonl is not UTF-8")],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_jsonl(path)


def test_absent_and_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_json(tmp_path / "none.json")
    with pytest.raises(DataError, match="is a folder, not a file"):
        read_json(tmp_path)


@given(st.dictionaries(st.text(), JSON))
def test_a_fingerprint_does_not_ask_for_the_order_of_keys(value: dict) -> None:
    assert fingerprint(value) == fingerprint(dict(reversed(value.items())))


def test_known_fingerprints(tmp_path: Path) -> None:
    # SHA-256 of "abc" (FIPS 180-2, appendix B.1).
    (tmp_path / "abc").write_bytes(b"abc")
    assert fingerprint_file(tmp_path / "abc") == "ba7816bf8f01cfea"
    # SHA-256 of "{}".
    assert fingerprint({}, length=8) == "44136fa3"


def test_a_folder_has_another_fingerprint_once_one_byte_of_it_has_changed(tmp_path: Path) -> None:
    (tmp_path / "weights").write_bytes(b"x" * 3_000_000)
    first = fingerprint_folder(tmp_path)
    assert fingerprint_folder(tmp_path) == first
    (tmp_path / "weights").write_bytes(b"x" * 2_999_999 + b"y")
    second = fingerprint_folder(tmp_path)
    (tmp_path / "weights").rename(tmp_path / "other")
    assert len({first, second, fingerprint_folder(tmp_path)}) == 3


HOLD = """
import sys
from pathlib import Path
from understudy.files import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_lock_keeps_others_out_and_dies_with_its_process(tmp_path: Path) -> None:
    path, busy = tmp_path / "new" / ".lock", RunError("somebody is here")
    assert not is_locked(path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    assert is_locked(path)
    with pytest.raises(RunError, match="somebody is here"), locked(path, busy, patience=1):
        pass
    holder.kill()
    holder.communicate()
    assert not is_locked(path)
    with locked(path, busy):
        assert is_locked(path)
    assert not is_locked(path)


def test_the_cache_stands_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "mine"))
    assert cache_folder("judge") == tmp_path / "mine" / "judge"
    monkeypatch.delenv("UNDERSTUDY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder("judge") == tmp_path / "understudy" / "judge"
