"""What the stages of a run share: the context they run in, and the rows and weights that earlier ones left."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from understudy.files import read_jsonl
from understudy.models.load import pick_device
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.stage import Stage
from understudy.recipe import ModelConfig, Recipe
from understudy.recipe.own_arms import has_own_student
from understudy.recipe.student import is_cut
from understudy.run import Run
from understudy.types import Example, Message

Progress = Callable[[int, int, str], None]
ROLES = ("train", "unlabelled", "dev", "test")


@dataclasses.dataclass(frozen=True)
class Context:
    """What the function of a stage is called with.

    Attributes:
        run: the run folder.
        recipe: by which the stage works: the run's, with what its arm changes and the seed that it goes by.
        progress: called with (done, total, note).
        stage: itself.
        run_recipe: the run's recipe as it stands.
    """

    run: Run
    recipe: Recipe
    progress: Progress
    stage: Stage
    run_recipe: Recipe

    @property
    def folder(self) -> Path:
        """The stage's own folder."""
        return self.run.stage(self.stage.name)

    @property
    def device(self) -> torch.device:
        """Where models go."""
        return pick_device(self.recipe.device)


class Counter:
    """Adds up what a worker reports piece by piece."""

    def __init__(self, progress: Progress, total: int, note: str) -> None:
        self.progress, self.total, self.note, self.done = progress, total, note, 0

    def __call__(self, count: int) -> None:
        """`count` more are done."""
        self.done += count
        self.progress(self.done, self.total, self.note)


def as_row(example: Example) -> dict[str, Any]:
    """An example as JSON."""
    row = dataclasses.asdict(example)
    return {key: value for key, value in row.items() if value not in (None, (), {}) or key == "question"}


def from_row(row: dict[str, Any]) -> Example:
    """The example that `as_row` wrote."""
    history = tuple(Message(**turn) for turn in row.get("history", ()))
    texts: dict[str, Any] = {key: tuple(row.get(key, ())) for key in ("answers", "choices", "rationales", "images")}
    rest: dict[str, Any] = {
        key: row[key] for key in ("id", "question", "context", "origin", "meta", "group", "audio") if key in row
    }
    return Example(**rest, **texts, history=history)


def rows_of(run: Run, role: str) -> list[Example]:
    """One split of a run."""
    return [from_row(row) for row in read_jsonl(run.folder / "data" / f"{role}.jsonl")]


def teacher_weights(run: Run, recipe: Recipe) -> str | None:
    """The folder of the pretrained or fine-tuned teacher, or None where it is used as it came.

    A teacher that is the student has the weights from which the training of the run's student starts.
    """
    if recipe.local_teacher.from_student:
        return _weights(run, recipe.student, "student")
    return _weights(run, recipe.local_teacher, "teacher")


def cache_folder(run: Run, recipe: Recipe) -> Path | None:
    """The folder of what the teacher says of the training rows, or None where it is asked anew each time."""
    cache = recipe.teacher.cache if recipe.teacher else None
    if cache is None:
        return None
    return Path(cache.folder).expanduser() if cache.folder else run.stage(stage_of("cache").name) / "targets"


def student_weights(context: Context) -> str | None:
    """The folder of the student that the stage's arm starts from, or None where it is used as it came."""
    has_own = has_own_student(context.run_recipe, context.stage.argument)
    return _weights(context.run, context.recipe.student, context.stage.argument if has_own else "student")


def starting_weights(run: Run, model: ModelConfig, name: str) -> str | None:
    """The folder of the student that its training would start from, or None where it is used as it came."""
    return _weights(run, model, name)


def _weights(run: Run, model: ModelConfig, name: str) -> str | None:
    kind = "sft" if model.sft else "pretrain" if model.pretrain else "cut" if is_cut(model) else ""
    return str(run.stage(stage_of(kind, name).name) / "model") if kind else None


def untrained_weights(run: Run, model: ModelConfig, name: str) -> str | None:
    """The folder of a student that was cut from its teacher, before any training, or None where it is as it came."""
    return _weights(run, model.model_copy(update={"sft": None, "pretrain": None}), name)


def pretrained_weights(run: Run, model: ModelConfig, name: str) -> str | None:
    """The folder of a model after continued pretraining, or None where there is none."""
    return _weights(run, model.model_copy(update={"sft": None}), name)


def held_out(run: Run, recipe: Recipe) -> list[Example]:
    """The test rows that are evaluated."""
    return rows_of(run, "test")[: recipe.evaluate.rows]
