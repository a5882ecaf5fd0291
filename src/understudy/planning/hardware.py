"""What a plan knows of hardware: figures of GPUs that need not be here, and the memory of this machine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from understudy.errors import unknown

UTILISATION = 0.35
"""Share of the published dense bfloat16 peak that training and reading are taken to reach. A convention of the plan,
not a measurement: small models reach less, large ones on well-filled batches more."""
BANDWIDTH_SHARE = 0.6
"""The same of the published memory bandwidth, which decoding is taken to be bound by."""


LAUNCH = 8e-6
"""Seconds that a kernel takes at least: what small models are bound by."""
KERNELS_READ, KERNELS_TRAINED = 20, 60
"""Kernels of a block's forward pass, and of its forward and backward pass."""


@dataclass(frozen=True)
class Gpu:
    """Published figures of one GPU.

    Attributes:
        title: how its maker calls it.
        memory: bytes.
        flops: dense bfloat16 operations a second.
        bandwidth: bytes a second of its memory.
        watts: board power.
    """

    title: str
    memory: float
    flops: float
    bandwidth: float
    watts: float


GPUS: dict[str, Gpu] = {
    "b200": Gpu("NVIDIA B200", 180e9, 2250e12, 8.0e12, 1000),
    "h200": Gpu("NVIDIA H200 SXM", 141e9, 989e12, 4.8e12, 700),
    "h100": Gpu("NVIDIA H100 SXM", 80e9, 989e12, 3.35e12, 700),
    "h100-pcie": Gpu("NVIDIA H100 PCIe", 80e9, 756e12, 2.0e12, 350),
    "a100": Gpu("NVIDIA A100 80GB SXM", 80e9, 312e12, 2.039e12, 400),
    "a100-40": Gpu("NVIDIA A100 40GB SXM", 40e9, 312e12, 1.555e12, 400),
    "l40s": Gpu("NVIDIA L40S", 48e9, 362e12, 0.864e12, 350),
    "l4": Gpu("NVIDIA L4", 24e9, 121e12, 0.3e12, 72),
    "a10": Gpu("NVIDIA A10", 24e9, 125e12, 0.6e12, 150),
    "rtx-4090": Gpu("NVIDIA GeForce RTX 4090", 24e9, 165e12, 1.008e12, 450),
}
"""Names of `--gpu`: memory, dense bfloat16 peak (without sparsity), bandwidth and board power. H100 SXM and H200 were
compared with pages that quote their data sheets; the others are written from memory and were not."""


@dataclass(frozen=True)
class Machine:
    """Where a recipe is to run.

    Attributes:
        title: in words.
        memory: bytes that one process may use; None: nobody says.
        on_gpu: whether models stand in a GPU's own memory.
        gpu: published figures; None: a machine of which none are known.
        processes: that train side by side, each with the whole model and a GPU of its own.
        here: whether it is this machine, so that a probe can measure.
    """

    title: str
    memory: float | None
    on_gpu: bool
    gpu: Gpu | None = None
    processes: int = 1
    here: bool = True


def named_gpu(name: str, count: int) -> Machine:
    """A machine of so many GPUs of a kind that need not be here.

    Raises:
        ConfigError: nothing is known of such a GPU; the nearest known name is given.
    """
    key = name.lower().replace("_", "-").replace(" ", "-")
    if key not in GPUS:
        raise unknown("GPU", name, GPUS, hint="without --gpu the plan is of this machine")
    gpu = GPUS[key]
    title = f"{count} × {gpu.title}" if count > 1 else gpu.title
    return Machine(title, gpu.memory, on_gpu=True, gpu=gpu, processes=count, here=False)


def this_machine(device: torch.device) -> Machine:
    """The machine at hand, as a recipe uses it."""
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        name = properties.name.lower()
        known = [gpu for gpu in GPUS.values() if gpu.title.lower() in name or name in gpu.title.lower()]
        return Machine(properties.name, properties.total_memory, on_gpu=True, gpu=known[0] if known else None)
    return Machine(f"this machine ({device.type})", host_memory(), on_gpu=device.type == "mps")


def host_memory() -> float | None:
    """Bytes that processes of this machine may use together: its memory, or the limit of its control group."""
    limits = []
    table = Path("/proc/meminfo")
    if table.exists():
        line = next((x for x in table.read_text().splitlines() if x.startswith("MemTotal")), "")
        limits += [int(line.split()[1]) * 1024] if line else []
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        text = Path(path).read_text().strip() if Path(path).is_file() else ""
        limits += [int(text)] if text.isdecimal() else []
    return min(limits, default=None)
