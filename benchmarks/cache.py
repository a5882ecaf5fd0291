"""What an offline cache costs: bytes a token, speed of writing and reading, memory, and a training step that reads it.

```sh
python benchmarks/cache.py                          # two threads, random weights
python benchmarks/cache.py --gigabytes 1            # the memory row reads so much
```

`step` sets a step that learns `kd` from a cache beside a step of plain fine-tuning of the same student, turn by turn in
one process, without optimiser; a step with a live teacher stands beside. `write` and `read` handle records of a
vocabulary of 151,936 and set raw top-k in Parquet (ids int32, log-probabilities float16, one row a text) beside.
`memory` reads a cache row by row in random order and tells by how much the process grew. How close stored targets are
to what they store, `benchmarks/cache_targets.py` says.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import child
import numpy as np

VOCABULARY, ROW_TOKENS = 151_936, 128
STEP = {"rows": 8, "length": 128, "vocabulary": 32_000, "student": (512, 6), "teacher": (1024, 8)}
ROWS = ("size", "write", "read", "memory", "step")


def main() -> None:
    options = child.options(__doc__ or "", repeats=7)
    options.add_argument("--gigabytes", type=float, default=0.25, help="size of the cache of `memory` (default 0.25)")
    arguments = options.parse_args()
    if arguments.child:
        child.report({"row": arguments.child, **MEASURED[arguments.child](arguments)})
        return
    results = []
    for row in ROWS:
        result = child.measured(arguments, row, more=["--gigabytes", str(arguments.gigabytes)])
        if isinstance(result, str):
            sys.exit(f"{row} failed: {result}")
        results.append(result)
        for line in result["lines"]:
            print(f"{row:8} {line}", flush=True)
    child.record(arguments, results)


def _size(arguments: argparse.Namespace) -> dict:
    """Counted, not measured."""
    from understudy.teachers.cache.formats import SampledFormat, TopKFormat
    from understudy.teachers.cache.store import ENTRY

    index, lines = ENTRY.itemsize / ROW_TOKENS, []
    for k in (16, 50):
        one, two = (TopKFormat(VOCABULARY, taus, k).record_bytes for taus in ((1.0,), (1.0, 2.0)))
        lines.append(f"topk k = {k}: {one + index:.1f} bytes a token; {two - one} for each further temperature")
    sampled = SampledFormat(VOCABULARY, (1.0,), 8, 24).record_bytes
    lines.append(f"sampled, 8 likeliest and 24 drawn: {sampled + index:.1f} bytes a token")
    return {"lines": lines}


def _targets(k: int, rows: int):
    """Records and ids of random distributions that are peaked as a language model's are."""
    import torch

    from understudy.losses.heads import Head
    from understudy.models.output import VocabularyOutput
    from understudy.teachers.cache.formats import TopKFormat

    make = torch.Generator().manual_seed(0)
    states, head = torch.randn(256, 16, generator=make), Head(torch.randn(VOCABULARY, 16, generator=make))
    targets = TopKFormat(VOCABULARY, (1.0,), k)
    output = VocabularyOutput(torch.zeros(256, dtype=torch.long), (128, 128), states, head)
    return targets, output, rows


def _write(arguments: argparse.Namespace) -> dict:
    """From logits that are there to rows on the disk."""
    import torch

    from understudy.teachers.cache.store import Key, Writer

    torch.set_num_threads(arguments.threads)
    lines = []
    for k in (16, 50):
        targets, output, _ = _targets(k, 0)
        heads = []
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            records = targets.encode(output, [0, 1])
            heads.append(time.perf_counter() - start)
        start = time.perf_counter()
        for piece in output.hidden.split(64):
            output.head.logits(piece).float().topk(k)
        bare = time.perf_counter() - start
        with tempfile.TemporaryDirectory() as folder, Writer(Path(folder), targets.record_bytes) as writer:
            start = time.perf_counter()
            for row in range(4000):
                writer.add(Key(row, row), records[:ROW_TOKENS])
            writer.flush()
            disk = 4000 * ROW_TOKENS / (time.perf_counter() - start)
        rate = len(records) / statistics.median(heads)
        lines.append(
            f"k = {k}: {rate:,.0f} tokens/s from states through the head to records, {len(records) / bare:,.0f} of "
            f"head and top-k alone; {disk:,.0f} tokens/s from records to the disk"
        )
    return {"lines": lines}


def _read(arguments: argparse.Namespace) -> dict:
    """From rows on the disk to a signal, in batches of 16 rows; Parquet read by row group and made to tensors."""
    import pyarrow
    import pyarrow.parquet
    import torch

    from understudy.teachers.cache.store import Index, Key, Reader, Writer

    torch.set_num_threads(arguments.threads)
    num, lines = 2000, []
    for k in (16, 50):
        targets, output, _ = _targets(k, 0)
        records = targets.encode(output, [0, 1])[:ROW_TOKENS]
        device, none = torch.device("cpu"), torch.zeros(0, dtype=torch.long)
        signal = targets.decode(records, none, (ROW_TOKENS,), 1.0, device)
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            with Writer(folder, targets.record_bytes) as writer:
                for row in range(num):
                    writer.add(Key(row, row), records)
            ids = signal.ids.int().numpy().reshape(-1).tolist()
            logp = signal.logp.half().numpy().reshape(-1).tolist()
            table = pyarrow.table(
                {"ids": [ids] * 200, "logp": pyarrow.array([logp] * 200, pyarrow.list_(pyarrow.float16()))}
            )
            pyarrow.parquet.write_table(table, folder / "raw.parquet", row_group_size=16)
            raw = (folder / "raw.parquet").stat().st_size / (200 * ROW_TOKENS)
            reader, ours, theirs = Reader(Index(folder, targets.record_bytes)), [], []
            for _ in range(arguments.repeats):
                start = time.perf_counter()
                for first in range(0, 160, 16):
                    batch = np.concatenate([reader.records(Key(row, row)) for row in range(first, first + 16)])
                    targets.decode(batch, none, (ROW_TOKENS,) * 16, 1.0, device)
                ours.append(160 * ROW_TOKENS / (time.perf_counter() - start))
                start = time.perf_counter()
                file = pyarrow.parquet.ParquetFile(folder / "raw.parquet")
                for group in range(10):
                    rows = file.read_row_group(group)
                    for column in ("ids", "logp"):
                        torch.from_numpy(rows[column].combine_chunks().flatten().to_numpy(zero_copy_only=False).copy())
                theirs.append(160 * ROW_TOKENS / (time.perf_counter() - start))
            speed, other = statistics.median(ours), statistics.median(theirs)
            lines.append(
                f"k = {k}: {speed:,.0f} tokens/s to tensors, checksums included; Parquet {other:,.0f}, which takes "
                f"{raw:.0f} bytes a token of these (repeated) rows and {k * 6} of rows that differ"
            )
    return {"lines": lines}


def _memory(arguments: argparse.Namespace) -> dict:
    """How much a process grows that reads a whole cache, in random order, and keeps nothing."""
    import torch

    from understudy.teachers.cache.store import Index, Key, Reader, Writer

    targets, output, _ = _targets(50, 0)
    records = targets.encode(output, [0, 1])[:ROW_TOKENS]
    device, none = torch.device("cpu"), torch.zeros(0, dtype=torch.long)
    num = int(arguments.gigabytes * 1e9 / records.nbytes)
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        with Writer(folder, targets.record_bytes) as writer:
            for row in range(num):
                writer.add(Key(row, row), records)
        targets.decode(records, none, (ROW_TOKENS,), 1.0, device)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        start = time.perf_counter()
        reader = Reader(Index(folder, targets.record_bytes))
        for row in np.random.default_rng(0).permutation(num).tolist():
            targets.decode(reader.records(Key(row, row)), none, (ROW_TOKENS,), 1.0, device)
        seconds = time.perf_counter() - start
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    size = num * records.nbytes / 1e9
    line = f"{size:.2f} GB in {seconds:.0f} s; the process grew by {grown:.0f} MiB at most"
    return {"lines": [line], "gigabytes": size, "grown_mib": grown, "seconds": seconds}


def _step(arguments: argparse.Namespace) -> dict:
    """A cached and a live step of `kd` against a step of plain fine-tuning, turn by turn."""
    import torch
    from step import _batch, _model

    from understudy import build
    from understudy.recipe import parse_recipe
    from understudy.teachers.cache.cached import CachedTeacher
    from understudy.teachers.cache.formats import TopKFormat
    from understudy.teachers.cache.keys import row_keys
    from understudy.teachers.cache.store import Writer
    from understudy.teachers.local import LocalTeacher
    from understudy.training.module import DistillationModule

    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    device = torch.device("cuda" if arguments.gpu else "cpu")
    student, teacher = (_model(STEP, side, device) for side in ("student", "teacher"))
    batch = {**_batch(STEP, device), "ids": [f"row-{row}" for row in range(STEP["rows"])]}
    live = LocalTeacher(teacher)
    config = parse_recipe({"distil": {"method": "kd", "divergence": "forward_kl"}}).distil
    objective = build.objective(config, student, teacher)
    targets = TopKFormat(STEP["vocabulary"], (1.0,), 50)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with Writer(folder, targets.record_bytes) as writer:
            records = targets.encode(live.signal(batch), list(range(STEP["rows"])))
            for key, own in zip(row_keys(batch), np.split(records, STEP["rows"]), strict=True):
                writer.add(key, own)
        cached = CachedTeacher(folder, targets, 1.0)
        kinds = {
            "fine-tuning": (DistillationModule(student, build.gold_objective()), None),
            "cached": (DistillationModule(student, objective), cached),
            "live": (DistillationModule(student, objective), live),
        }
        times: dict[str, list[float]] = {name: [] for name in kinds}
        for turn in range(arguments.repeats + 1):
            for name, (module, source) in kinds.items():
                student.zero_grad(set_to_none=True)
                start = time.perf_counter()
                module(batch, source.signal(batch) if source else None).total.backward()
                if turn:
                    times[name].append(time.perf_counter() - start)
    unit = times["fine-tuning"]
    ratios = {
        name: statistics.median(a / b for a, b in zip(values, unit, strict=True)) for name, values in times.items()
    }
    lines = [f"fine-tuning {statistics.median(unit) * 1e3:.0f} ms"]
    lines += [f"kd, {name} teacher: {ratios[name]:.2f}x of it" for name in ("cached", "live")]
    return {"lines": lines, "ratios": ratios}


MEASURED = {"size": _size, "write": _write, "read": _read, "memory": _memory, "step": _step}

if __name__ == "__main__":
    main()
