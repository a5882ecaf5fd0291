"""What training stages are made of: jobs on questions and answers, and the session in which one is done."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

from understudy import build
from understudy.evaluation.predict import dev_scores
from understudy.pipeline.stages.context import Context, cache_folder, rows_of, teacher_weights
from understudy.recipe import ModelConfig, Recipe, TrainConfig
from understudy.records import TrainingNotes
from understudy.run import Run
from understudy.teachers.ensemble import shares_of
from understudy.tokens.collate import encode_rows
from understudy.training.schedule import train_schedule
from understudy.training.session import Reading, Session, TrainingJob, num_processes, train_model
from understudy.types import Example


def gold_job(recipe: Recipe, rows: Sequence[Example]) -> TrainingJob:
    """Answers as they stand."""
    return TrainingJob(
        len(rows),
        encode=lambda *sides: encode_rows(rows, *sides),
        objective=lambda *_: build.gold_objective(),
        dev_score=dev_score_of(recipe),
    )


def distillation_job(recipe: Recipe, rows: Sequence[Example], prompts: Sequence[Example] = ()) -> TrainingJob:
    """Answers with what the teacher's logits or states say of them; `prompts` are what the student itself is asked."""
    return TrainingJob(
        len(rows),
        encode=lambda *sides: encode_rows(rows, *sides),
        objective=functools.partial(build.distilled_objective, recipe),
        method=recipe.distil,
        align=functools.partial(build.cross_tokenizer, recipe.distil),
        dev_score=dev_score_of(recipe),
        others=readings_of(recipe),
        prompts=prompts or rows,
    )


def readings_of(recipe: Recipe) -> dict[str, Reading]:
    """How the further teachers of a recipe are read whose losses are added."""
    methods = recipe.teachers.methods(recipe.distil) if recipe.teachers else {}
    return {
        name: Reading(
            method, functools.partial(build.objective, method), functools.partial(build.cross_tokenizer, method)
        )
        for name, method in methods.items()
    }


def dev_score_of(recipe: Recipe) -> Any:
    """What scores development answers on the way, of a tokenizer and the rows."""
    return functools.partial(dev_scores, batch_size=recipe.evaluate.batch_size)


def equal_steps(run: Run, recipe: Recipe) -> int:
    """Optimiser steps of every arm: `distil.steps`, or `distil.epochs` over what the distilled student reads."""
    if recipe.distil.steps:
        return recipe.distil.steps
    rows = len(rows_of(run, "train")) + len(rows_of(run, "unlabelled"))
    return train_schedule(recipe.distil, rows, processes=num_processes()).steps


def session_of(context: Context, config: ModelConfig, weights: str | None, training: TrainConfig) -> Session:
    """The session in which a stage of this run trains."""
    name, recipe = context.stage.name, context.recipe
    return Session(name, context.folder, recipe, config, weights, training, context.device, context.progress)


def run_job(
    context: Context, config: ModelConfig, weights: str | None, training: TrainConfig, job: TrainingJob
) -> TrainingNotes:
    """Train `config`'s model, and keep it in the stage's folder."""
    run, recipe = context.run, context.recipe
    session = session_of(context, config, weights, training)
    if job.method is None:
        return train_model(session, job, rows_of(run, "dev"))
    teacher, cache = teacher_weights(run, recipe), cache_folder(run, recipe)
    shares = None
    if recipe.teachers is not None:
        shares = shares_of(recipe.teachers, [*rows_of(run, "train"), *rows_of(run, "unlabelled")])
    dev = rows_of(run, "dev")
    return train_model(
        session, job, dev, teacher_weights=teacher, teacher_cache=cache, shares=shares, account=run.folder.name
    )


def model_named(recipe: Recipe, name: str) -> ModelConfig:
    """The section of the teacher, or of the student that an arm starts from."""
    return recipe.local_teacher if name == "teacher" else recipe.student
