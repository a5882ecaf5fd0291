"""`understudy serve` as its user starts it: a process of its own, on ports that are free, until it is stopped."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "src"


class ServeProcess:
    """A server that was started by the command.

    Attributes:
        process: of it.
        url: of the gateway, without `/v1`.
        page: of the dashboard; empty without a monitor.
        lines: what it has said so far.
    """

    def __init__(self, *arguments: object, **environment: str) -> None:
        variables = {**os.environ, "PYTHONPATH": str(SOURCES), "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
        command = [sys.executable, "-m", "understudy", "serve", *map(str, arguments), "--port", "0"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env={**variables, **environment}
        )
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.url = self._said(r"serving \S+ at (http://\S+)/v1")
        self.page = self._said(r"dashboard at (http://[^\s,]+)") if "--monitor" in arguments else ""

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line)

    def _said(self, pattern: str, seconds: float = 300) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := re.search(pattern, "".join(self.lines)):
                return found[1]
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        raise AssertionError("".join(self.lines))

    def kill(self) -> None:
        """End it as a machine that loses its power does."""
        self.process.kill()
        self._over()

    def stop(self) -> None:
        """End it as Ctrl-C does."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
        self._over()

    def _over(self) -> None:
        self.process.wait(60)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@contextmanager
def serve_command(*arguments: object, **environment: str) -> Iterator[ServeProcess]:
    """Serve while the block runs."""
    served = ServeProcess(*arguments, **environment)
    try:
        yield served
    finally:
        served.stop()
