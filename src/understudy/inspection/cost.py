"""Tokens, seconds and memory of a training step, measured on a real micro-batch."""

from __future__ import annotations

import ctypes
import gc
import os
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from understudy import build
from understudy.inspection.inputs import EncodedSample, Inputs, LoadedPair, collator_of, trainable
from understudy.inspection.time_estimate import in_bytes
from understudy.models.load import load_example_tokenizer, pick_device
from understudy.recipe import ModelConfig, Recipe, TrainConfig
from understudy.records import TrainSchedule
from understudy.tokens.collate import encode_rows, move
from understudy.training.module import DistillationModule
from understudy.training.schedule import train_schedule
from understudy.types import Batch

MAX_SECONDS, MAX_PASSES = 4.0, 12
BYTES_TRAINED = 16
"""Weight, gradient and the two moments of AdamW, in float32."""


@dataclass(frozen=True)
class Cost:
    """What one optimiser step costs.

    Attributes:
        seconds: wall time, accumulation included; None where it was not measured.
        memory: bytes above the loaded weights at the peak; None where it was not measured.
        rows: rows of the step.
        read: tokens the trained model reads.
        learned: target tokens.
        why_not: why it was not measured.
    """

    seconds: float | None
    memory: int | None
    rows: int
    read: float
    learned: float
    why_not: str = ""


def measure_step(
    module: DistillationModule,
    batch: Batch,
    *,
    schedule: TrainSchedule,
    training: TrainConfig,
    mixed: Any,
    teacher: Any = None,
) -> tuple[float, int]:
    """(seconds, peak bytes) of an optimiser step that changes nothing: AdamW at learning rate 0.

    The first pass allocates gradients and moments and gives the memory; time is the best of the passes that fit in a
    few seconds.
    """
    device = next(module.parameters()).device
    optimizer = torch.optim.AdamW([p for p in module.parameters() if p.requires_grad], lr=0.0)
    module.train()
    if training.gradient_checkpointing:
        module.gradient_checkpointing_enable()
    with peak_memory(device) as memory:
        passes, update = _step(module, batch, teacher, optimizer, mixed)
    best = passes * schedule.accumulation + update
    spent = passes + update
    while spent < min(MAX_SECONDS, MAX_PASSES * best):
        passes, update = _step(module, batch, teacher, optimizer, mixed)
        best = min(best, passes * schedule.accumulation + update)
        spent += passes + update
    module.zero_grad(set_to_none=True)
    if training.gradient_checkpointing:
        module.gradient_checkpointing_disable()
    return best, memory[0]


def _step(module: DistillationModule, batch: Batch, teacher: Any, optimizer: Any, mixed: Any) -> tuple[float, float]:
    started_at = time.perf_counter()
    with mixed():
        result = module(batch, teacher.signal(batch) if teacher else None)
    (result.total / len(batch["student"]["target_ids"])).backward()
    _wait(result.total.device)
    passes_end = time.perf_counter()
    optimizer.step()
    optimizer.zero_grad()
    _wait(result.total.device)
    return passes_end - started_at, time.perf_counter() - passes_end


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


@contextmanager
def peak_memory(device: torch.device) -> Iterator[list[int]]:
    """Bytes used at the peak above those used before, as the one entry of a list that is filled at the end."""
    _trim_memory()
    peak = [0]
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        yield peak
        peak[0] = torch.cuda.max_memory_allocated(device) - before
        return
    before = _reset_peak()
    yield peak
    peak[0] = max(0, _peak() - before)


def _trim_memory() -> None:
    """Return freed memory to the system: what the allocator keeps would be used again unseen."""
    gc.collect()
    # Only glibc has this call.
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _reset_peak() -> int:
    """Set the process's high-water mark back to what it holds now, where the kernel allows it; returns the mark."""
    # Elsewhere the mark stays, and only growth beyond it is seen.
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    status = Path("/proc/self/status")
    if status.exists():
        line = next((x for x in status.read_text().splitlines() if x.startswith("VmHWM")), "")
        if line:
            return int(line.split()[1]) * 1024
    mark = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return mark if sys.platform == "darwin" else mark * 1024


@contextmanager
def threads_of_a_worker(workers: int) -> Iterator[None]:
    """As many threads as a stage will have when several run side by side."""
    before = torch.get_num_threads()
    if workers > 1:
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // workers))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def student_costs(loaded: LoadedPair, inputs: Inputs, sample: EncodedSample) -> dict[str, Cost]:
    """A step of distillation, and one of supervised fine-tuning of the same student (the SFT and SeqKD arms)."""
    recipe = inputs.recipe
    schedule = train_schedule(recipe.distil, len(sample.rows))
    size = _sizes(sample, recipe.distil, "student")
    costs = {}
    with threads_of_a_worker(recipe.workers):
        for name, module, teacher in (
            ("distillation", loaded.module, loaded.teacher),
            ("student SFT", DistillationModule(loaded.module.student, build.gold_objective()), None),
        ):
            seconds, memory = measure_step(
                module, loaded.batch, schedule=schedule, training=recipe.distil, mixed=loaded.mixed, teacher=teacher
            )
            costs[name] = Cost(seconds, memory, **size)
    return costs


def _sizes(sample: EncodedSample, training: TrainConfig, side: str) -> dict[str, Any]:
    rows = training.batch_size
    encoded = [getattr(row, side) for row in sample.rows]
    read = sum(len(row.ids) - 1 for row in encoded) / len(encoded)
    learned = sum(len(row.answer_ids) for row in encoded) / len(encoded)
    return {"rows": rows, "read": read * rows, "learned": learned * rows}


def teacher_cost(inputs: Inputs, sample: EncodedSample) -> Cost | None:
    """A step of the teacher's fine-tuning, loaded as training will load it; None where none is planned."""
    config, recipe = inputs.recipe.local_teacher, inputs.recipe
    if config.sft is None:
        return None
    device = pick_device(recipe.device)
    size = _sizes(sample, config.sft, "teacher")
    needed, free = trained_bytes(config, recipe, device), free_bytes(device)
    if free is not None and needed > free:
        return Cost(None, None, **size, why_not=f"needs about {in_bytes(needed)} and {in_bytes(free)} are free")
    model, autocast = trainable(config, config.sft, device, None, config.seed_or(recipe.seed))
    schedule = train_schedule(config.sft, len(sample.rows))
    tokenizer = load_example_tokenizer(config, recipe.data)
    rows = encode_rows(sample.examples[: schedule.micro_batch_size], tokenizer)
    batch = move(collator_of(tokenizer.template, None, None)(rows), device)
    module = DistillationModule(model, build.gold_objective())

    def mixed() -> Any:
        return torch.autocast(device.type, dtype=torch.bfloat16, enabled=autocast)

    try:
        with threads_of_a_worker(recipe.workers):
            seconds, memory = measure_step(module, batch, schedule=schedule, training=config.sft, mixed=mixed)
    except torch.OutOfMemoryError:
        return Cost(None, None, **size, why_not="the device ran out of memory")
    return Cost(seconds, memory, **size)


def trained_bytes(config: ModelConfig, recipe: Recipe, device: torch.device) -> int:
    """What full fine-tuning of a model takes without its activations; with adapters, its weights alone."""
    from accelerate import init_empty_weights

    from understudy.models.architecture import architecture_of, kind_at
    from understudy.models.load import resolve

    source = resolve(config.model)
    architecture = architecture_of(config, source)
    with init_empty_weights():
        auto = kind_at(config, source).auto_class(architecture, source)
        model = auto.from_config(architecture, trust_remote_code=config.trust_remote_code)
    parameters = sum(p.numel() for p in model.parameters())
    return parameters * (BYTES_TRAINED if config.sft and config.sft.lora is None else 2)


def free_bytes(device: torch.device) -> int | None:
    """Memory that is free on a device, None where nobody says."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    table = Path("/proc/meminfo")
    if not table.exists():
        return None
    line = next((x for x in table.read_text().splitlines() if x.startswith("MemAvailable")), "")
    return int(line.split()[1]) * 1024 if line else None
