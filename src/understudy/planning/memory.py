"""Memory of a stage by its parts, from shapes alone.

    training = process + weights + gradients + optimiser + logits chunk + activations + answers on the way
    answering = process + weights + keys and values + activations

Weights that are all trained are float32, with their gradient and the two moments of AdamW (16 bytes a parameter); a GPU
computes in bfloat16 and holds a copy of them in it meanwhile. Activations of a block are those that its backward pass
reads, `b (8 h + 4 f)` bytes a position with width h, inner width f and b bytes a number – the count of Korthikanti et
al. (2022, arXiv 2205.05198) for a gated feed-forward layer, attention without its matrix of scores (SDPA) and no
dropout. With gradient checkpointing one h a block is kept, and one block's all.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from understudy.losses.pass_plan import (
    CPU_BLOCK_BYTES,
    CPU_CHUNK_TOKENS,
    GPU_BLOCK_BYTES,
    GPU_CHUNK_BYTES,
)
from understudy.planning.hardware import Machine
from understudy.planning.sizes import ModelSize
from understudy.planning.work import AnswerWork, CacheWork, TrainingWork
from understudy.recipe import ModelConfig, TrainConfig
from understudy.teachers.cache.write import BATCH_TOKENS

PROCESS_CPU, PROCESS_GPU = 0.45e9, 0.9e9
"""Bytes of a process that has loaded torch and rows, on a CPU; of the context of a GPU and what torch keeps there."""
FOUR_BIT = 0.56
"""Bytes of a weight in four bits, with its scales."""


@dataclass(frozen=True)
class Memory:
    """Bytes by part, at the moment of the peak.

    Attributes:
        process: what is there before a model is: interpreter, torch, rows; of a GPU its context.
        weights: of all models that are loaded, adapters among them.
        gradients: of what is trained.
        optimiser: the two moments of AdamW.
        logits: one chunk of logits of both heads, with the room to compare them.
        activations: of the forward pass, kept for the backward pass.
        answers: keys and values of answers, and what writing them takes; on the way of a training, what it adds.
    """

    process: float = 0.0
    weights: float = 0.0
    gradients: float = 0.0
    optimiser: float = 0.0
    logits: float = 0.0
    activations: float = 0.0
    answers: float = 0.0

    @property
    def total(self) -> float:
        """The peak."""
        return sum(getattr(self, part.name) for part in fields(self))


def weight_bytes(config: ModelConfig, training: TrainConfig | None, machine: Machine) -> float:
    """Bytes of a weight as a stage holds it."""
    if training is not None and training.lora is None:
        return 4.0
    if training is not None and training.lora is not None and training.lora.quantize_4bit:
        return FOUR_BIT
    if config.dtype == "auto":
        return 2.0 if machine.on_gpu else 4.0
    return 4.0 if config.dtype == "float32" else 2.0


def chunk_tokens(targets: int, columns: int, *, on_gpu: bool) -> int:
    """Tokens whose logits are computed at once (`losses.pass_plan`)."""
    most = max(CPU_CHUNK_TOKENS, GPU_CHUNK_BYTES // (max(1, columns) * 4)) if on_gpu else CPU_CHUNK_TOKENS
    return max(1, min(targets, most))


def chunk_bytes(targets: int, student: int, teacher: int, *, on_gpu: bool) -> float:
    """Bytes of a chunk of logits of each head, and of the room to compare a block of them."""
    columns = max(student, teacher)
    if not columns:
        return 0.0
    chunk = chunk_tokens(targets, columns, on_gpu=on_gpu)
    block = min(chunk, max(64 if on_gpu else 2, (GPU_BLOCK_BYTES if on_gpu else CPU_BLOCK_BYTES) // (columns * 4)))
    return 4.0 * (chunk * (student + teacher) + 3 * block * columns)


def activation_bytes(size: ModelSize, tokens: float, number: float, *, checkpointing: bool) -> float:
    """Bytes that the forward pass of so many positions keeps; see the module."""
    block = number * (8 * size.width + 4 * size.inner)
    if checkpointing:
        return tokens * (size.layers * number * size.width + block)
    return tokens * size.layers * block


def training_memory(
    work: TrainingWork, student: ModelSize, teacher: ModelSize | None, machine: Machine, micro: int | None = None
) -> Memory:
    """The peak of a training.

    Args:
        work: what it does.
        student: the model that is trained.
        teacher: one that stands beside it; None: there is none, or a cache speaks for it.
        machine: where it runs.
        micro: rows at once; None: those of the recipe.
    """
    share = 1.0 if micro is None else micro / work.schedule.micro_batch_size
    largest, on_gpu = work.largest, machine.on_gpu
    weights = student.parameters * weight_bytes(work.config, work.training, machine)
    number = 2.0 if on_gpu else 4.0
    copies = 2.0 * student.parameters if on_gpu and work.training.lora is None else 0.0
    activations = activation_bytes(
        student, largest.tokens * share, number, checkpointing=work.training.gradient_checkpointing
    )
    if work.training.lora is not None:
        weights += 4.0 * student.trained
    if teacher is not None:
        weights += teacher.parameters * weight_bytes(work.recipe.local_teacher, None, machine)
        # Of a forward pass alone no more than one block is there at a time.
        beside = largest.teacher_tokens * share * number * (8 * teacher.width + 4 * teacher.inner)
        activations = max(activations, beside)
    targets = max(1, round(largest.targets * share))
    columns = teacher.vocabulary if teacher is not None else 0
    gradients = 4.0 * student.trained
    logits = chunk_bytes(targets, student.vocabulary, columns, on_gpu=on_gpu)
    # Answers are written between steps, when gradients and activations are gone.
    rows = min(work.dev_rows, work.recipe.evaluate.batch_size)
    prompt = max(len(row.student.prompt_ids) for row in work.rows.sample)
    longest = prompt + work.recipe.data.max_answer_tokens
    answers = kv_bytes(student, rows, longest, number) + rows * prompt * number * (
        8 * student.width + 4 * student.inner
    )
    return Memory(
        process=PROCESS_GPU if on_gpu else PROCESS_CPU,
        weights=weights,
        gradients=gradients,
        optimiser=8.0 * student.trained,
        logits=logits,
        activations=activations + copies,
        answers=max(0.0, answers - gradients - logits - activations - copies),
    )


def kv_bytes(size: ModelSize, rows: int, tokens: float, number: float) -> float:
    """Bytes of keys and values of so many rows of so many tokens."""
    return number * size.layers * size.kv_width * rows * tokens


def answering_memory(work: AnswerWork, size: ModelSize, machine: Machine) -> Memory:
    """The peak of answering: keys and values of a batch at its longest, and one block's forward pass of its prompts."""
    number = weight_bytes(work.config, None, machine)
    rows = min(work.batch_size, len(work.examples))
    longest = work.prompt[1] + (work.longest if work.writes else 0)
    positions = rows * work.prompt[1]
    return Memory(
        process=PROCESS_GPU if machine.on_gpu else PROCESS_CPU,
        weights=number * size.parameters,
        logits=4.0 * rows * size.vocabulary if work.writes else 0.0,
        activations=positions * number * (8 * size.width + 4 * size.inner),
        answers=kv_bytes(size, rows, longest, number) if work.writes else 0.0,
    )


def cache_memory(work: CacheWork, size: ModelSize, machine: Machine) -> Memory:
    """The peak of writing down what a teacher says: a batch of positions, and a chunk of its logits."""
    number = weight_bytes(work.recipe.local_teacher, None, machine)
    return Memory(
        process=PROCESS_GPU if machine.on_gpu else PROCESS_CPU,
        weights=number * size.parameters,
        logits=chunk_bytes(BATCH_TOKENS, size.vocabulary, 0, on_gpu=machine.on_gpu),
        activations=BATCH_TOKENS * number * (8 * size.width + 4 * size.inner),
    )
