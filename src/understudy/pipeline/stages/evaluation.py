"""The stages that measure: answers of each arm, speed of each model, and the report."""

from __future__ import annotations

from typing import Any

from understudy.evaluation.memory import PeakMemory
from understudy.evaluation.predict import predict, speed
from understudy.files import write_jsonl
from understudy.models.load import load_model, load_template
from understudy.pipeline.stages.context import Context, Counter, rows_of, teacher_weights
from understudy.pipeline.summary import summarise
from understudy.recipe import ModelConfig, Recipe
from understudy.run import Run
from understudy.tokens.collate import ExampleTokenizer
from understudy.types import Example


def arm_model(run: Run, recipe: Recipe, arm: str) -> tuple[ModelConfig, str | None]:
    """The configuration and the weights of an arm: teacher, base_student or a trained student."""
    if arm == "teacher":
        return recipe.local_teacher, teacher_weights(run, recipe)
    if arm == "base_student":
        return recipe.student, None
    return recipe.student, str(run.stage(f"train-{arm}") / "model")


def _arm(context: Context, arm: str) -> tuple[Any, ExampleTokenizer]:
    config, weights = arm_model(context.run, context.recipe, arm)
    template = load_template(config, weights=weights)
    model = load_model(config, context.device, weights=weights, seed=context.recipe.seed)
    return model, ExampleTokenizer(template, context.recipe.data)


def held_out(run: Run, recipe: Recipe) -> list[Example]:
    """The test rows that are evaluated."""
    return rows_of(run, "test")[: recipe.evaluate.rows]


def predict_arm(context: Context, arm: str) -> dict[str, Any]:
    """Answer the test rows with one arm."""
    model, encoder = _arm(context, arm)
    rows = held_out(context.run, context.recipe)
    counter = Counter(context.progress, len(rows), "answers")
    predictions = predict(model, encoder, rows, batch_size=context.recipe.evaluate.batch_size, progress=counter)
    write_jsonl(context.run.stage(f"predict-{arm}") / "predictions.jsonl", [row.to_json() for row in predictions])
    return {"rows": len(predictions), "notes": encoder.notes}


def speed_of(context: Context, which: str) -> dict[str, Any]:
    """Size and speed of the teacher, or of the student.

    All students share one architecture; a trained one is timed, for an untrained one does not know when to stop.
    """
    trained = [arm for arm in reversed(context.recipe.evaluate.arms) if context.run.is_done(f"train-{arm}")]
    memory = PeakMemory(context.device)
    model, encoder = _arm(context, which if which == "teacher" else (trained or ["base_student"])[0])
    rows = held_out(context.run, context.recipe)[:200]
    figures = speed(model, encoder, rows, batch_size=context.recipe.evaluate.batch_size)
    return {"speed": {**figures, "peak_memory_mb": memory.bytes() / 2**20}}


def report(context: Context, _: str) -> dict[str, Any]:
    """Scores, report, and the student's folder."""
    summarise(context.run, context.recipe)
    return {}
