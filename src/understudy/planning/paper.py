"""A stage's figures without running anything: shapes of the models, rows of the data, published figures of a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from understudy.caching import cache_targets
from understudy.models.kinds import kind_of
from understudy.planning.hardware import KERNELS_READ, Machine
from understudy.planning.memory import (
    Memory,
    answering_memory,
    cache_memory,
    chunk_tokens,
    training_memory,
    weight_bytes,
)
from understudy.planning.seconds import answering_seconds, cache_seconds, operations, pass_seconds, training_seconds
from understudy.planning.sizes import ModelSize, shape_of, size_of
from understudy.planning.work import AnswerWork, CacheWork, PlannedStage, TrainingWork, teacher_targets
from understudy.recipe import LoraConfig, ModelConfig, Recipe
from understudy.types import Gives

BYTES_PER_ANSWER = 4.0
"""Bytes of a token of text, on disk."""
ROW_BYTES = 900.0
"""Bytes of a prediction beside its answer: id, question, context, references."""
INDEX_BYTES = 28.0
"""Bytes of a row in the index of a cache."""


class Sizes:
    """The sizes of a recipe's models, each looked up once.

    Args:
        recipe: the recipe.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self._known: dict[str, ModelSize] = {}

    def of(self, config: ModelConfig, lora: LoraConfig | None = None) -> ModelSize:
        """The size of a model, as a training with such adapters has it."""
        key = config.model_dump_json() + (lora.model_dump_json() if lora else "")
        if key not in self._known:
            self._known[key] = size_of(config, lora)
        return self._known[key]

    def teacher_beside(self, work: TrainingWork) -> ModelSize | None:
        """The teacher that stands beside a student; None where none does, or a cache speaks for it."""
        if not work.signal or work.recipe.local_teacher.cache is not None:
            return None
        return self.of(work.recipe.local_teacher)


@dataclass(frozen=True)
class OnPaper:
    """Memory, seconds where they are known, and whatever else a stage's figures are made of."""

    memory: Memory
    seconds: float | None
    rest: dict[str, Any]


def stage_of(planned: PlannedStage, sizes: Sizes, machine: Machine) -> OnPaper:
    """What a stage takes."""
    work, gpu = planned.work, None if machine.here else machine.gpu
    if isinstance(work, TrainingWork):
        return _training(work, sizes, machine)
    if isinstance(work, AnswerWork):
        size = sizes.of(work.config)
        rows = len(work.examples)
        memory = answering_memory(work, size, machine)
        seconds = answering_seconds(work, size, gpu) if gpu else None
        answered = (rows + work.single) * (work.answer[0] if work.writes else 1)
        tokens = (rows + work.single) * work.prompt[0] + answered
        kept = 0.0 if planned.stage.kind == "speed" else rows * ROW_BYTES + answered * BYTES_PER_ANSWER
        return OnPaper(memory, seconds, _rest(tokens=tokens, kept=kept, micro_batch=min(rows, work.batch_size)))
    assert isinstance(work, CacheWork)
    size = sizes.of(work.recipe.local_teacher)
    read = [len(row.teacher.ids) for row in work.rows.sample if row.teacher is not None]
    return OnPaper(
        cache_memory(work, size, machine),
        cache_seconds(work, size, gpu) if gpu else None,
        _rest(tokens=sum(read) / len(read) * work.rows.total, kept=cached_bytes(work)),
    )


def cached_bytes(work: CacheWork) -> float:
    """Bytes of a cache: as many a target token as its format says, and a row in the index."""
    config = work.recipe.local_teacher
    model = shape_of(config)
    if kind_of(model.config).gives is Gives.LOGPS:
        record = 4.0 * max(16, len(work.recipe.data.labels))
    else:
        record = float(cache_targets(work.recipe, model).record_bytes)
    return work.tokens * record + work.rows.total * INDEX_BYTES


def _training(work: TrainingWork, sizes: Sizes, machine: Machine) -> OnPaper:
    student, teacher = sizes.of(work.config, work.training.lora), sizes.teacher_beside(work)
    gpu = None if machine.here else machine.gpu
    memory = training_memory(work, student, teacher, machine)
    less = training_memory(work, student, teacher, machine, max(1, work.schedule.micro_batch_size // 2))
    fewer = work.schedule.micro_batch_size - max(1, work.schedule.micro_batch_size // 2)
    columns = max(student.vocabulary, teacher.vocabulary if teacher else 0)
    saved = student.parameters * (4.0 if work.training.lora is None else weight_bytes(work.config, None, machine))
    rest = _rest(
        tokens=work.read,
        kept=saved,
        # A checkpoint with the moments of AdamW, another while it is written, and the best weights.
        meanwhile=2 * (4.0 + 8.0) * student.trained + 4.0 * student.trained,
        micro_batch=work.schedule.micro_batch_size,
        steps=work.schedule.steps,
        chunk=chunk_tokens(work.largest.targets, columns, on_gpu=machine.on_gpu) if columns else 0,
        row_bytes=(memory.total - less.total) / fewer if fewer else None,
    )
    return OnPaper(memory, training_seconds(work, student, teacher, gpu) if gpu else None, rest)


def live_seconds_per_target(work: TrainingWork, size: ModelSize, machine: Machine) -> float | None:
    """Seconds that a target token takes of the teacher's forward pass; None where no figures are known."""
    if machine.gpu is None:
        return None
    micros = len(work.micros)
    read = sum(micro.teacher_tokens for micro in work.micros) / micros
    targets = teacher_targets(work.rows.sample) * work.schedule.micro_batch_size
    count = operations(size, read, targets, 2.0)
    return pass_seconds(count, size, KERNELS_READ, machine.gpu) / targets


def _rest(**values: Any) -> dict[str, Any]:
    blank = {"tokens": 0.0, "kept": 0.0, "meanwhile": 0.0, "micro_batch": 0, "steps": 0, "chunk": 0, "row_bytes": None}
    return blank | values
