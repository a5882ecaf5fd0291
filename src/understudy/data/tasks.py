"""From examples with rationales to the texts that a student learns: prefixes, targets, weights.

| task             | the student reads                              | and learns to write            |
|------------------|------------------------------------------------|--------------------------------|
| `answer`         | question                                       | answer                         |
| `rationale`      | question                                       | rationale, mark, answer        |
| `predict`        | `[predict]` question                           | answer                         |
| `explain`        | `[explain]` question                           | rationale                      |
| `factual`        | `[factual]` question                           | rationale, mark, answer        |
| `counterfactual` | `[counterfactual]` question (with a rationale) | (rationale, mark,) that answer |

The kinds of training and the weights of their tasks (`TaskConfig`: α predict_weight, β factual_weight, γ
multitask_weight), which add up to 1:

| kind                      | tasks and weights                                                                      |
|---------------------------|----------------------------------------------------------------------------------------|
| `answer`                  | answer 1                                                                               |
| `rationale_answer`        | rationale 1                                                                            |
| `multitask`               | predict α, explain 1−α                                                                 |
| `counterfactual`          | factual β, counterfactual 1−β                                                          |
| `multitask_counterfactual`| predict γα, explain γ(1−α), factual (1−γ)β, counterfactual (1−γ)(1−β)                  |

Multitask: arXiv 2305.02301; counterfactual: SCOTT, arXiv 2305.01879; both together: arXiv 2504.16056.
"""

from __future__ import annotations

import dataclasses
import itertools
import random
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from understudy.data.option_mentions import folded
from understudy.errors import DataError
from understudy.recipe import TaskConfig
from understudy.types import Example

ANSWER_MARK = "So the answer is:"
"""Stands between a rationale and the answer that follows from it; no line break, for some vocabularies have none."""

PREFIXES = {
    "answer": "",
    "rationale": "",
    "predict": "[predict] ",
    "explain": "[explain] ",
    "factual": "[factual] ",
    "counterfactual": "[counterfactual] ",
}
"""What stands before the question, by task."""

COUNTERFACTUAL = "counterfactual"
"""The task whose rows argue for a wrong option: a teacher's distribution is not learned from them."""

# A vocabulary may lose case and put spaces where there were none.
_MARK = re.compile(r"\s*".join(map(re.escape, re.findall(r"\w+|:", ANSWER_MARK))), re.IGNORECASE)


@dataclass(frozen=True)
class WithRationales:
    """An example with what a teacher wrote about it.

    Attributes:
        example: the row, with its gold answer.
        rationale: argues for the right answer; None where none was kept.
        counterfactuals: place of a wrong option → a text that argues for it.
        paraphrases: the question in other words.
        new_questions: further questions of its kind, with their answers.
    """

    example: Example
    rationale: str | None = None
    counterfactuals: Mapping[int, str] = field(default_factory=dict)
    paraphrases: tuple[str, ...] = ()
    new_questions: tuple[Example, ...] = ()


@dataclass(frozen=True)
class TaskRow:
    """One text to learn.

    Attributes:
        example: the row as it is put to the student: prefix in the question, the target as its only answer.
        task: `predict`, `explain`, `factual` …; the loss is a weighted sum of one mean per task.
        weight: of its task in the loss.
        num_forced_chars: how much of the beginning of the target stands there without being learned (a rationale
            teacher-forced in the decoder); a prefix of the target, in characters.
    """

    example: Example
    task: str
    weight: float = 1.0
    num_forced_chars: int = 0


def split_answer(text: str) -> tuple[str, str | None]:
    """Rationale and answer of a text, cut at the last mark.

    Case and spaces inside the mark do not matter, for some vocabularies do not keep them. Without a mark all of it is
    rationale and the answer None; so it is where nothing follows the mark.
    """
    marks = list(_MARK.finditer(text))
    if not marks:
        return text.strip(), None
    return text[: marks[-1].start()].strip(), text[marks[-1].end() :].strip() or None


def with_answer(rationale: str, answer: str) -> str:
    """Rationale, mark, answer: what `split_answer` takes apart."""
    return f"{rationale.strip()} {ANSWER_MARK} {answer.strip()}".lstrip()


def prompt_example(example: Example, task: str, *, rationale: str | None = None) -> Example:
    """An example as a student that learned `task` is asked it.

    Args:
        example: the row; its answers stay.
        task: `predict`, `explain` …
        rationale: stands behind the question, before the options (a counterfactual in the encoder, and questions
            that swap a rationale).

    Raises:
        KeyError: an unknown task.
    """
    question = PREFIXES[task] + example.question
    return dataclasses.replace(example, question=f"{question} {rationale.strip()}" if rationale else question)


def task_weights(tasks: TaskConfig) -> dict[str, float]:
    """The weight of each task of a kind, as in the table above; tasks without weight are left out."""
    a, b, g = tasks.predict_weight, tasks.factual_weight, tasks.multitask_weight
    multitask, contrastive = {"predict": a, "explain": 1 - a}, {"factual": b, COUNTERFACTUAL: 1 - b}
    weights = {
        "answer": {"answer": 1.0},
        "rationale_answer": {"rationale": 1.0},
        "multitask": multitask,
        "counterfactual": contrastive,
        "multitask_counterfactual": {
            **{task: g * weight for task, weight in multitask.items()},
            **{task: (1 - g) * weight for task, weight in contrastive.items()},
        },
    }[tasks.kind]
    return {task: weight for task, weight in weights.items() if weight > 0}


def rows(explained: WithRationales, tasks: TaskConfig, *, seed: int) -> tuple[TaskRow, ...]:
    """The texts of one example, which stay together in one optimiser step; empty where it teaches nothing.

    - Without a rationale it gives its answer row alone (`answer`, `predict`), and nothing in the kinds that have none.
    - Without counterfactuals it gives no such row. They are of options whose text is not the right one's.
    - An answer behind a mark at the rationale's end (`explain_blind` writes one) is taken off: the target has one
      mark, before the gold answer.
    - An unlabelled example gives `explain`, and the tasks with an answer only if its rationale ends with one; all of
      it is the teacher's. Its wrong options are not known, so there are no counterfactuals.
    - A paraphrase gives once more what the question gives; a new question the rows of an answer alone (`answer`,
      `predict`). They are further tokens of the same tasks, whose weights stay.

    Args:
        explained: the example with its texts.
        tasks: kind, weights, how many counterfactuals and where their rationale stands.
        seed: of the draw of counterfactuals, which depends on it and the example's id alone.
    """
    example = explained.example
    rationale, answer = split_answer(explained.rationale or "")
    if not example.labelled:
        example = dataclasses.replace(example, answers=(answer,) if answer else (), origin="teacher")
    task_rows: list[TaskRow] = []
    for task, weight in task_weights(tasks).items():
        if task == COUNTERFACTUAL:
            task_rows += _counterfactuals(explained, tasks, weight, seed) if rationale else []
            continue
        target = _target(task, rationale, example.answers[0] if example.answers else None)
        if target:
            prompted = dataclasses.replace(prompt_example(example, task), answers=(target,))
            task_rows.append(TaskRow(prompted, task, weight))
    for paraphrase in explained.paraphrases:
        task_rows += _paraphrased(explained, paraphrase, tasks, seed)
    return (*task_rows, *_of_new_questions(explained.new_questions, tasks))


def _paraphrased(explained: WithRationales, question: str, tasks: TaskConfig, seed: int) -> Iterator[TaskRow]:
    example = dataclasses.replace(explained.example, question=question)
    for row in rows(WithRationales(example, explained.rationale, explained.counterfactuals), tasks, seed=seed):
        yield dataclasses.replace(row, example=dataclasses.replace(row.example, id=f"{example.id}/paraphrase"))


def _of_new_questions(questions: Iterable[Example], tasks: TaskConfig) -> Iterator[TaskRow]:
    weights = task_weights(tasks)
    for example, task in itertools.product(questions, ("answer", "predict")):
        if task in weights:
            prompted = dataclasses.replace(prompt_example(example, task), answers=example.answers[:1])
            yield TaskRow(prompted, task, weights[task])


def rows_of_examples(explained: Iterable[WithRationales], tasks: TaskConfig, *, seed: int) -> list[tuple[TaskRow, ...]]:
    """`rows` of each example that gives any.

    Raises:
        DataError: none does.
    """
    groups = [task_rows for example in explained if (task_rows := rows(example, tasks, seed=seed))]
    if not groups:
        raise DataError(
            f"tasks.kind {tasks.kind}: no example has the texts that it needs",
            hint=f"did `understudy generate` keep rows of the step {tasks.rationales}? see generate.filter",
        )
    return groups


def _target(task: str, rationale: str, answer: str | None) -> str | None:
    if task == "explain":
        return rationale or None
    if task in ("answer", "predict"):
        return answer
    return with_answer(rationale, answer) if rationale and answer else None


def _counterfactuals(explained: WithRationales, tasks: TaskConfig, weight: float, seed: int) -> list[TaskRow]:
    example = explained.example
    texts = {place: split_answer(text)[0] for place, text in explained.counterfactuals.items()}
    places = [place for place in wrong_places(example) if texts.get(place)]
    if tasks.counterfactuals != "all" and tasks.counterfactuals < len(places):
        drawn = random.Random(f"{seed} {example.id}").sample(places, max(0, tasks.counterfactuals))
        places = sorted(drawn)
    return [_counterfactual(example, place, texts[place], tasks, weight) for place in places]


def _counterfactual(example: Example, place: int, rationale: str, tasks: TaskConfig, weight: float) -> TaskRow:
    choice = example.choices[place]
    if tasks.rationale_in == "encoder":
        prompted = prompt_example(example, COUNTERFACTUAL, rationale=rationale)
        return TaskRow(dataclasses.replace(prompted, answers=(choice,)), COUNTERFACTUAL, weight)
    prompted = prompt_example(example, COUNTERFACTUAL)
    target = with_answer(rationale, choice)
    # The space behind the mark is the answer's: many vocabularies write both with one token.
    num_forced_chars = len(f"{rationale} {ANSWER_MARK}")
    return TaskRow(dataclasses.replace(prompted, answers=(target,)), COUNTERFACTUAL, weight, num_forced_chars)


def wrong_places(example: Example) -> tuple[int, ...]:
    """The places of the options that are not right: neither the gold one nor one that reads like it.

    Empty for an unlabelled example.
    """
    if not example.labelled:
        return ()
    right = {folded(answer) for answer in example.answers}
    gold = example.meta.get("answer_index")
    return tuple(place for place, choice in enumerate(example.choices) if place != gold and folded(choice) not in right)
