"""Answers of a student that learned from texts, with the explanations that it gives for them.

| learned kind                | the answer comes from                | the explanation comes from |
|-----------------------------|--------------------------------------|----------------------------|
| `answer`                    | question                             | nowhere                    |
| `rationale_answer`          | question: behind the mark            | the same text, before it   |
| `multitask`                 | `[predict]` question                 | `[explain]` question       |
| `counterfactual`            | `[factual]` question: behind the mark| the same text, before it   |
| `multitask_counterfactual`  | `[predict]` question                 | `[explain]` question       |

A task that had no weight in training is not asked; where `[predict]` had none, `[factual]` answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from understudy.data.option_mentions import folded, mentioned, named_option
from understudy.data.tasks import prompt_example, split_answer, task_weights, with_answer
from understudy.errors import ConfigError
from understudy.evaluation.explanation_results import NO_VALUE, ExplanationFigures
from understudy.evaluation.predict import answers_alone, row_of
from understudy.metrics import Interval
from understudy.metrics.significance import DEFAULT_RESAMPLING, Resampling, bootstrap_interval
from understudy.models.decoding import Generated
from understudy.models.generate import choice_scores, generate
from understudy.models.head import base_model
from understudy.models.positions import table_sizes
from understudy.recipe import TaskConfig
from understudy.records import ExplainedPrediction, Prediction, Swap
from understudy.tokens.encoded import TokenizedExample
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.types import Example

READS_RATIONALE = ("factual", "rationale")
"""Tasks whose answer follows a rationale in the same text."""

_WORD = re.compile(r"\w+(?:['’]\w+)*")


@dataclass(frozen=True, slots=True)
class TaskRoles:
    """Which task a student is asked for what.

    Attributes:
        answer: the task whose text holds the answer.
        explanation: the task whose text holds the explanation; the same one where it is one text; None without any.
        reading: the task whose answer reads a rationale; None where the student never learned one.
    """

    answer: str
    explanation: str | None
    reading: str | None


def roles_of(tasks: TaskConfig) -> TaskRoles:
    """The tasks of a kind of training that answer, explain, and read a rationale, as in the table above.

    Raises:
        ConfigError: the weights leave no task that answers.
    """
    learned = task_weights(tasks)
    answer = next((task for task in ("answer", "predict", *READS_RATIONALE) if task in learned), None)
    if answer is None:
        raise ConfigError(
            f"tasks.kind {tasks.kind}: with these weights no task answers, only {', '.join(learned)}",
            hint="give predict_weight or factual_weight a value above 0",
        )
    reading = next((task for task in READS_RATIONALE if task in learned), None)
    separate = "explain" if "explain" in learned else reading
    return TaskRoles(answer, answer if answer == reading else separate, reading)


def predict_explained(
    model: nn.Module,
    tokenizer: ExampleTokenizer,
    examples: Sequence[Example],
    tasks: TaskConfig,
    *,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> list[ExplainedPrediction]:
    """Answer and explain every example greedily; score the choices by likelihood.

    Where the answer follows a rationale, the choices are scored behind the rationale that the model has written;
    where the model's positions do not suffice, without its beginning (counted in the tokenizer's notes).

    Args:
        model: a causal language model or an encoder–decoder.
        tokenizer: its template and the lengths.
        examples: held-out rows with references.
        tasks: what the student learned.
        batch_size: rows at once.
        progress: called with the number of texts just written; explanations asked for apart count too.

    Returns:
        One an example, in order.

    Raises:
        ConfigError: as in `roles_of`.
    """
    roles = roles_of(tasks)
    texts = generate_task(model, tokenizer, examples, roles.answer, batch_size=batch_size, progress=progress)
    separate_texts: list[Generated] = []
    if roles.explanation not in (None, roles.answer):
        separate_texts = generate_task(
            model, tokenizer, examples, roles.explanation, batch_size=batch_size, progress=progress
        )
    reads_rationale = roles.answer in READS_RATIONALE
    split_texts = [split_answer(text.text) if reads_rationale else ("", text.text.strip() or None) for text in texts]
    rationales = [rationale for rationale, _ in split_texts] if reads_rationale else None
    scores = option_scores(model, tokenizer, examples, roles.answer, rationales=rationales, batch_size=batch_size)
    rows = []
    for index, (example, text) in enumerate(zip(examples, texts, strict=True)):
        rationale, answer = split_texts[index]
        row = ExplainedPrediction(
            **row_of(example, replace(text, text=answer or ""), scores[index]).values(),
            raw=text.text,
            answer_given=answer is not None,
            chosen=named_option(answer, example.choices) if answer and example.choices else None,
        )
        # A text that has come to its mark has come to the rationale's end.
        row = _with_explanation(row, rationale if reads_rationale else None, text.finished or answer is not None)
        if separate_texts:
            separate = separate_texts[index]
            row = _with_explanation(row, separate.text.strip(), separate.finished)
            seconds = round(text.seconds + separate.seconds, 6)
            row = replace(row, tokens=text.tokens + separate.tokens, seconds=seconds)
        rows.append(row)
    return rows


def _with_explanation(row: ExplainedPrediction, text: str | None, finished: bool) -> ExplainedPrediction:
    return replace(row, explanation=text, explanation_finished=finished if text is not None else None)


def generate_task(
    model: nn.Module,
    tokenizer: ExampleTokenizer,
    examples: Sequence[Example],
    task: str,
    *,
    batch_size: int,
    progress: Callable[[int], None] | None = None,
) -> list[Generated]:
    """What a student writes when it is asked a task, greedily; without thoughts before it, which are counted."""
    texts = generate(
        model,
        tokenizer.template,
        [tokenizer.prompt_ids(prompt_example(example, task)) for example in examples],
        max_new_tokens=tokenizer.data.max_answer_tokens,
        batch_size=batch_size,
        progress=progress,
    )
    return answers_alone(texts, tokenizer)


def option_scores(
    model: nn.Module,
    tokenizer: ExampleTokenizer,
    examples: Sequence[Example],
    task: str,
    *,
    rationales: Sequence[str] | None = None,
    batch_size: int,
) -> list[list[float] | None]:
    """Mean log-probability per token of each option's text as the answer to a task; None for rows without options.

    Args:
        model: a causal language model or an encoder–decoder.
        tokenizer: its template and the lengths.
        examples: the rows; one may stand there several times.
        task: the task asked.
        rationales: what stands before the mark, given and not scored; without it the option is the whole answer.
        batch_size: sequences at once.
    """
    with_choices = [index for index, example in enumerate(examples) if example.choices]
    unlimited = _without_answer_limit(tokenizer)
    rows = []
    for index in with_choices:
        prompt = prompt_example(examples[index], task)
        choices = examples[index].choices
        if rationales is None:
            rows.append([tokenizer.encode(prompt, choice) for choice in choices])
        else:
            prefix = with_answer(rationales[index], "").strip()
            texts = [with_answer(rationales[index], choice).strip() for choice in choices]
            rows.append(
                _trimmed(
                    [unlimited.encode(prompt, text, num_forced_chars=len(prefix)) for text in texts], model, tokenizer
                )
            )
    pad: Any = tokenizer.template.tokenizer.pad_token_id
    choice_values = choice_scores(model, rows, pad_id=pad, batch_size=batch_size) if rows else []
    scores = dict(zip(with_choices, choice_values, strict=True))
    return [scores.get(index) for index in range(len(examples))]


def _trimmed(options: list[TokenizedExample], model: nn.Module, tokenizer: ExampleTokenizer) -> list[TokenizedExample]:
    """The same, with so much of the rationale's beginning left out, and counted, that a table of positions suffices."""
    # Where positions are computed, a model goes on behind the last.
    read, written = table_sizes(base_model(model))
    room = written if options[0].start else read
    longest = max(len(option.start + tuple(option.answer_ids) if option.start else option.ids) for option in options)
    excess = min(longest - room, *(option.num_forced for option in options)) if room else 0
    if excess <= 0:
        return options
    tokenizer.add_note("rationales cut at their beginning, for the options behind them to fit")
    return [
        replace(option, answer_ids=option.answer_ids[excess:], num_forced=option.num_forced - excess)
        for option in options
    ]


def _without_answer_limit(tokenizer: ExampleTokenizer) -> ExampleTokenizer:
    """The tokenizer without a limit on answers: a mark and an option stand behind the longest rationale.

    Prompts keep the room they have; what is cut of them was counted when the row was answered.
    """
    data, room = tokenizer.data, 1 << 20
    sizes = {"max_length": data.max_length + room, "max_answer_tokens": data.max_answer_tokens + room}
    return replace(tokenizer, data=data.model_copy(update=sizes), notes={})


def explanation_figures(
    rows: Sequence[ExplainedPrediction], *, resampling: Resampling = DEFAULT_RESAMPLING
) -> ExplanationFigures:
    """What the explanations of prediction rows are like, with intervals over groups of items.

    Words and mentions are counted in the text alone; nothing here tells whether an explanation is true.

    Args:
        rows: of `predict_explained`.
        resampling: draws, level of the intervals, seed.
    """
    texts = [row for row in rows if row.explanation]

    def share(selected: Sequence[ExplainedPrediction], value: Callable[[ExplainedPrediction], float]) -> Interval:
        return interval([value(row) for row in selected], cluster_names(selected), resampling)

    choice_rows = [row for row in rows if row.choices]
    chose = [row for row in texts if row.chosen is not None]
    return ExplanationFigures(
        items=len(rows),
        explained=len(texts),
        answer_given=share(rows, lambda row: row.answer_given),
        names_no_option=share(choice_rows, lambda row: row.chosen is None),
        words=share(texts, lambda row: len(_WORD.findall(row.explanation or ""))),
        distractors=share([row for row in texts if row.choices], _distractors),
        names_own_answer=share(chose, lambda row: row.chosen in _mentioned(row)),
        unfinished=share(texts, lambda row: not row.explanation_finished),
    )


def _mentioned(row: ExplainedPrediction) -> Collection[int]:
    """Places of the options that the explanation mentions."""
    return mentioned(row.explanation or "", row.choices)


def _distractors(row: ExplainedPrediction) -> int:
    gold = {folded(reference) for reference in row.references}
    return len({folded(row.choices[index]) for index in _mentioned(row)} - gold)


def interval(values: Sequence[float], clusters: Sequence[Any] | None, resampling: Resampling) -> Interval:
    """Mean and bootstrap interval; without a value where nothing is there."""
    return bootstrap_interval(values, clusters=clusters, resampling=resampling) if len(values) else NO_VALUE


def cluster_names(rows: Sequence[Prediction | Swap]) -> list[str]:
    """What is resampled together: the row's group, or the row itself where it has none."""
    return [row.id if row.group is None else f"group {row.group}" for row in rows]
