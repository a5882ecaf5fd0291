"""Alerts: written down first, then logged, then told to a webhook by a thread of its own."""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from collections import deque
from queue import SimpleQueue

from understudy.monitor.config import AlertConfig
from understudy.monitor.store import MonitorStore
from understudy.serve.exchange import Exchange

log = logging.getLogger("understudy.monitor")
_TIMEOUT, _TRIES, _PAUSE = 10, 5, 0.5
_QUIET_SECONDS = 3600
WINDOW = 200


class Alerts:
    """Tells whoever wants to know; the same rule at most once an hour.

    Args:
        store: where alerts are written.
        webhook: address that gets JSON (`rule`, `message`, `time`, `id`); None: the log alone.
    """

    def __init__(self, store: MonitorStore, webhook: str | None) -> None:
        self._store, self._webhook = store, webhook
        self._last: dict[str, float] = {}
        self._queue: SimpleQueue[tuple[int, dict] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._send_all, name="alerts", daemon=True)
        self._thread.start()

    def raise_alert(self, rule: str, message: str) -> bool:
        """Write, log and tell; whether it was not said within the last hour."""
        now = time.time()
        if now - self._last.get(rule, 0) < _QUIET_SECONDS:
            return False
        self._last[rule] = now
        number = self._store.write_alert(rule, message, at=now)
        log.warning("%s: %s", rule, message)
        if self._webhook:
            self._queue.put((number, {"id": number, "rule": rule, "message": message, "time": round(now, 3)}))
        return True

    def _send_all(self) -> None:
        while (entry := self._queue.get()) is not None:
            if self._send(entry[1]):
                self._store.mark_told(entry[0])
            else:
                log.error("the webhook did not take alert %d (%s)", entry[0], entry[1]["rule"])

    def _send(self, body: dict) -> bool:
        assert self._webhook is not None
        request = urllib.request.Request(
            self._webhook, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
        )
        for attempt in range(_TRIES):
            try:
                with urllib.request.urlopen(request, timeout=_TIMEOUT):
                    return True
            except (urllib.error.URLError, OSError, ValueError):
                time.sleep(_PAUSE * 2**attempt)
        return False

    def close(self) -> None:
        """Send what waits, and end."""
        self._queue.put(None)
        self._thread.join(_TIMEOUT)


class Thresholds:
    """Rules on the last requests: failures of the server, and time.

    Args:
        config: the bounds.
    """

    def __init__(self, config: AlertConfig) -> None:
        self._config = config
        self._errors: deque[bool] = deque(maxlen=WINDOW)
        self._seconds: deque[float] = deque(maxlen=WINDOW)

    def update(self, exchange: Exchange) -> list[tuple[str, str]]:
        """Take a request; the rules that are broken, with words. Nothing is said of fewer than 200 requests."""
        self._errors.append(exchange.status >= 500)
        self._seconds.append(exchange.seconds)
        if len(self._errors) < WINDOW:
            return []
        return [*self._failing(), *self._slow()]

    def _failing(self) -> list[tuple[str, str]]:
        share, most = sum(self._errors) / WINDOW, self._config.max_error_share
        if most is None or share <= most:
            return []
        return [("errors", f"{share:.0%} of the last {WINDOW} requests failed (bound: {most:.0%})")]

    def _slow(self) -> list[tuple[str, str]]:
        most, slow = self._config.max_seconds, sorted(self._seconds)[int(0.95 * WINDOW)]
        if most is None or slow <= most:
            return []
        return [("latency", f"95 in 100 of the last {WINDOW} requests took up to {slow:.1f} s (bound: {most:.1f} s)")]
