"""The stages that train on questions and answers: fine-tuning before distillation, and the arms."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from understudy import build
from understudy.evaluation.predict import dev_scores
from understudy.pipeline.stages.answers import distilled_rows, seqkd_rows
from understudy.pipeline.stages.context import (
    Context,
    pretrained_weights,
    rows_of,
    student_weights,
    teacher_weights,
)
from understudy.pipeline.stages.knowledge import lessons
from understudy.recipe import ModelConfig, Recipe, TrainConfig
from understudy.run import Run
from understudy.tokens.collate import encode_rows
from understudy.training.schedule import plan
from understudy.training.session import Session, TrainingJob, num_processes, train_model
from understudy.types import Example


def teacher_sft(context: Context, _: str) -> dict[str, Any]:
    """Fine-tune the teacher on the gold answers."""
    return _sft_before(context, "teacher", context.recipe.local_teacher)


def student_sft(context: Context, _: str) -> dict[str, Any]:
    """Fine-tune the student on the gold answers; every arm starts from it."""
    return _sft_before(context, "student", context.recipe.student)


def _sft_before(context: Context, side: str, config: ModelConfig) -> dict[str, Any]:
    assert config.sft is not None
    rows, weights = rows_of(context.run, "train"), pretrained_weights(context.run, config, side)
    rows += lessons(context.run, context.recipe) if side == "teacher" else []
    return run_job(context, f"{side}_sft", config, weights, config.sft, gold_job(context.recipe, rows))


def gold_job(recipe: Recipe, rows: Sequence[Example]) -> TrainingJob:
    """Answers as they stand."""
    return TrainingJob(
        len(rows),
        encode=lambda *sides: encode_rows(rows, *sides),
        objective=lambda *_: build.gold_objective(),
        dev_score=_dev_score(recipe),
    )


def distillation_job(recipe: Recipe, rows: Sequence[Example]) -> TrainingJob:
    """Answers with what the teacher's logits or states say of them."""
    return TrainingJob(
        len(rows),
        encode=lambda *sides: encode_rows(rows, *sides),
        objective=functools.partial(build.objective, recipe.distil),
        method=recipe.distil,
        align=functools.partial(build.bridge, recipe.distil),
        dev_score=_dev_score(recipe),
    )


def _dev_score(recipe: Recipe) -> Any:
    return functools.partial(dev_scores, batch_size=recipe.evaluate.batch_size)


def train(context: Context, arm: str) -> dict[str, Any]:
    """Train one arm. All arms take the same number of steps; SeqKD and distilled read the same prompts."""
    run, recipe = context.run, context.recipe
    gold = rows_of(run, "train")
    steps = equal_steps(run, recipe)
    config = recipe.distil.model_copy(update={"steps": steps})
    stage, weights = f"train-{arm}", student_weights(run, recipe)
    if arm in ("sft", "seqkd"):
        rows = gold if arm == "sft" else seqkd_rows(run, recipe)
        return run_job(context, stage, recipe.student, weights, config, gold_job(recipe, rows))
    rows = gold if arm == "kd_gold" else distilled_rows(run, recipe)
    return run_job(context, stage, recipe.student, weights, config, distillation_job(recipe, rows))


def equal_steps(run: Run, recipe: Recipe) -> int:
    """Optimiser steps of every arm: `distil.steps`, or `distil.epochs` over what the distilled student reads."""
    if recipe.distil.steps:
        return recipe.distil.steps
    rows = len(rows_of(run, "train")) + len(rows_of(run, "unlabelled"))
    return plan(recipe.distil, rows, processes=num_processes()).steps


def session_of(
    context: Context, stage: str, config: ModelConfig, weights: str | None, training: TrainConfig
) -> Session:
    """The session in which a stage of this run trains."""
    folder = context.run.stage(stage)
    return Session(stage, folder, context.recipe, config, weights, training, context.device, context.progress)


def run_job(
    context: Context,
    stage: str,
    config: ModelConfig,
    weights: str | None,
    training: TrainConfig,
    job: TrainingJob,
) -> dict[str, Any]:
    """Train `config`'s model, and keep it in the stage's folder."""
    run, recipe = context.run, context.recipe
    session = session_of(context, stage, config, weights, training)
    teacher = None if job.method is None else teacher_weights(run, recipe)
    return train_model(session, job, rows_of(run, "dev"), teacher_weights=teacher)
