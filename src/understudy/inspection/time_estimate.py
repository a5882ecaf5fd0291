"""From the cost of a step to that of the whole recipe's training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from understudy.pipeline.kinds import side_of, stages, title
from understudy.pipeline.stage import Stage
from understudy.recipe import Recipe, TrainConfig
from understudy.recipe.own_arms import for_arm
from understudy.training.schedule import train_schedule


@dataclass(frozen=True)
class StageEstimate:
    """One training stage of the recipe.

    Attributes:
        stage: its name.
        title: what it does.
        steps: optimiser steps.
        step_seconds: of one step; None where nothing was measured.
    """

    stage: str
    title: str
    steps: int
    step_seconds: float | None

    @property
    def seconds(self) -> float | None:
        """Time of the whole stage."""
        return None if self.step_seconds is None else self.steps * self.step_seconds


@dataclass(frozen=True)
class TimeEstimate:
    """The training stages and the wall time of all of them, side by side where the recipe has several workers."""

    stages: tuple[StageEstimate, ...]
    workers: int
    wall: float


def estimate_time(recipe: Recipe, sizes: Mapping[str, int], seconds: Mapping[str, float | None]) -> TimeEstimate:
    """Steps and time of every training stage.

    Args:
        recipe: the recipe.
        sizes: rows of `train` and `unlabelled`.
        seconds: seconds a step of `distillation`, `student SFT` and `teacher SFT`.
    """
    planned = stages(recipe, unlabelled=sizes["unlabelled"] > 0)
    estimates = []
    for stage in planned:
        config, measured = _training(stage, for_arm(recipe, stage.argument))
        if config is None:
            continue
        rows = sizes["train"] + (sizes["unlabelled"] if stage.kind in ("train", "observer") else 0)
        steps = train_schedule(config, rows).steps
        step_seconds = seconds.get(measured)
        if step_seconds is not None and stage.kind == "sft" and measured == "student SFT":
            # Measured at the batch size of the arms.
            step_seconds *= config.batch_size / recipe.distil.batch_size
        estimates.append(StageEstimate(stage.name, title(stage), steps, step_seconds))
    return TimeEstimate(tuple(estimates), recipe.workers, wall_time(planned, estimates, recipe.workers))


def _training(stage: Stage, recipe: Recipe) -> tuple[TrainConfig | None, str]:
    """The section a stage trains by, and the measured step that its steps are like; None where nothing is trained."""
    if stage.kind == "sft":
        teacher = side_of(stage) == "teacher"
        return (recipe.local_teacher.sft, "teacher SFT") if teacher else (recipe.student.sft, "student SFT")
    if stage.kind == "observer":
        return recipe.distil, "student SFT"
    if stage.kind != "train":
        return None, ""
    signal = recipe.reads_signal(recipe.arm(stage.argument))
    return recipe.distil, "distillation" if signal else "student SFT"


def wall_time(order: Sequence[Stage], stages: Sequence[StageEstimate], workers: int) -> float:
    """At least the longest chain of stages that wait for each other, and at least the sum shared out."""
    seconds = {estimate.stage: estimate.seconds or 0.0 for estimate in stages}
    ends: dict[str, float] = {}
    for stage in order:
        ends[stage.name] = seconds.get(stage.name, 0.0) + max((ends[need] for need in stage.needs), default=0.0)
    return max(max(ends.values(), default=0.0), sum(seconds.values()) / workers)


def in_bytes(count: float) -> str:
    """Bytes as people say them."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            return f"{count:.0f} {unit}" if unit in ("B", "kB") or count >= 10 else f"{count:.1f} {unit}"
        count /= 1000
    raise AssertionError


def in_time(seconds: float) -> str:
    """Seconds as people say them."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
