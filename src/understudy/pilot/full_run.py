"""What the full run would take: each stage of the pilot's largest amount, by what there is more of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from understudy.pilot.plan import Plan, steps_of, teacher_steps
from understudy.pipeline.kinds import side_of
from understudy.pipeline.stage import Stage
from understudy.recipe import Recipe


@dataclass(frozen=True)
class FullRun:
    """The full run, extrapolated.

    Attributes:
        seconds: of all stages, shared out among the recipe's workers.
        steps: of each student.
        rows: to learn from.
        test_rows: to be answered.
        money: at the price that was given; None without one.
    """

    seconds: float
    steps: int
    rows: int
    test_rows: int
    money: float | None = None


def full_run(
    measured: Mapping[Stage, float], recipe: Recipe, plan: Plan, price_per_hour: float | None = None
) -> FullRun:
    """Time and money of the full run.

    Args:
        measured: stages of the pilot's largest amount and what each took, in seconds.
        recipe: of the full run.
        plan: of the pilot.
        price_per_hour: of the machine.
    """
    steps = recipe.distil.steps or steps_of(plan.sizes.learned, recipe.distil.batch_size, recipe.distil.epochs)
    factors = _factors(steps, recipe, plan)
    seconds = sum(value * factors.get(_kind(stage), 1.0) for stage, value in measured.items()) / recipe.workers
    money = None if price_per_hour is None else seconds / 3600 * price_per_hour
    return FullRun(seconds, steps, plan.sizes.learned, plan.sizes.test, money)


def _kind(stage: Stage) -> str:
    return "teacher_sft" if stage.kind == "sft" and side_of(stage) == "teacher" else stage.kind


def _factors(steps: int, recipe: Recipe, plan: Plan) -> dict[str, float]:
    """Kind of stage → how many times as much of it the full run has."""
    tuning = recipe.local_teacher.sft
    gold = plan.sizes.train
    tuned = teacher_steps(tuning, gold * plan.share, plan.share)
    rows = 1 / plan.share
    return {
        "train": steps / plan.steps[-1],
        "teacher_sft": teacher_steps(tuning, gold, 1.0) / tuned if tuned else 1.0,
        "sft": rows,
        "answers": rows,
        "cache": rows,
        "predict": plan.sizes.test / plan.design.test_rows,
    }
