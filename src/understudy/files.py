"""Files that are whole or absent: atomic writes, locks, JSONL, fingerprints."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from understudy.errors import DataError, RunError
from understudy.strict_json import JsonFault, parse_json

PART = ".part"
"""What a file or folder is called behind its name until it is whole."""
RERUN_HINT = "free some space, then run the same command again: it goes on from here"


@contextmanager
def atomic(path: str | os.PathLike[str], mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that takes its name only once it is written in full.

    The text goes to a temporary sibling, is flushed to the disk and renamed; an exception or a kill leaves
    whatever stood there before.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PART)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        with os.fdopen(descriptor, mode, encoding=None if "b" in mode else "utf-8") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:
        Path(temporary).unlink(missing_ok=True)
        raise unwritable(path, error) from error
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def unwritable(path: Path, error: OSError) -> RunError:
    """The error of a file or folder that the system refuses to write, with what to do about it."""
    return RunError(
        f"cannot write {path}: {error.strerror or error}",
        hint="free some space or choose another folder, then run the same command again: it goes on from here",
    )


_REFUSALS = tuple(os.strerror(code) for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO))
_TENSOR_WRITERS = ("PytorchStreamWriter", "unexpected pos", "iostream error")


def disk_fault(error: BaseException) -> str:
    """Why the disk refused to take more, in the system's words; empty if the error tells of something else.

    The writers of tensors and tokenizers wrap the system's word in exceptions of their own, some as plain `Exception`.
    """
    text = str(error)
    refusal = next((reason for reason in _REFUSALS if reason in text), "")
    return refusal or ("the file could not be written" if any(mark in text for mark in _TENSOR_WRITERS) else "")


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder that takes its name only once everything in it is written and on the disk.

    Raises:
        RunError: the disk is full or the folder cannot be written.
    """
    part = target.with_name(target.name + PART)
    shutil.rmtree(part, ignore_errors=True)
    try:
        part.mkdir(parents=True)
        yield part
        for path in part.rglob("*"):
            if path.is_file():
                with open(path, "rb") as handle:
                    os.fsync(handle.fileno())
        shutil.rmtree(target, ignore_errors=True)
        os.replace(part, target)
    except BaseException as error:
        shutil.rmtree(part, ignore_errors=True)
        reason = disk_fault(error) or (isinstance(error, OSError) and (error.strerror or str(error)))
        if not reason or isinstance(error, RunError):
            raise
        raise RunError(f"cannot write {target}: {reason}", hint=RERUN_HINT) from error


def cache_folder(name: str) -> Path:
    """A folder of what commands keep for one another, paid answers among it; `UNDERSTUDY_CACHE` puts it elsewhere."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("UNDERSTUDY_CACHE") or f"{home}/understudy").expanduser() / name


@contextmanager
def locked(path: Path, busy: RunError | None = None, *, patience: int = 0) -> Iterator[None]:
    """Hold a lock file; the lock dies with the process that holds it.

    Args:
        path: the lock file, made with its folder where it is not there.
        busy: what is raised where another process holds it; None waits until it is free.
        patience: how often to try again before that, a tenth of a second apart, for locks that are held for a moment.

    Raises:
        RunError: another process holds it, or the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(path, "a")  # noqa: SIM115
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"cannot write {path.parent}: {reason}", hint="choose another folder with output=…") from error
    with handle:
        if busy is None:
            fcntl.flock(handle, fcntl.LOCK_EX)
        else:
            _try_lock(handle, path, busy, patience)
        yield


def _try_lock(handle: IO[Any], path: Path, busy: RunError, patience: int) -> None:
    while True:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The holder before us may just have removed the folder, and the lock with it.
            os.stat(path)
            return
        except OSError as error:
            if not patience:
                raise busy from error
            patience -= 1
            time.sleep(0.1)


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock file; asking does not take it from anybody."""
    try:
        with open(path) as handle:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    with atomic(path) as handle:
        json.dump(value, handle, indent=2, ensure_ascii=False)
        handle.write("\n")


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read one JSON document.

    Raises:
        DataError: the file is absent or no JSON; the line is named.
    """
    text = read_text(path)
    try:
        return parse_json(text)
    except JsonFault as fault:
        raise DataError(fault.at(path)) from fault


def read_text(path: str | os.PathLike[str]) -> str:
    """Read a UTF-8 text file, with or without a byte order mark.

    Raises:
        DataError: the file is absent, a folder, or not UTF-8.
    """
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise DataError(f"no such file: {path}", hint="check the path; it is relative to the current folder") from error
    except IsADirectoryError as error:
        raise DataError(f"{path} is a folder, not a file") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 (byte {error.start})", hint="convert it to UTF-8 first") from error


def write_jsonl(path: str | os.PathLike[str], rows: Iterable[Any]) -> None:
    """Write one JSON value a line, whole or not at all."""
    with atomic(path) as handle:
        for row in rows:
            handle.write(json.dumps(row, ensure_ascii=False) + "\n")


def read_jsonl(path: str | os.PathLike[str]) -> list[Any]:
    """Read one JSON value a line; blank lines are passed over.

    Raises:
        DataError: the file is absent, or a line is no JSON; the line is named.
    """
    rows = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append(parse_json(line))
        except JsonFault as fault:
            raise DataError(f"{path}:{number}: {fault.reason}") from fault
    return rows


def fingerprint(value: Any, length: int = 16) -> str:
    """SHA-256 of a JSON-able value in canonical form (sorted keys), as `length` hexadecimal digits."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def fingerprint_file(path: str | os.PathLike[str], length: int = 16) -> str:
    """SHA-256 of a file's bytes, as `length` hexadecimal digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()[:length]


def fingerprint_tree(path: str | os.PathLike[str]) -> str:
    """Path and content of every file below a folder, hidden ones left out, as one fingerprint; or that of a file."""
    root = Path(path).expanduser()
    if root.is_file():
        return fingerprint_file(root)
    below = sorted(file for file in root.rglob("*") if file.is_file())
    names = [file.relative_to(root) for file in below]
    kept = [name for name in names if not any(part.startswith(".") for part in name.parts)]
    return fingerprint([[name.as_posix(), fingerprint_file(root / name)] for name in kept])


def fingerprint_folder(path: str | os.PathLike[str], length: int = 16) -> str:
    """Name, size, first and last mebibyte of every file in a folder as one fingerprint: quick for large weights too.

    A file counts as a folder of itself.
    """
    entries = []
    for file in [Path(path)] if Path(path).is_file() else sorted(Path(path).iterdir()):
        if not file.is_file():
            continue
        size = file.stat().st_size
        with open(file, "rb") as handle:
            head = handle.read(1 << 20)
            handle.seek(max(0, size - (1 << 20)))
            ends = hashlib.sha256(head + handle.read())
        entries.append([file.name, size, ends.hexdigest()])
    return fingerprint(entries, length)
