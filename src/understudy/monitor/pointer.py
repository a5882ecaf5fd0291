"""Which student is in use and which one is tried beside it: one small file that is swapped whole.

```json
{"current": "runs/a", "candidate": "runs/b", "share": 0.1, "previous": null, "changed": 1764244800.0}
```

Whoever reads it sees the state before a change or the one after it, never something between; two who change it at once
do so one after the other.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from understudy.errors import RunError
from understudy.files import locked, read_json, write_json
from understudy.records.base import Record


@dataclass(frozen=True, slots=True)
class Pointer(Record):
    """What is served.

    Attributes:
        current: run folder of the student in use.
        candidate: run folder of the one that is tried; None without one.
        share: of the requests that the candidate answers, in [0, 1); 0: it is compared in the shadow alone.
        previous: run folder of the student before, to roll back to.
        changed: when the file was written, in seconds since 1970.
    """

    current: str
    candidate: str | None = None
    share: float = 0.0
    previous: str | None = None
    changed: float = 0.0

    def chosen(self, request: str) -> str:
        """The run that answers a request: a draw on its id, so that it can be told again afterwards."""
        digest = hashlib.sha256(f"{self.candidate}|{request}".encode("utf-8", "replace")).digest()
        tried = self.candidate is not None and int.from_bytes(digest[:8], "big") < self.share * 2**64
        return self.candidate if tried and self.candidate else self.current


class PointerFile:
    """The file, and the changes that there are.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> Pointer:
        """What is served now.

        Raises:
            DataError: there is no such file, or it is none of these.
        """
        return Pointer.from_json(read_json(self.path))

    def begin(self, run: str) -> Pointer:
        """Name the first student.

        Raises:
            RunError: there is one already.
        """
        with locked(self._lock):
            if self.path.exists():
                raise RunError(f"{self.path} is there already", hint="try a further student with `monitor try`")
            return self._write(Pointer(current=run))

    def attempt(self, run: str, share: float) -> Pointer:
        """Try a candidate beside the student in use, in place of whichever was tried before."""
        return self._change(lambda now: replace(now, candidate=run, share=share))

    def promote(self) -> Pointer:
        """The candidate becomes the student in use.

        Raises:
            RunError: there is no candidate.
        """
        return self._change(_promoted)

    def roll_back(self) -> Pointer:
        """Give the candidate up; without one, go back to the student before.

        Raises:
            RunError: there is neither.
        """
        return self._change(_rolled_back)

    @property
    def _lock(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def _change(self, change: Callable[[Pointer], Pointer]) -> Pointer:
        with locked(self._lock):
            return self._write(change(self.read()))

    def _write(self, pointer: Pointer) -> Pointer:
        pointer = replace(pointer, changed=round(time.time(), 3))
        write_json(self.path, pointer.to_json())
        return pointer


def _promoted(now: Pointer) -> Pointer:
    if now.candidate is None:
        raise RunError("there is no candidate to promote", hint="name one: understudy monitor try POINTER RUN")
    return Pointer(current=now.candidate, previous=now.current)


def _rolled_back(now: Pointer) -> Pointer:
    if now.candidate is not None:
        return replace(now, candidate=None, share=0.0)
    if now.previous is None:
        raise RunError("there is nothing to roll back to")
    return Pointer(current=now.previous, previous=now.current)
