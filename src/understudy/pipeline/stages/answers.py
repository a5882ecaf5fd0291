"""The teacher's own answers, and what the students read of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from understudy.errors import RunError
from understudy.files import read_jsonl, write_jsonl
from understudy.models.decoding import Generated
from understudy.models.generate import answer_examples
from understudy.models.load import load_example_tokenizer, load_model
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.stages.context import Context, Counter, as_row, from_row, rows_of, teacher_weights
from understudy.pipeline.stages.served import served_answers
from understudy.recipe.own_arms import has_own_answers
from understudy.records import AnswersNotes
from understudy.tokens.thoughts import without_thought
from understudy.types import Example

FILE = "answers.jsonl"


def answers(context: Context, _: str) -> AnswersNotes:
    """Let the teacher answer the questions without gold (and those with, unless `seqkd.keep_gold`)."""
    run, recipe = context.run, context.recipe
    questions = rows_of(run, "unlabelled")
    if not recipe.seqkd.keep_gold:
        questions = rows_of(run, "train") + questions
    kept, dropped = [], {"empty": 0, "unfinished": 0}
    for example, answer in zip(questions, _replies(context, questions), strict=True):
        text = without_thought(answer.text)
        if text is None:
            # There is no answer in it, finished or not.
            dropped["unfinished"] += 1
        elif not text:
            dropped["empty"] += 1
        elif not answer.finished and not recipe.seqkd.keep_unfinished:
            dropped["unfinished"] += 1
        else:
            # Where the gold answer stands says nothing of the teacher's.
            meta = {key: value for key, value in example.meta.items() if key != "answer_start"}
            meta |= {} if answer.finished else {"unfinished": True}
            kept.append(dataclasses.replace(example, answers=(text,), origin="teacher", rationales=(), meta=meta))
    write_jsonl(context.folder / FILE, (as_row(example) for example in kept))
    if not kept:
        raise RunError(
            f"the teacher gave no finished answer to any of {len(questions)} questions",
            hint="raise data.max_answer_tokens, set seqkd.keep_unfinished, or fine-tune it first (teacher.sft)",
        )
    return AnswersNotes(len(questions), len(kept), dropped)


def _replies(context: Context, questions: Sequence[Example]) -> list[Generated]:
    """What the teacher says to each question, here or over HTTP."""
    recipe, weights = context.recipe, teacher_weights(context.run, context.recipe)
    tokenizer = load_example_tokenizer(recipe.local_teacher, recipe.data, weights=weights)
    if recipe.served_teacher:
        return served_answers(context, recipe.served_teacher, tokenizer, questions)
    model = load_model(recipe.local_teacher, context.device, weights=weights, seed=recipe.seed)
    counter = Counter(context.progress, len(questions), "questions")
    return answer_examples(model, tokenizer, questions, batch_size=recipe.evaluate.batch_size, progress=counter)


def teacher_answers(context: Context) -> list[Example]:
    """What the teacher answered for the stage's arm; nothing where no arm uses its answers."""
    has_own = has_own_answers(context.run_recipe, context.stage.argument)
    path = context.run.stage(stage_of("answers", context.stage.argument if has_own else "").name) / FILE
    return [from_row(row) for row in read_jsonl(path)] if path.is_file() else []


def distilled_rows(context: Context) -> list[Example]:
    """What the distilled student reads: gold rows, and the unlabelled questions with the teacher's answers.

    Without unlabelled questions it reads the gold rows alone, and where it learns its own answers alone, these are only
    what its figures are counted from.
    """
    gold = rows_of(context.run, "train")
    if context.recipe.distil.writes_alone and context.recipe.arm(context.stage.argument).reads_signal:
        return gold
    gold_ids = {example.id for example in gold}
    return gold + [example for example in teacher_answers(context) if example.id not in gold_ids]


def seqkd_rows(context: Context) -> list[Example]:
    """What the SeqKD student reads: the same prompts, without `keep_gold` with the teacher's answer in gold's place."""
    if context.recipe.seqkd.keep_gold:
        return distilled_rows(context)
    answers = {example.id: example for example in teacher_answers(context)}
    return [answers.get(example.id, example) for example in distilled_rows(context)]
