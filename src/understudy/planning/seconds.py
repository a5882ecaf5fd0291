"""Time of a stage on a GPU that is not here, from its published figures and a stated share of them.

A trained position costs 6 operations a parameter that it is multiplied by, a read one 2 (Kaplan et al., 2020), with
adapters 4 in place of 6 since frozen weights have no gradient, with recomputed activations 2 more. Only target tokens
meet the head. Writing a token reads all weights and the keys and values once. No pass takes less than its kernels take
to be launched. What lies outside of this – the start of processes, reading rows, metrics – is not in it.
"""

from __future__ import annotations

from understudy.planning.hardware import (
    BANDWIDTH_SHARE,
    KERNELS_READ,
    KERNELS_TRAINED,
    LAUNCH,
    UTILISATION,
    Gpu,
)
from understudy.planning.memory import kv_bytes
from understudy.planning.sizes import ModelSize
from understudy.planning.work import AnswerWork, CacheWork, TrainingWork

NUMBER = 2.0
"""Bytes of a weight that is read to write a token."""
UPDATE_BYTES = 28.0
"""Bytes that AdamW reads and writes a trained parameter: weight, gradient and both moments, three of them back."""


def operations(size: ModelSize, tokens: float, targets: float, factor: float) -> float:
    """Operations of a forward pass (`factor` 2) or of a trained one (6)."""
    head = size.vocabulary * size.width
    return factor * (max(0, size.matrix - head) * tokens + head * targets)


def training_seconds(work: TrainingWork, student: ModelSize, teacher: ModelSize | None, gpu: Gpu) -> float:
    """Seconds of a training on one GPU, answers on the way among them."""
    factor = (6.0 if work.training.lora is None else 4.0) + (2.0 if work.training.gradient_checkpointing else 0.0)
    micros = len(work.micros)
    targets = sum(micro.targets for micro in work.micros) / micros
    passes = pass_seconds(operations(student, work.mean_tokens, targets, factor), student, KERNELS_TRAINED, gpu)
    if teacher is not None:
        heard = sum(micro.teacher_tokens for micro in work.micros) / micros
        passes += pass_seconds(operations(teacher, heard, targets, 2.0), teacher, KERNELS_READ, gpu)
    update = UPDATE_BYTES * student.trained / (gpu.bandwidth * BANDWIDTH_SHARE)
    steps = work.passes * passes + work.schedule.steps * update
    prompt = sum(len(row.student.prompt_ids) for row in work.rows.sample) / len(work.rows.sample)
    rows = work.dev_rows
    batches = -(-rows // work.recipe.evaluate.batch_size)
    answers = answer_seconds(student, batches, rows / max(1, batches), prompt, work.answer[1], gpu) if rows else 0.0
    return steps + work.evaluations * answers


def answer_seconds(size: ModelSize, batches: int, rows: float, prompt: float, longest: float, gpu: Gpu) -> float:
    """Seconds of so many batches, each until its longest answer is there."""
    reading = pass_seconds(operations(size, rows * prompt, rows, 2.0), size, KERNELS_READ, gpu)
    read = NUMBER * size.parameters + kv_bytes(size, round(rows), prompt + longest / 2, NUMBER)
    token = max(read / (gpu.bandwidth * BANDWIDTH_SHARE), size.layers * KERNELS_READ * LAUNCH)
    return batches * (reading + longest * token)


def pass_seconds(count: float, size: ModelSize, kernels: int, gpu: Gpu) -> float:
    """Seconds of a pass of so many operations."""
    return max(count / (gpu.flops * UTILISATION), size.layers * kernels * LAUNCH)


def answering_seconds(work: AnswerWork, size: ModelSize, gpu: Gpu) -> float:
    """Seconds of a stage that answers."""
    longest = work.longest if work.writes else 0.0
    rows = len(work.examples) / max(1, work.batches)
    alone = answer_seconds(size, work.single, 1, work.prompt[0], work.answer[0] if work.writes else 0.0, gpu)
    return answer_seconds(size, work.batches, rows, work.prompt[0], longest, gpu) + alone


def cache_seconds(work: CacheWork, size: ModelSize, gpu: Gpu) -> float:
    """Seconds of a teacher that reads each row once."""
    read = [len(row.teacher.ids) for row in work.rows.sample if row.teacher is not None]
    tokens = sum(read) / max(1, len(read)) * work.rows.total
    return operations(size, tokens, work.tokens, 2.0) / (gpu.flops * UTILISATION)
