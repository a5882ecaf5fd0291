"""The stages that measure: answers of each arm, speed of each model, and the report."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from understudy.arms import BASE_STUDENT
from understudy.evaluation.memory import PeakMemory
from understudy.evaluation.predict import predict as predict_rows
from understudy.evaluation.predict import speed
from understudy.files import write_jsonl
from understudy.models.load import load_example_tokenizer, load_model
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.stages.context import Context, Counter, held_out, teacher_weights, untrained_weights
from understudy.pipeline.stages.explained import predict_with_explanations
from understudy.pipeline.stages.served import served_predictions
from understudy.pipeline.summary import summarise
from understudy.recipe import ModelConfig, Recipe
from understudy.recipe.own_arms import for_arm
from understudy.records import Prediction, PredictionNotes, SpeedNotes
from understudy.run import Run
from understudy.tokens.collate import ExampleTokenizer


def arm_model(run: Run, recipe: Recipe, name: str) -> tuple[ModelConfig, str | None]:
    """The configuration and the weights of an arm: the teacher, the student as it came or a trained student."""
    arm = recipe.arm(name)
    if arm.model == "teacher":
        return recipe.local_teacher, teacher_weights(run, recipe)
    student = for_arm(recipe, name).student
    if arm.trained:
        return student, str(run.stage(stage_of("train", name).name) / "model")
    return student, untrained_weights(run, student, "student")


def _arm(context: Context, arm: str) -> tuple[Any, ExampleTokenizer]:
    config, weights = arm_model(context.run, context.recipe, arm)
    model = load_model(config, context.device, weights=weights, seed=context.recipe.seed)
    return model, load_example_tokenizer(config, context.recipe.data, weights=weights)


def predict(context: Context, arm: str) -> PredictionNotes:
    """Answer the test rows with one arm; one that learned texts explains its answers."""
    if context.recipe.arm(arm).learns == "task_texts":
        return predict_with_explanations(context, arm)
    predictions, tokenizer = _predictions(context, arm)
    write_jsonl(context.folder / "predictions.jsonl", [row.to_json() for row in predictions])
    return PredictionNotes(len(predictions), tokenizer.notes)


def _predictions(context: Context, arm: str) -> tuple[list[Prediction], ExampleTokenizer]:
    rows, served = held_out(context.run, context.recipe), context.recipe.served_teacher
    if served is not None and context.recipe.arm(arm).model == "teacher":
        tokenizer = load_example_tokenizer(served, context.recipe.data)
        return served_predictions(context, served, tokenizer, rows), tokenizer
    model, tokenizer = _arm(context, arm)
    counter = Counter(context.progress, len(rows), "answers")
    size = context.recipe.evaluate.batch_size
    return predict_rows(model, tokenizer, rows, batch_size=size, progress=counter), tokenizer


def speed_of(context: Context, which: str) -> SpeedNotes:
    """Size and speed of the teacher, or of the student.

    All students share one architecture; a trained one is timed, for an untrained one does not know when to stop.
    """
    names = reversed(context.recipe.evaluate.arms)
    trained = [name for name in names if context.run.is_done(stage_of("train", name).name)]
    memory = PeakMemory(context.device)
    model, tokenizer = _arm(context, which if which == "teacher" else (trained or [BASE_STUDENT.name])[0])
    rows = held_out(context.run, context.recipe)[:200]
    figures = speed(model, tokenizer, rows, batch_size=context.recipe.evaluate.batch_size)
    return SpeedNotes(replace(figures, peak_memory_mb=memory.bytes() / 2**20))


def report(context: Context, _: str) -> None:
    """Scores, report, and the student's folder."""
    summarise(context.run, context.recipe)
