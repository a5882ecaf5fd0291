"""Keys of clients: kept as hashes, each with limits of its own.

A key has 256 random bits, so one SHA-256 of it cannot be turned round and needs no salt. It is shown once, when it is
made. The file is read again when it changes, so a key that is revoked is refused from the next request on.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from understudy.errors import ConfigError, DataError, RunError, listed
from understudy.files import atomic, locked, read_json
from understudy.records.base import Record

PREFIX = "us-"
"""What every key begins with, so that scanners for leaked keys can know one."""


@dataclass(frozen=True, slots=True)
class KeyLimits(Record):
    """What one key may do; None: as much as the server can.

    Attributes:
        requests_per_minute: on the long run, and at once.
        tokens_per_minute: read and written, on the long run, and at once.
        concurrent: requests under way at once.
    """

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None


@dataclass(frozen=True, slots=True)
class Key(Record):
    """A key as it is kept.

    Attributes:
        id: by which it is called in lists, logs and commands.
        name: whose it is.
        hash: SHA-256 of the key, in hexadecimal.
        created: seconds since 1970.
        requests_per_minute: see `KeyLimits`.
        tokens_per_minute: see `KeyLimits`.
        concurrent: see `KeyLimits`.
        revoked: seconds since 1970; None while it is good.
    """

    id: str
    name: str
    hash: str
    created: float
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    concurrent: int | None = None
    revoked: float | None = None

    @property
    def limits(self) -> KeyLimits:
        """What it may do."""
        return KeyLimits(self.requests_per_minute, self.tokens_per_minute, self.concurrent)


class KeyFile:
    """The keys of a server.

    Args:
        path: of the file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int] | None = None
        self._keys: dict[str, Key] = {}

    def all(self) -> list[Key]:
        """All keys, revoked ones too, in the order in which they were made.

        Raises:
            DataError: the file is none of keys.
        """
        self._refresh()
        return sorted(self._keys.values(), key=lambda key: key.created)

    def find(self, key: str) -> Key | None:
        """The good key that a client has sent; None where there is none.

        Raises:
            DataError: the file is none of keys.
        """
        self._refresh()
        digest = _hash(key)
        known = self._keys.get(digest)
        good = known is not None and known.revoked is None and hmac.compare_digest(known.hash, digest)
        return known if good else None

    def add(self, name: str, limits: KeyLimits | None = None) -> tuple[str, Key]:
        """Make a key: itself, which is kept nowhere, and what is kept of it.

        Raises:
            RunError: the file cannot be written.
        """
        secret, limits = PREFIX + secrets.token_urlsafe(32), limits or KeyLimits()
        key = Key(f"key-{secrets.token_hex(4)}", name, _hash(secret), round(time.time(), 3), **limits.to_json())
        self._change(lambda keys: [*keys, key])
        return secret, key

    def revoke(self, id: str) -> Key:
        """Refuse a key from now on.

        Raises:
            ConfigError: there is no key of that id.
            RunError: the file cannot be written.
        """
        named = [key for key in self.all() if key.id == id or key.name == id]
        if not named:
            raise ConfigError(f"there is no key {id!r}", hint=f"there are: {listed(k.id for k in self.all())}")
        if len(named) > 1:
            raise ConfigError(f"{len(named)} keys are called {id!r}", hint=f"give an id: {listed(k.id for k in named)}")
        revoked = replace(named[0], revoked=named[0].revoked or round(time.time(), 3))
        self._change(lambda keys: [revoked if key.id == revoked.id else key for key in keys])
        return revoked

    def _change(self, change: Callable[[list[Key]], list[Key]]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        busy = RunError(f"another process is changing {self.path}", hint="try again")
        with locked(self.path.with_name(f".{self.path.name}.lock"), busy):
            self._seen = None
            rows = [key.to_json() for key in change(self.all())]
            with atomic(self.path) as handle:
                handle.write(json.dumps({"keys": rows}, indent=1, ensure_ascii=False) + "\n")
            self.path.chmod(0o600)
        self._seen = None

    def _refresh(self) -> None:
        try:
            status = self.path.stat()
        except OSError:
            self._keys, self._seen = {}, None
            return
        seen = (status.st_mtime_ns, status.st_ino)
        if seen != self._seen:
            self._keys = {key.hash: key for key in _read(self.path)}
            self._seen = seen


def _read(path: Path) -> list[Key]:
    content = read_json(path)
    rows = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{path} is no file of keys", hint="make one: understudy serve keys add NAME --keys FILE")
    return [Key.from_json(row) for row in rows]


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()
