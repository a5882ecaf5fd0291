"""Several answers to each question, scored by the teacher, and what the student learns of them."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from understudy import build
from understudy.errors import ConfigError, DataError
from understudy.files import fingerprint, read_jsonl, write_jsonl
from understudy.knowledge.store import read_step
from understudy.knowledge.votes import ANSWER, stated_answer
from understudy.models.decoding import Generated
from understudy.models.generate import choice_scores, generate
from understudy.models.load import load_example_tokenizer, load_model
from understudy.models.sampling import Sampling
from understudy.normal_form import normalise
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.stages.context import Context, Counter, rows_of, teacher_weights
from understudy.pipeline.stages.jobs import dev_score_of
from understudy.recipe import CandidatesConfig, Recipe
from understudy.recipe.own_arms import has_own_candidates
from understudy.records import CandidatesNotes
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.thoughts import without_thought
from understudy.tokens.weighed import WeighedAnswer, WeighedQuestion, encode_distributions, encode_sequences
from understudy.training.session import TrainingJob
from understudy.types import Example

FILE = "candidates.jsonl"


def candidates(context: Context, _: str) -> CandidatesNotes:
    """Let the teacher write answers where there are no choices, and score all of them.

    Raises:
        DataError: no question has an answer.
        ConfigError: choices are asked for, and a question has none.
    """
    recipe, config = context.recipe, config_of(context.recipe)
    questions = rows_of(context.run, "train") + rows_of(context.run, "unlabelled")
    weights = teacher_weights(context.run, recipe)
    tokenizer = load_example_tokenizer(recipe.local_teacher, recipe.data, weights=weights)
    seed = recipe.local_teacher.seed_or(recipe.seed)
    model = load_model(recipe.local_teacher, context.device, weights=weights, seed=seed)
    dropped = {"empty": 0, "unfinished": 0, "equal": 0}
    given = _given(context, config, questions)
    asked = [example for example in questions if example.id not in given]
    written = _written(context, config, model, tokenizer, asked)
    found = {
        example.id: _distinct(example, given.get(example.id) or written.get(example.id, []), recipe, dropped)
        for example in questions
    }
    kept = [example for example in questions if found[example.id]]
    if not kept:
        raise DataError(
            f"none of {len(questions)} questions has an answer to be weighed",
            hint="raise data.max_answer_tokens, set seqkd.keep_unfinished, or fine-tune the teacher (teacher.sft)",
        )
    weighed = _scored(context, model, tokenizer, kept, found)
    write_jsonl(context.folder / FILE, (_as_row(question) for question in weighed))
    return _notes(len(questions), weighed, dropped)


def config_of(recipe: Recipe) -> CandidatesConfig:
    """The section."""
    assert recipe.candidates is not None, "nothing is weighed without a section `candidates`"
    return recipe.candidates


Text = tuple[str, bool]
"""An answer, and whether whoever wrote it stopped there."""


def _given(context: Context, config: CandidatesConfig, questions: Sequence[Example]) -> dict[str, list[Text]]:
    """The answers that are there already, by example; those without are asked about."""
    labels = context.recipe.data.labels
    if config.source == "written":
        return {}
    if config.source == "generate":
        texts: dict[str, list[Text]] = {example.id: [] for example in questions}
        for row in read_step(context.run.stage(stage_of("generate").name), ANSWER):
            answer = stated_answer(row) if row.kept else None
            if answer and row.id in texts:
                texts[row.id].append((answer, True))
        return texts
    given = {example.id: [(text, True) for text in example.choices or labels] for example in questions}
    if config.source == "choices" and (lacking := [name for name, texts in given.items() if not texts]):
        raise ConfigError(
            f"candidates.source: choices, and {lacking[0]} has none", hint="take source: auto, or give data.labels"
        )
    return {name: texts for name, texts in given.items() if texts}


def _written(
    context: Context, config: CandidatesConfig, model: Any, tokenizer: ExampleTokenizer, asked: Sequence[Example]
) -> dict[str, list[Text]]:
    """The teacher's answers: its likeliest, then drawn ones, each by a seed of its own."""
    if not asked:
        return {}
    recipe, number = context.recipe, config.number
    prompts = [tokenizer.prompt_ids(example) for example in asked for _ in range(number)]
    samplings = [_sampling(config, recipe.seed, example.id, n) for example in asked for n in range(number)]
    answers = generate(
        model,
        tokenizer.template,
        prompts,
        max_new_tokens=recipe.data.max_answer_tokens,
        batch_size=recipe.evaluate.batch_size,
        samplings=samplings,
        progress=Counter(context.progress, len(prompts), "answers"),
    )
    rows = [answers[start : start + number] for start in range(0, len(answers), number)]
    return {example.id: [_text(answer) for answer in row] for example, row in zip(asked, rows, strict=True)}


def _sampling(config: CandidatesConfig, seed: int, name: str, number: int) -> Sampling:
    if number == 0:
        return Sampling()
    return Sampling(config.sampling_temperature, int(fingerprint([seed, name, number], length=12), 16))


def _text(answer: Generated) -> Text:
    text = without_thought(answer.text)
    return ("", False) if text is None else (text, answer.finished)


def _distinct(
    example: Example, texts: Sequence[Text], recipe: Recipe, dropped: dict[str, int]
) -> list[tuple[Text, bool]]:
    """The answers that differ in their normal form, the gold one first where it is one of them; with whether each is.

    The gold answer stands in where no other is left.
    """
    gold = example.answers[0] if example.labelled else None
    first = [(gold, True)] if gold is not None and config_of(recipe).gold else []
    kept: dict[str, Text] = {}
    for text, finished in (*first, *texts):
        if not text.strip():
            dropped["empty" if finished else "unfinished"] += 1
        elif not finished and not recipe.seqkd.keep_unfinished:
            dropped["unfinished"] += 1
        elif kept.setdefault(_form(text), (text, finished)) != (text, finished):
            dropped["equal"] += 1
    if not kept and gold is not None:
        # As where sequence-level distillation lacks an answer in gold's place.
        kept[_form(gold)] = (gold, True)
    return [(text, gold is not None and form == _form(gold)) for form, text in kept.items()]


def _form(text: str) -> str:
    return normalise(text) or text.strip()


def _scored(
    context: Context,
    model: Any,
    tokenizer: ExampleTokenizer,
    kept: Sequence[Example],
    found: Mapping[str, list[tuple[Text, bool]]],
) -> list[WeighedQuestion]:
    """What the teacher thinks of each."""
    unscored = [
        WeighedQuestion(
            example,
            tuple(WeighedAnswer(text, 0.0, 0, gold, finished) for (text, finished), gold in found[example.id]),
        )
        for example in kept
    ]
    context.progress(0, len(kept), "score")
    rows = [question.encode(tokenizer) for question in unscored]
    pad: Any = tokenizer.template.tokenizer.pad_token_id
    scores = choice_scores(model, rows, pad_id=pad, batch_size=context.recipe.evaluate.batch_size)
    return [
        WeighedQuestion(
            question.example,
            tuple(
                WeighedAnswer(a.text, logp, len(row.learned_ids), a.gold, a.finished)
                for a, row, logp in zip(question.answers, encoded, own, strict=True)
            ),
        )
        for question, encoded, own in zip(unscored, rows, scores, strict=True)
    ]


def _as_row(question: WeighedQuestion) -> dict[str, Any]:
    return {"id": question.example.id, "candidates": [asdict(answer) for answer in question.answers]}


def _notes(questions: int, weighed: Sequence[WeighedQuestion], dropped: Mapping[str, int]) -> CandidatesNotes:
    several = [question for question in weighed if len(question.answers) > 1]
    with_gold = [question for question in several if any(answer.gold for answer in question.answers)]
    right = [question for question in with_gold if max(question.answers, key=lambda answer: answer.logp).gold]
    return CandidatesNotes(
        questions=questions,
        rows=len(weighed),
        candidates=sum(len(question.answers) for question in weighed),
        several=len(several),
        gold_rows=len(with_gold),
        gold_likeliest=len(right),
        dropped=dropped,
    )


def candidates_job(context: Context) -> TrainingJob:
    """What the student of the stage's arm learns of the candidates."""
    recipe, config = context.recipe, config_of(context.recipe)
    questions = weighed_questions(context)
    encode = encode_sequences if config.learn == "sequences" else encode_distributions
    return TrainingJob(
        len(questions),
        encode=lambda student, *_: encode(questions, student, config),
        objective=functools.partial(lambda section, *_: build.candidate_objective(section), config),
        dev_score=dev_score_of(recipe),
    )


def weighed_questions(context: Context) -> list[WeighedQuestion]:
    """What the teacher weighed for the stage's arm."""
    run = context.run
    examples = {example.id: example for role in ("train", "unlabelled") for example in rows_of(run, role)}
    has_own = has_own_candidates(context.run_recipe, context.stage.argument)
    path = run.stage(stage_of("candidates", context.stage.argument if has_own else "").name) / FILE
    return [
        WeighedQuestion(examples[row["id"]], tuple(WeighedAnswer(**answer) for answer in row["candidates"]))
        for row in read_jsonl(path)
    ]
