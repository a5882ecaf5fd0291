"""How much memory a model takes: above what the process held before it was loaded."""

from __future__ import annotations

import ctypes
import gc
import re
import resource
import sys
from pathlib import Path

import torch

STATUS = Path("/proc/self/status")


class PeakMemory:
    """The high-water mark since the moment this object was made.

    On a GPU, bytes that PyTorch has allocated there. On Linux, growth of resident memory, the mark set back first.
    Elsewhere, growth of the process's own all-time mark, which can only understate.
    """

    def __init__(self, device: torch.device) -> None:
        gc.collect()
        self.cuda = device.type == "cuda"
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            self.before = float(torch.cuda.memory_allocated())
        elif STATUS.exists():
            # What an earlier model left to the allocator would be taken again without any growth.
            trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
            if trim is not None:
                trim(0)
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            self.before = _status("VmRSS")
        else:
            self.before = _all_time()

    def bytes(self) -> float:
        """The mark, above what was held before."""
        if self.cuda:
            peak = float(torch.cuda.max_memory_allocated())
        else:
            peak = _status("VmHWM") if STATUS.exists() else _all_time()
        return max(0.0, peak - self.before)


def _status(name: str) -> float:
    match = re.search(rf"^{name}:\s+(\d+) kB", STATUS.read_text(encoding="ascii"), re.MULTILINE)
    assert match is not None
    return float(match[1]) * 1024


def _all_time() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak if sys.platform == "darwin" else peak * 1024)
