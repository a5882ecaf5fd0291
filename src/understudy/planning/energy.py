"""What a computation draws, where the machine has a counter: RAPL of the processor, `nvidia-smi` of a GPU."""

from __future__ import annotations

import shutil
import subprocess
import threading
import time
from pathlib import Path

RAPL = Path("/sys/class/powercap")
INTERVAL = 1.0


class Meter:
    """Mean watts between `__enter__` and `__exit__`, as far as counters tell.

    Args:
        rapl: folder of the kernel's counters.
        smi: command that tells a GPU's draw.

    Attributes:
        watts: the mean; None where nothing counts.
        source: what has counted; empty where nothing does.
    """

    def __init__(self, rapl: Path = RAPL, smi: str = "nvidia-smi") -> None:
        self.rapl, self.smi = rapl, shutil.which(smi)
        self.watts: float | None = None
        self.source = ""
        self._stop = threading.Event()
        self._drawn: list[float] = []

    def __enter__(self) -> Meter:
        self._joules, self._began = _joules(self.rapl), time.monotonic()
        self._thread = threading.Thread(target=self._poll, daemon=True)
        if self.smi:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        seconds = time.monotonic() - self._began
        joules = _joules(self.rapl)
        self._stop.set()
        if self.smi:
            self._thread.join(timeout=5)
        parts = {}
        if joules is not None and self._joules is not None and joules > self._joules:
            parts["RAPL"] = (joules - self._joules) / seconds
        if self._drawn:
            parts["nvidia-smi"] = sum(self._drawn) / len(self._drawn)
        if parts:
            self.watts, self.source = sum(parts.values()), " and ".join(parts)

    def _poll(self) -> None:
        while not self._stop.wait(INTERVAL):
            command = [str(self.smi), "--query-gpu=power.draw", "--format=csv,noheader,nounits"]
            try:
                answer = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True).stdout
                self._drawn.append(sum(float(line) for line in answer.splitlines() if line.strip()))
            except (OSError, ValueError, subprocess.SubprocessError):
                return


def _joules(folder: Path) -> float | None:
    """What the packages of the processor have drawn since some moment; None where nobody counts or may be asked."""
    total = None
    for path in sorted(folder.glob("*-rapl:*/energy_uj")):
        if path.parent.name.count(":") != 1:
            continue  # A part of a package, which is counted in it.
        try:
            total = (total or 0.0) + int(path.read_text()) / 1e6
        except (OSError, ValueError):
            continue
    return total
