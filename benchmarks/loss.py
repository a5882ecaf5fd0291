"""How much a divergence costs on top of the matrix products that nobody can avoid.

```sh
pip install -e '.[bench]'                # adds TRL and Liger; rows whose package is absent are skipped
python benchmarks/loss.py                # two threads, both shapes
python benchmarks/loss.py --gpu          # the shapes for a CUDA device
```

Every row runs in a process of its own, which takes turns between the row and the four matrix products alone
(student logits, teacher logits, gradients of hidden states and weight), so that a disturbance hits both. A ratio is
the median over the turns. Memory is the peak above the inputs, gradients included: the high-water mark of resident
memory on a CPU, of allocated memory on a GPU.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import re
import statistics
import sys
import time
from pathlib import Path

import child

CPU_SHAPES = {"32k": (1024, 32_000, 512, 1024), "152k": (512, 151_936, 1024, 2048)}
GPU_SHAPES = {"8192 tokens": (8192, 128_256, 4096, 4096), "1024 tokens": (1024, 128_256, 4096, 4096)}
PRODUCTS = "the four matrix products"


def main() -> None:
    arguments = _arguments()
    if arguments.child:
        child.report(_measure(arguments))
        return
    from loss_rows import ROWS

    results = []
    for name, shape in (GPU_SHAPES if arguments.gpu else CPU_SHAPES).items():
        if not re.search(arguments.shapes, name):
            continue
        tokens, columns, width, teacher_width = shape
        print(f"\n{name}: {tokens:,} tokens, {columns:,} columns, widths {width:,} and {teacher_width:,}")
        print(f"{'':46} {'time':>9} {'ratio':>7} {'memory':>9} {'ratio':>7}   loss", flush=True)
        chunk, memory = _products(arguments, name, results)
        for row in ROWS:
            if re.search(arguments.rows, row):
                result = _run(arguments, name, row, chunk)
                results.append(result)
                _show(result, memory)
    child.record(arguments, results, **_versions())


def _arguments() -> argparse.Namespace:
    parser = child.options(__doc__ or "", repeats=5)
    parser.add_argument("--rows", default="", help="only rows that match this regular expression")
    parser.add_argument("--shapes", default="", help="only shapes that match this regular expression")
    parser.add_argument("--shape", help=argparse.SUPPRESS)
    parser.add_argument("--chunk", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _products(arguments: argparse.Namespace, shape: str, results: list[dict]) -> tuple[int, float]:
    """Measure the products at several chunk sizes; the fastest one is the yardstick."""
    sizes = (512, 1024, 2048, 4096) if arguments.gpu else (128, 256, 512)
    candidates = {chunk: _run(arguments, shape, PRODUCTS, chunk) for chunk in sizes}
    chunk = min(candidates, key=lambda size: candidates[size]["best"])
    for size, result in candidates.items():
        result["row"] += f", {size} a chunk"
        result["yardstick"] = size == chunk
        results.append(result)
        _show(result, candidates[chunk]["memory"])
    return chunk, candidates[chunk]["memory"]


def _run(arguments: argparse.Namespace, shape: str, row: str, chunk: int) -> dict:
    """One row in a process of its own; a row that fails is a result too."""
    more = ["--shape", shape, "--chunk", str(chunk)]
    result = child.measured(arguments, row, more=more, environment={"TRL_EXPERIMENTAL_SILENCE": "1"})
    return {"row": row, "shape": shape, "skipped": result} if isinstance(result, str) else result


def _measure(arguments: argparse.Namespace) -> dict:
    """In the child: warm up, then take turns."""
    import torch
    from loss_rows import ROWS, Inputs, matrix_products

    torch.set_num_threads(arguments.threads)
    shapes, device = (GPU_SHAPES, "cuda") if arguments.gpu else (CPU_SHAPES, "cpu")
    inputs = Inputs.make(*shapes[arguments.shape], device, "bfloat16" if arguments.gpu else "float32")
    products = matrix_products(inputs, arguments.chunk)
    alone = arguments.child == PRODUCTS
    step = products if alone else ROWS[arguments.child](inputs)
    value = _turn(step, inputs)[0]
    if not alone:
        _turn(products, inputs)
    times, ratios, memory = [], [], 0.0
    for _ in range(arguments.repeats):
        yardstick = 0.0 if alone else _turn(products, inputs)[1]
        _, seconds, peak = _turn(step, inputs)
        times.append(seconds)
        ratios.append(1.0 if alone else seconds / yardstick)
        memory = max(memory, peak)
    found = {"row": arguments.child, "shape": arguments.shape, "chunk": arguments.chunk, "loss": value}
    return found | {
        "seconds": statistics.median(times),
        "best": min(times),
        "ratio": statistics.median(ratios),
        "ratios": ratios,
        "memory": memory,
    }


def _turn(step, inputs) -> tuple[float, float, float]:
    """Loss, seconds and peak bytes above the inputs of one forward and backward pass."""
    inputs.student_hidden.grad = inputs.student_weight.grad = None
    before = _memory_before(inputs)
    start = time.perf_counter()
    value = step()
    if value.requires_grad:
        value.backward()
    number = value.item()
    if value.is_cuda:
        import torch

        torch.cuda.synchronize()
    seconds = time.perf_counter() - start
    return number, seconds, _peak(inputs) - before


def _memory_before(inputs) -> float:
    gc.collect()
    if inputs.student_hidden.is_cuda:
        import torch

        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is resident now
    return _status("VmRSS")


def _peak(inputs) -> float:
    if inputs.student_hidden.is_cuda:
        import torch

        return torch.cuda.max_memory_allocated()
    return _status("VmHWM")


def _status(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return float(found[1]) * 1024


def _show(result: dict, memory: float) -> None:
    if "skipped" in result:
        print(f"{result['row']:46} skipped: {result['skipped']}", flush=True)
        return
    times = f"{result['seconds'] * 1e3:7.0f}ms {result['ratio']:6.2f}x"
    print(
        f"{result['row']:46} {times} {result['memory'] / 2**20:7.0f}MB {result['memory'] / memory:6.2f}x"
        f"   {result['loss']:.4f}",
        flush=True,
    )


def _versions() -> dict:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in ("torch", "trl", "liger-kernel", "understudy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "absent"
    return {"versions": found, "python": sys.version.split()[0]}


if __name__ == "__main__":
    main()
