"""What a student learns beside the answers of sessions: statements as answers to a question, thoughts.

| task | the student reads | and learns to write |
|---|---|---|
| `answer` | a session | its bundles |
| `answer`, thoughts before | a session | thought, mark, bundles |
| `explain` | `[explain]` a session | the thought |
| `statement` | what is known of sessions with its members? | the statement |
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from understudy.data.tasks import TaskRow, prompt_example, with_answer
from understudy.sessions.knowledge import Statement
from understudy.types import Example

STATEMENT, ANSWER, EXPLAIN = "statement", "answer", "explain"


def lessons(
    examples: Sequence[Example],
    statements: Sequence[Statement],
    thoughts: Mapping[str, str],
    *,
    weight: float,
    before: bool = False,
) -> list[tuple[TaskRow, ...]]:
    """The texts to learn, those of one session together; each statement by itself.

    Weights of the tasks add up to 1: `weight` is shared by statements and thoughts beside answers, as far as there are
    any, and the rest is the answers'.

    Args:
        examples: sessions of training, as they are put.
        statements: what is learned of the sessions as a whole.
        thoughts: session -> its thought.
        weight: share of what stands beside the answers.
        before: thoughts are written before the answer, in one text.
    """
    known = [example.id for example in examples if thoughts.get(example.id)]
    beside = [task for task, there in ((EXPLAIN, known and not before), (STATEMENT, statements)) if there]
    share = weight / len(beside) if beside else 0.0
    answers = 1 - share * len(beside)
    groups = []
    for example in examples:
        thought = thoughts.get(example.id, "")
        rows = [_answer(example, thought if before else "", answers)]
        if thought and share and not before:
            explained = dataclasses.replace(prompt_example(example, EXPLAIN), answers=(thought,))
            rows.append(TaskRow(explained, EXPLAIN, share))
        groups.append(tuple(rows))
    return groups + [(_stated(number, one, share),) for number, one in enumerate(statements) if share]


def _answer(example: Example, thought: str, weight: float) -> TaskRow:
    target = with_answer(thought, example.answers[0]) if thought else example.answers[0]
    return TaskRow(dataclasses.replace(example, answers=(target,)), ANSWER, weight)


def _stated(number: int, statement: Statement, weight: float) -> TaskRow:
    return TaskRow(Example(f"statement-{number}", asked(statement), (statement.text,)), STATEMENT, weight)


def asked(statement: Statement) -> str:
    """The question that a statement answers."""
    of = f" with {', '.join(statement.members)}" if statement.members else ""
    where = f" of {statement.domain}" if statement.domain else ""
    return f"What is known of sessions{where}{of}?"
