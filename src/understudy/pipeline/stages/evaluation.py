"""The stages that measure: answers of each arm, speed of each model, and the report."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any

from understudy.arms import BASE_STUDENT
from understudy.build import check_writes
from understudy.bundle_answers import Bundle, write_answer
from understudy.data.sessions import is_session
from understudy.errors import ConfigError
from understudy.evaluation.memory import PeakMemory
from understudy.evaluation.predict import predict as predict_rows
from understudy.evaluation.predict import speed
from understudy.files import write_jsonl
from understudy.models.constrained import Grammars
from understudy.models.head import base_model
from understudy.models.load import load_example_tokenizer, load_model, num_parameters
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.stages.context import (
    Context,
    Counter,
    held_out,
    starting_weights,
    teacher_weights,
    untrained_weights,
)
from understudy.pipeline.stages.explained import predict_with_explanations
from understudy.pipeline.stages.informed import of_rows, put_with_knowledge, served
from understudy.pipeline.stages.served import served_predictions
from understudy.pipeline.summary import summarise
from understudy.recipe import EndpointConfig, ModelConfig, Recipe, TeacherConfig
from understudy.recipe.own_arms import for_arm, has_own_student, is_informed
from understudy.records import AnswerCost, Prediction, PredictionNotes, SpeedNotes
from understudy.run import CONSTRAINED, PREDICTIONS, Run
from understudy.sessions.answer_forms import answer_grammar
from understudy.tokens.collate import ExampleTokenizer
from understudy.training.session import with_its_teacher
from understudy.types import Example


def arm_model(run: Run, recipe: Recipe, name: str) -> tuple[ModelConfig, str | None]:
    """The configuration and the weights of an arm: the teacher, the student as it came or a trained student."""
    arm = recipe.arm(name)
    if arm.model == "teacher":
        return recipe.local_teacher, teacher_weights(run, recipe)
    student = for_arm(recipe, name).student
    if arm.trained:
        return student, str(run.stage(stage_of("train", name).name) / "model")
    if is_informed(recipe, name):
        own = name if has_own_student(recipe, name) else "student"
        return student, starting_weights(run, student, own)
    return student, untrained_weights(run, student, "student")


def _arm(context: Context, arm: str) -> tuple[Any, ExampleTokenizer]:
    config, weights = arm_model(context.run, context.recipe, arm)
    model = load_model(config, context.device, weights=weights, seed=context.recipe.seed)
    return model, load_example_tokenizer(config, context.recipe.data, weights=weights)


def beside(context: Context, arm: str, model: Any) -> AbstractContextManager[Any]:
    """What an arm's model answers in: its teacher, where it was not weaned off its teacher's states."""
    recipe = for_arm(context.run_recipe, arm)
    if recipe.features is None or not recipe.arm(arm).reads_signal:
        return nullcontext()
    folder, weights = context.run.stage(stage_of("train", arm).name), teacher_weights(context.run, recipe)
    return with_its_teacher(recipe, model, context.device, weights, folder)


def predict(context: Context, arm: str) -> PredictionNotes:
    """Answer the test rows with one arm; one that learned texts explains its answers.

    Of sessions it is counted what the answers took. With `evaluate.constrained: both` they are answered twice.

    Raises:
        ConfigError: constrained answers are asked for, and the rows are no sessions.
    """
    recipe, rows = context.recipe, held_out(context.run, context.recipe)
    if recipe.arm(arm).learns == "task_texts":
        return predict_with_explanations(context, arm)
    sessions, asked = all(map(is_session, rows)), recipe.evaluate.constrained
    if asked and not sessions:
        raise ConfigError(
            "evaluate.constrained holds answers to bundles of sessions, and these rows are none",
            hint="leave it out, or give sessions as data.source",
        )
    answer = _answering(context, arm, rows)
    free, cost, tokenizer = answer(asked is True)
    write_jsonl(context.folder / PREDICTIONS, [row.to_json() for row in free])
    held_cost = None
    if asked == "both":
        held, held_cost, _ = answer(True)
        write_jsonl(context.folder / CONSTRAINED, [row.to_json() for row in held])
    return PredictionNotes(len(free), tokenizer.notes, cost=cost if sessions else None, constrained_cost=held_cost)


Answered = tuple[list[Prediction], AnswerCost | None, ExampleTokenizer]


def _answering(context: Context, arm: str, rows: list[Example]) -> Callable[[bool], Answered]:
    """What answers the rows, constrained or not; the model is loaded once."""
    recipe, knows = context.recipe, is_informed(context.run_recipe, arm)
    server = recipe.served_teacher if recipe.arm(arm).model == "teacher" else None
    endpoint = recipe.knowledge.endpoint if knows and recipe.knowledge else None
    if server is not None or endpoint is not None:
        tokenizer = load_example_tokenizer(server or recipe.student, recipe.data)
        put = put_with_knowledge(context, tokenizer, rows) if knows else rows
        return lambda held: _on_server(context, server, endpoint, tokenizer, put, rows, held)
    memory = PeakMemory(context.device)
    model, tokenizer = _arm(context, arm)
    put = put_with_knowledge(context, tokenizer, rows) if knows else rows
    if recipe.evaluate.constrained:
        check_constrained(model, tokenizer, arm)

    def answer(held: bool) -> Answered:
        counter, size = Counter(context.progress, len(rows), "answers"), recipe.evaluate.batch_size
        with beside(context, arm, model):
            answers = predict_rows(model, tokenizer, put, batch_size=size, constrained=held, progress=counter)
        read = sum(len(tokenizer.prompt_ids(row)) for row in put) if all(map(is_session, put)) else 0
        cost = AnswerCost(
            len(answers),
            read,
            sum(row.tokens or 0 for row in answers),
            sum(row.seconds or 0.0 for row in answers),
            num_parameters(model),
            memory.bytes() / 2**20,
        )
        return of_rows(answers, rows) if knows else answers, cost, tokenizer

    return answer


def _on_server(
    context: Context,
    server: TeacherConfig | None,
    endpoint: EndpointConfig | None,
    tokenizer: ExampleTokenizer,
    put: list[Example],
    rows: list[Example],
    held: bool,
) -> Answered:
    if server is not None and not held:
        return served_predictions(context, server, tokenizer, rows), None, tokenizer
    asked = endpoint or (server.endpoint if server else None)
    assert asked is not None, "nobody answers"
    answers, cost = served(context, asked, tokenizer, put, held)
    return of_rows(answers, rows), cost, tokenizer


def check_constrained(model: Any, tokenizer: ExampleTokenizer, name: str) -> None:
    """Refuse to constrain a model that points, or whose vocabulary cannot spell the answers.

    Raises:
        ConfigError: it points.
        ModelError: see `Grammars`.
    """
    check_writes("evaluate.constrained", tokenizer.template)
    grammars = Grammars(tokenizer.template, base_model(model).get_output_embeddings().weight.shape[0])
    grammars.check(answer_grammar(12), write_answer([Bundle((1, 12), "a few words")]), name)


def speed_of(context: Context, which: str) -> SpeedNotes:
    """Size and speed of the teacher, or of the student.

    All students share one architecture; a trained one is timed, for an untrained one does not know when to stop.
    """
    names = reversed(context.recipe.evaluate.arms)
    trained = [name for name in names if context.run.is_done(stage_of("train", name).name)]
    memory = PeakMemory(context.device)
    model, tokenizer = _arm(context, which if which == "teacher" else (trained or [BASE_STUDENT.name])[0])
    rows = held_out(context.run, context.recipe)[:200]
    with beside(context, BASE_STUDENT.name if which == "teacher" or not trained else trained[0], model):
        figures = speed(model, tokenizer, rows, batch_size=context.recipe.evaluate.batch_size)
    return SpeedNotes(replace(figures, peak_memory_mb=memory.bytes() / 2**20))


def report(context: Context, _: str) -> None:
    """Scores, report, and the student's folder."""
    summarise(context.run, context.recipe)
