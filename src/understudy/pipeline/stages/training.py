"""The stages that train on questions and answers: fine-tuning before distillation, and the arms."""

from __future__ import annotations

from understudy.arms import Arm
from understudy.pipeline.stages.answers import distilled_rows, seqkd_rows
from understudy.pipeline.stages.candidates import candidates_job
from understudy.pipeline.stages.context import Context, pretrained_weights, rows_of, student_weights
from understudy.pipeline.stages.explained import explained_job
from understudy.pipeline.stages.informed import informed_job
from understudy.pipeline.stages.jobs import distillation_job, equal_steps, gold_job, model_named, run_job
from understudy.pipeline.stages.knowledge import teaching_examples
from understudy.records import TrainingNotes
from understudy.training.session import TrainingJob
from understudy.types import Example


def sft(context: Context, name: str) -> TrainingNotes:
    """Fine-tune the teacher, the student or the student of one arm on the gold answers, before distillation."""
    config = model_named(context.recipe, name)
    assert config.sft is not None
    rows, weights = rows_of(context.run, "train"), pretrained_weights(context.run, config, name)
    rows += teaching_examples(context.run, context.recipe) if name == "teacher" else []
    return run_job(context, config, weights, config.sft, gold_job(context.recipe, rows))


def train(context: Context, arm: str) -> TrainingNotes:
    """Train one arm. All arms take the same number of steps; SeqKD and distilled read the same prompts.

    Raises:
        DataError: there is a task for which no example has a text.
    """
    recipe = context.recipe
    # As many steps as every other arm, whatever is left out of its rows.
    config = recipe.distil.model_copy(update={"steps": equal_steps(context.run, recipe)})
    return run_job(context, recipe.student, student_weights(context), config, job_of(context, recipe.arm(arm)))


def job_of(context: Context, arm: Arm) -> TrainingJob:
    """What an arm is taught."""
    if arm.learns == "task_texts":
        return explained_job(context)
    if arm.learns == "knowledge":
        return informed_job(context)
    if arm.learns == "candidates":
        return candidates_job(context)
    rows = {"gold": gold_rows, "teacher_text": seqkd_rows, "gold_and_teacher_text": distilled_rows}
    assert arm.learns is not None, f"nothing is trained for the arm {arm.name}"
    learned = rows[arm.learns](context)
    if not arm.reads_signal:
        return gold_job(context.recipe, learned)
    return distillation_job(context.recipe, learned, prompts(context) if context.recipe.distil.on_policy else ())


def prompts(context: Context) -> list[Example]:
    """What a student is asked that learns its own answers: questions with a gold answer, and those without."""
    return rows_of(context.run, "train") + rows_of(context.run, "unlabelled")


def gold_rows(context: Context) -> list[Example]:
    """The rows with a gold answer."""
    return rows_of(context.run, "train")
