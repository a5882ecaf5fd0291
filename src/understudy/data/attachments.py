"""Files that a row names or whose bytes it holds: pictures and recordings.

One goes through the house as text: the absolute path of its file with a digest of its bytes behind it, or these bytes
as a `data:` address. Two are the same where their bytes are, wherever they lie.
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
from pathlib import Path

from understudy.errors import DataError

MAX_BYTES = 50_000_000
"""Largest file: beyond this nobody means one row."""
_LONGEST_PATH = 80


def of_file(path: Path, noun: str) -> str:
    """What stands for a file: its absolute path, and what tells it from another that may come to lie there.

    Args:
        path: of the file.
        noun: what it is called in messages (`picture`, `recording`).

    Raises:
        DataError: it cannot be read, or is larger than `MAX_BYTES`.
    """
    path = path.resolve()
    return f"{path}#{_digest(_read(path, noun))}"


def address_of(content: bytes, kind: str) -> str:
    """The bytes of a file as a text; `kind` is `image` or `audio`."""
    return f"data:{kind}/*;base64,{base64.b64encode(content).decode('ascii')}"


def bytes_of(attached: str, noun: str) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: it is absent, too large or another by now, or no `data:` address of base64.
    """
    if not attached.startswith("data:"):
        path, _, digest = attached.rpartition("#")
        content = _read(Path(path), noun)
        if _digest(content) != digest:
            raise DataError(
                f"the {noun} {called(attached, noun)} is not the one that the data were read with",
                hint="put it back, or start a run of its own with the new one",
            )
        return content
    head, _, text = attached.partition(",")
    try:
        if not head.endswith(";base64"):
            raise ValueError
        content = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error) as error:
        raise DataError(f"{called(attached, noun)} is no data: address of base64") from error
    if len(content) > MAX_BYTES:
        raise DataError(f"{called(attached, noun)} takes {len(content):,} bytes; {MAX_BYTES:,} are the most")
    return content


def name_of(attached: str) -> str:
    """What one is told from others by: 16 hexadecimal digits of its bytes."""
    return _name_of_address(attached) if attached.startswith("data:") else attached.rpartition("#")[2]


def called(attached: str, noun: str) -> str:
    """How a message calls one: by its path, or as one that the row holds."""
    return f"a {noun} in the row" if attached.startswith("data:") else _end_of(attached.rpartition("#")[0])


@functools.lru_cache(maxsize=2**16)
def _name_of_address(attached: str) -> str:
    return _digest(bytes_of(attached, "file"))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _read(path: Path, noun: str) -> bytes:
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{_end_of(path)} takes {path.stat().st_size:,} bytes; {MAX_BYTES:,} are the most")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no path of a file"
        raise DataError(f"cannot read the {noun} {_end_of(path)}: {reason}") from error


def _end_of(path: Path | str) -> str:
    """A path as messages have it: of a long one the end, for there the name stands."""
    text = str(path)
    return text if len(text) <= _LONGEST_PATH else f"…{text[-_LONGEST_PATH:]}"
