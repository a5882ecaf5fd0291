"""The stages of a student that learns from the teacher's texts: what it and its observer learn, and how it does."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any

from understudy import build
from understudy.data.split import question_key
from understudy.data.tasks import TaskRow, WithRationales, rows_of_examples, split_answer, task_weights
from understudy.errors import DataError, RunError
from understudy.evaluation.explained_dev import explained_dev_scores
from understudy.evaluation.explanation_judge import judged_explanations
from understudy.evaluation.explanation_results import ExplanationFigures, Faithfulness, NotMeasured, Simulatability
from understudy.evaluation.explanations import explanation_figures, predict_explained, roles_of
from understudy.evaluation.faithfulness import faithfulness, swapped_answers
from understudy.evaluation.judge_check import check_judge
from understudy.evaluation.metric_models import metric_models_of
from understudy.evaluation.simulatability import observer_prompts, simulate
from understudy.files import write_jsonl
from understudy.knowledge.learned_texts import with_rationales
from understudy.metrics import Interval
from understudy.metrics.significance import Resampling
from understudy.models.load import load_example_tokenizer, load_model
from understudy.pipeline.kinds import reads_texts, stage_of
from understudy.pipeline.knowledge_report import STAGE
from understudy.pipeline.stages.context import Context, Counter, held_out, rows_of, student_weights
from understudy.pipeline.stages.jobs import gold_job, readings_of, run_job
from understudy.recipe import Recipe, TaskConfig
from understudy.recipe.knowledge import OF_DATA
from understudy.records import FigureLine, PredictionNotes, TrainingNotes
from understudy.run import Run
from understudy.tokens.collate import ExampleRows
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.task_rows import encode_groups
from understudy.training.session import TrainingJob

MAX_SWAPPED_ROWS = 300
"""So many examples have their rationales swapped, at most."""


def train_observer(context: Context, _: str) -> TrainingNotes:
    """Train the observer of its answers: a student of the same kind that reads explanations beside the question.

    Raises:
        RunError: there is no explanation to read.
    """
    recipe = context.recipe
    return run_job(context, recipe.student, student_weights(context), recipe.distil, _observed(context))


def explained_job(context: Context) -> TrainingJob:
    """What a student is taught of the texts of tasks.

    Raises:
        DataError: there is a task for which no example has a text.
    """
    recipe = context.recipe
    tasks = _tasks(recipe)
    explained, held_out_rows = without_held_out(context.run, explained_rows(context.run, recipe, "train"))
    _check_written(tasks, explained)
    texts = rows_of_examples(explained, tasks, seed=recipe.seed)
    lacking = task_weights(tasks).keys() - {row.task for rows in texts for row in rows}
    if lacking:
        raise DataError(
            f"tasks.kind {tasks.kind}: no example has a text for the task {min(lacking)}",
            hint="see in stages/generate why none was kept, then change generate.filter, or the kind or its weights",
        )
    objective = functools.partial(build.explained_objective, recipe)
    dev_score = functools.partial(explained_dev_scores, tasks=tasks, batch_size=recipe.evaluate.batch_size)
    return TrainingJob(
        len(texts),
        encode=functools.partial(_encoded, texts, held_out_rows),
        objective=objective,
        method=recipe.distil if tasks.logits else None,
        align=functools.partial(build.cross_tokenizer, recipe.distil) if tasks.logits else None,
        dev_score=dev_score,
        others=readings_of(recipe) if tasks.logits else {},
    )


def _encoded(
    texts: Sequence[Sequence[TaskRow]], num_held_out: int, student: ExampleTokenizer, *sides: Any
) -> list[ExampleRows]:
    for _ in range(num_held_out):
        student.add_note("questions that the teacher wrote left out: they are held-out ones")
    return encode_groups(texts, student, *sides)


def _check_written(tasks: TaskConfig, explained: Sequence[WithRationales]) -> None:
    written = {
        "paraphrases": tasks.paraphrases and not any(row.paraphrases for row in explained),
        "new_questions": tasks.new_questions and not any(row.new_questions for row in explained),
    }
    lacking = [name for name, is_lacking in written.items() if is_lacking]
    if lacking:
        raise DataError(
            f"tasks.{lacking[0]}: no example has any",
            hint="see in stages/generate why none was kept; what is a held-out question is not learned",
        )


def without_held_out(run: Run, explained: Sequence[WithRationales]) -> tuple[list[WithRationales], int]:
    """Leave out what the teacher wrote where it is a question of another split, or the example's own once more.

    Returns:
        The examples, and how many questions were those of another split.
    """
    held_out = {question_key(example) for role in ("dev", "test") for example in rows_of(run, role)}
    count, rows = 0, []
    for row in explained:
        reworded = {text: question_key(dataclasses.replace(row.example, question=text)) for text in row.paraphrases}
        further = [question_key(example) for example in row.new_questions]
        count += sum(key in held_out for key in (*reworded.values(), *further))
        excluded = held_out | {question_key(row.example)}
        paraphrases = tuple(text for text, key in reworded.items() if key not in excluded)
        new = tuple(q for q, key in zip(row.new_questions, further, strict=True) if key not in excluded)
        rows.append(dataclasses.replace(row, paraphrases=paraphrases, new_questions=new))
    return rows, count


def _observed(context: Context) -> TrainingJob:
    """Questions with their gold answers: alone, with the teacher's rationale, and the rationale alone."""
    rows = []
    for explained in explained_rows(context.run, context.recipe, "train"):
        if not explained.example.labelled:
            continue
        # Without its own answer, or the observer would learn to copy what the student does not write.
        text = split_answer(explained.rationale or "")[0]
        prompts = (
            observer_prompts(explained.example, text) if text and explained.example.choices else {"": explained.example}
        )
        rows += [dataclasses.replace(example, id=f"{example.id}/{view}") for view, example in prompts.items()]
    if not any("/" in row.id and not row.id.endswith("/") for row in rows):
        raise RunError("no example has a rationale for the observer to read", hint="leave evaluate.simulatability off")
    return gold_job(context.recipe, rows)


def explained_rows(run: Run, recipe: Recipe, role: str) -> list[WithRationales]:
    """The labelled rows of a split with what was written about them, and unlabelled ones with a text of their own."""
    tasks = _tasks(recipe)
    examples = rows_of(run, role)
    if role == "train" and recipe.generate and "unlabelled" in recipe.generate.roles:
        examples += rows_of(run, "unlabelled")
    if tasks.kind == "answer":
        examples = [example for example in examples if example.labelled]
    if not (reads_texts(recipe) and run.is_done(STAGE)) and tasks.rationales != OF_DATA:
        return [WithRationales(example) for example in examples if example.labelled]
    return with_rationales(
        examples,
        run.stage(STAGE),
        tasks.rationales,
        paraphrases=tasks.paraphrases,
        new_questions=tasks.new_questions,
    )


def _tasks(recipe: Recipe) -> TaskConfig:
    assert recipe.tasks is not None
    return recipe.tasks


# -- how it does -----------------------------------------------------------------------------------------------------


def predict_with_explanations(context: Context, arm: str) -> PredictionNotes:
    """Answer the held-out rows and explain them; swap rationales; let the observer foresee the answers."""
    run, recipe = context.run, context.recipe
    tasks, size = _tasks(recipe), recipe.evaluate.batch_size
    model, tokenizer = _load(context, stage_of("train", arm).name)
    rows = held_out(run, recipe)
    roles = roles_of(tasks)
    answers_separately = roles.explanation not in (None, roles.answer)
    counter = Counter(context.progress, len(rows) * (2 if answers_separately else 1), "answers")
    predictions = predict_explained(model, tokenizer, rows, tasks, batch_size=size, progress=counter)
    write_jsonl(context.folder / "predictions.jsonl", [row.to_json() for row in predictions])
    resampling = Resampling(recipe.evaluate.resamples, recipe.evaluate.confidence, recipe.seed)
    lines = figure_lines(explanation_figures(predictions, resampling=resampling)) if tasks.kind != "answer" else []
    if tasks.kind != "answer":
        swapped, role = counterfactual_rows(run, recipe)
        swaps = swapped_answers(model, tokenizer, swapped, tasks, batch_size=size)
        write_jsonl(context.folder / "swaps.jsonl", [swap.to_json() for swap in swaps])
        lines += faithfulness_lines(faithfulness(swaps, tasks, resampling=resampling), role)
    if (observed := stage_of("observer").name) in context.stage.needs:
        observer, its_tokenizer = _load(context, observed)
        lines += observer_lines(simulate(observer, its_tokenizer, predictions, batch_size=size, resampling=resampling))
    if recipe.evaluate.judge and tasks.kind != "answer":
        models = metric_models_of(recipe.evaluate, account=run.folder.name)
        figures = judged_explanations(predictions, models, resampling=resampling)
        silent = [(name, figure.reason) for name, figure in figures.items() if isinstance(figure, NotMeasured)]
        check_judge(recipe.evaluate.judge.model, silent)
        lines += judged_lines(figures)
    return PredictionNotes(len(predictions), tokenizer.notes, tuple(lines))


def counterfactual_rows(run: Run, recipe: Recipe) -> tuple[list[WithRationales], str]:
    """Examples whose rationale can be swapped: of the development split where there are any, else training rows."""
    for role in ("dev", "train"):
        examples = [example for example in explained_rows(run, recipe, role) if example.counterfactuals]
        if examples:
            return examples[:MAX_SWAPPED_ROWS], role
    return [], "train"


def _load(context: Context, name: str) -> tuple[Any, ExampleTokenizer]:
    recipe, weights = context.recipe, str(context.run.stage(name) / "model")
    model = load_model(recipe.student, context.device, weights=weights, seed=recipe.seed)
    return model, load_example_tokenizer(recipe.student, recipe.data, weights=weights)


# -- figures as lines of the report ----------------------------------------------------------------------------------


def _line(
    label: str,
    figure: Interval | NotMeasured,
    *,
    scale: int = 100,
    about: str = "",
    without: str = "there is nothing to count",
) -> FigureLine:
    if isinstance(figure, NotMeasured):
        return FigureLine(label, reason=figure.reason)
    if not isfinite(figure.value):
        return FigureLine(label, reason=without)
    low, high = (bound if isfinite(bound) else None for bound in (figure.low, figure.high))
    return FigureLine(label, figure.value, low, high, figure.n, scale, about)


def figure_lines(figures: ExplanationFigures) -> list[FigureLine]:
    """What the explanations are like."""
    return [
        _line("An answer could be read, %", figures.answer_given),
        _line("The answer names no option, %", figures.names_no_option),
        _line("Words", figures.words, scale=1),
        _line("Other choices mentioned", figures.distractors, scale=1),
        _line("Names the answer that was given, %", figures.names_own_answer),
        _line("Cut at the longest length, %", figures.unfinished),
    ]


def faithfulness_lines(figures: Faithfulness | NotMeasured, role: str) -> list[FigureLine]:
    """Whether the answer goes along with the rationale."""
    labels = ("The answer follows a swapped rationale, %", "… where it was another one before, %")
    if isinstance(figures, NotMeasured):
        return [_line(labels[0], figures)]
    about = [f"on {figures.examples:,} {'development' if role == 'dev' else 'training'} rows"]
    about += [figures.note] if figures.note else []
    shares = (figures.follows, figures.flips)
    return [_line(label, share, about="; ".join(about)) for label, share in zip(labels, shares, strict=True)]


def judged_lines(figures: Mapping[str, Interval | NotMeasured]) -> list[FigureLine]:
    """What the judge says of the explanations."""
    labels = {
        "answer_relevance": "Judged: speaks to the question, %",
        "faithfulness": "Judged: borne out by the context, %",
    }
    return [_line(labels[metric], figure) for metric, figure in figures.items()]


def observer_lines(figures: Simulatability | NotMeasured) -> list[FigureLine]:
    """How much the explanations help an observer to foresee the answers."""
    if isinstance(figures, NotMeasured):
        return [_line("Simulatability", figures)]
    left = f"{figures.left_out:,} rows left out" if figures.left_out else ""
    return [
        _line("The observer foresees the answer from the question, %", figures.question_alone, about=left),
        _line("… from question and explanation, %", figures.both),
        _line("The explanation alone gives the answer away, %", figures.leaking),
        _line("Simulatability: gain by the explanation, points", figures.gain),
        _line(
            "… adjusted for leaking (LAS), points",
            figures.las,
            without="not defined: every explanation gives the answer away, or none does",
        ),
    ]
