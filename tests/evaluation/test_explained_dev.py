"""Development scores of a student that writes its rationale before its answer."""

from __future__ import annotations

import pytest

from support.tiny import llama, tokenizer
from understudy.data.tasks import ANSWER_MARK
from understudy.errors import ConfigError
from understudy.evaluation.explained_dev import explained_dev_scores
from understudy.evaluation.explanations import generate_task, roles_of
from understudy.metrics import score
from understudy.recipe import DataConfig, TaskConfig
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.template import Template
from understudy.types import Example

ROWS = [Example(f"q{n}", f"Which comes after {n}?", (str(n + 1),), choices=("0", str(n + 1))) for n in range(4)]


@pytest.mark.parametrize("kind", ["answer", "rationale_answer", "multitask", "counterfactual"])
def test_the_score_is_that_of_what_stands_where_the_kind_puts_its_answer(kind: str) -> None:
    template = Template(tokenizer(300))
    encoder = ExampleTokenizer(template, DataConfig(max_length=120, max_answer_tokens=16))
    model, tasks = llama(len(template.tokenizer)), TaskConfig.model_validate({"kind": kind})  # pyright: ignore
    scores = explained_dev_scores(encoder, ROWS, tasks, batch_size=2)(model)
    texts = [each.text for each in generate_task(model, encoder, ROWS, roles_of(tasks).answer, batch_size=4)]
    assert any(texts)
    # A model that nobody taught writes no mark: behind a rationale it then has no answer.
    read = texts if kind in ("answer", "multitask") else ["" for text in texts if ANSWER_MARK not in text]
    plain = score(read, [list(row.answers) for row in ROWS], metrics=("rougeL", "exact_match"))
    assert scores == {name: value.value for name, value in plain.items()}
    assert scores.keys() == {"rougeL", "exact_match"}


def test_a_task_that_answers_is_needed() -> None:
    template = Template(tokenizer(300))
    encoder = ExampleTokenizer(template, DataConfig(max_length=120, max_answer_tokens=16))
    with pytest.raises(ConfigError, match="no task answers"):
        explained_dev_scores(encoder, ROWS, TaskConfig(kind="multitask", predict_weight=0), batch_size=2)
