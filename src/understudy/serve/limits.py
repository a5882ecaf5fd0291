"""How much is let in: answers under way in all, and requests and tokens of each key."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from understudy.errors import UnderstudyError
from understudy.serve.keys import Key, KeyLimits


class Refused(UnderstudyError):
    """A request that is not let in now; `wait` is after how many seconds it may be."""

    def __init__(self, message: str, *, wait: float, code: str) -> None:
        super().__init__(message)
        self.wait, self.code = max(1, math.ceil(wait)), code


class Admission:
    """Counts answers under way, so that what waits is bounded.

    Args:
        most: answers under way or waiting, at most.
        at_once: how many are written side by side, to guess how long one more would wait.
    """

    def __init__(self, most: int, at_once: int) -> None:
        self.most, self._at_once = most, max(1, at_once)
        self.under_way = 0
        self._mean_seconds = 1.0

    @contextmanager
    def admitted(self, count: int = 1) -> Iterator[None]:
        """Let so many answers in until the block ends.

        Raises:
            Refused: there is no room.
        """
        if self.under_way + count > self.most:
            wait = self._mean_seconds * self.under_way / self._at_once
            raise Refused(f"{self.under_way} answers are waiting already", wait=min(wait, 60), code="queue_full")
        self.under_way += count
        begin = time.monotonic()
        try:
            yield
        finally:
            self.under_way -= count
            # Recent answers count most: a server that was idle all night says nothing of now.
            self._mean_seconds += 0.1 * (time.monotonic() - begin - self._mean_seconds)


@dataclass
class _Account:
    """What one key has left.

    Attributes:
        requests: that it may send at once.
        tokens: likewise; below 0 where more was written than was left.
        since: when both were counted.
        under_way: requests.
    """

    requests: float
    tokens: float
    since: float
    under_way: int = 0


class KeyMeter:
    """Buckets of requests and tokens, and requests under way, of each key.

    Args:
        default: limits of whoever has no key of its own.
        clock: seconds that never go backwards.
    """

    def __init__(self, default: KeyLimits | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        self._default, self._clock = default or KeyLimits(), clock
        self._accounts: dict[str, _Account] = {}

    @contextmanager
    def metered(self, key: Key | None) -> Iterator[Callable[[int], None]]:
        """Count a request of a key until the block ends; what is given takes the tokens that it read and wrote.

        Raises:
            Refused: the key has no request or no token left, or as many under way as it may.
        """
        limits = key.limits if key else self._default
        account = self._account(key.id if key else "", limits)
        self._check(account, limits)
        account.requests -= 1
        account.under_way += 1

        def spend(tokens: int) -> None:
            account.tokens -= tokens

        try:
            yield spend
        finally:
            account.under_way -= 1

    def _account(self, id: str, limits: KeyLimits) -> _Account:
        requests, tokens = (_or_infinity(n) for n in (limits.requests_per_minute, limits.tokens_per_minute))
        now = self._clock()
        account = self._accounts.setdefault(id, _Account(requests, tokens, now))
        passed, account.since = now - account.since, now
        account.requests = min(requests, account.requests + passed * requests / 60) if passed else account.requests
        account.tokens = min(tokens, account.tokens + passed * tokens / 60) if passed else account.tokens
        return account

    def _check(self, account: _Account, limits: KeyLimits) -> None:
        if limits.concurrent is not None and account.under_way >= limits.concurrent:
            raise Refused(f"this key has {account.under_way} requests under way", wait=1, code="too_many_at_once")
        if limits.requests_per_minute is not None and account.requests < 1:
            wait = (1 - account.requests) * 60 / limits.requests_per_minute
            raise Refused(f"this key may ask {limits.requests_per_minute} times a minute", wait=wait, code="requests")
        if limits.tokens_per_minute is not None and account.tokens <= 0:
            wait = (1 - account.tokens) * 60 / limits.tokens_per_minute
            raise Refused(f"this key may use {limits.tokens_per_minute} tokens a minute", wait=wait, code="tokens")


def _or_infinity(limit: int | None) -> float:
    return math.inf if limit is None else float(limit)
