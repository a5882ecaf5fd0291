"""Questions with options, what a teacher wrote about them, and a trainer that learns the texts as tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.tiny import DATA, Pair, pair, trainer
from understudy.data.tasks import WithRationales, rows_of_examples
from understudy.recipe import TaskConfig
from understudy.tokens.collate import ExampleRows, ExampleTokenizer
from understudy.tokens.task_rows import encode_groups
from understudy.training.trainer import DistillationTrainer
from understudy.types import Example

OPTIONS = ("AMF", "SMF", "the UDM")
QUESTIONS = [
    ("Which function terminates N2?", "AMF", "N2 ends there"),
    ("Which function terminates N4?", "SMF", "it rules sessions"),
    ("Which function stores subscriptions?", "the UDM", "it keeps the data"),
    ("Who registers a phone?", "AMF", "it knows where phones are"),
    ("Who picks the anchor of a session?", "SMF", None),
    ("Who holds long keys?", "the UDM", "keys are data of a user"),
]
ROOM = DATA.model_copy(update={"max_length": 200, "max_answer_tokens": 100})


def explained(num: int = len(QUESTIONS)) -> list[WithRationales]:
    """Questions with a rationale, but for one, and a counterfactual for each wrong option, but for one."""
    found = []
    for n, (question, answer, why) in enumerate(QUESTIONS[:num]):
        gold = OPTIONS.index(answer)
        example = Example(f"q-{n}", question, (answer,), choices=OPTIONS, meta={"answer_index": gold})
        wrong = {place: f"{choice} has a hand in it" for place, choice in enumerate(OPTIONS) if place != gold}
        found.append(WithRationales(example, why, {} if n == 3 else wrong))
    return found


def encoded(made: Pair, method: str = "sft", num: int = len(QUESTIONS), **fields: Any) -> list[ExampleRows]:
    """Groups of encoded rows for a method; `fields` are those of `TaskConfig`."""
    other = None if method == "sft" else ExampleTokenizer(made.teacher_template, ROOM)
    texts = rows_of_examples(explained(num), TaskConfig.model_validate(fields), seed=1)
    return encode_groups(texts, ExampleTokenizer(made.template, ROOM), other, made.cross_tokenizer(method))


def task_trainer(
    folder: Path, method: str = "sft", *, made: Pair | None = None, rows: list[ExampleRows] | None = None, **fields: Any
) -> DistillationTrainer:
    """A trainer on all three kinds of counterfactual multitask rows, unless `rows` are given."""
    made = made or pair(method)
    rows = encoded(made, method, kind="multitask_counterfactual") if rows is None else rows
    return trainer(folder, method, made=made, rows=rows, **fields)
