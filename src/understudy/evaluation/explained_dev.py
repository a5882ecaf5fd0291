"""Scores on the development rows of a student that learned from texts, asked in the way in which it learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import nn

from understudy.data.tasks import split_answer
from understudy.evaluation.explanations import READS_RATIONALE, generate_task, roles_of
from understudy.evaluation.predict import references_of
from understudy.metrics import score
from understudy.models.kept_by import kept_by
from understudy.recipe import TaskConfig
from understudy.records import DEV_METRICS
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.types import Example


def explained_dev_scores(
    tokenizer: ExampleTokenizer, examples: Sequence[Example], tasks: TaskConfig, *, batch_size: int
) -> Callable[[nn.Module], dict[str, float]]:
    """A function that answers the development rows and gives ROUGE-L and exact match of the answers, in 0..1;
    of sessions F1 of their bundles besides.

    Where the answer follows a rationale, what stands behind the mark counts; a text without mark is no answer. There
    is no development loss: a gold answer has no gold rationale before it.
    """
    task = roles_of(tasks).answer
    references = [list(references_of(example)) for example in examples]
    questions = [example.question for example in examples]

    def measure(model: nn.Module) -> dict[str, float]:
        metrics = tuple(dict.fromkeys((*DEV_METRICS, kept_by(model, examples))))
        texts = [answer.text for answer in generate_task(model, tokenizer, examples, task, batch_size=batch_size)]
        answers = [split_answer(text)[1] or "" if task in READS_RATIONALE else text for text in texts]
        scores = score(answers, references, questions=questions, metrics=metrics)
        return {name: result.value for name, result in scores.items()}

    return measure
