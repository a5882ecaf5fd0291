"""What can be known before any weight is loaded stops a run before any weight is loaded."""

from typing import Any

import pytest

from support.tiny import tokenizer
from understudy.errors import DataError, ModelError
from understudy.pipeline.stages.preparation import check_rows
from understudy.recipe import parse_recipe
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.template import Template
from understudy.types import Example

RECIPE = parse_recipe({"data": {"max_length": 64, "max_answer_tokens": 16}})


def reader(own: Any = None) -> ExampleTokenizer:
    return ExampleTokenizer(Template(own or tokenizer()), RECIPE.data)


def splits(question: str) -> dict[str, tuple[Example, ...]]:
    return {"train": (Example("a", "why?", ("because",)),), "test": (Example("long", question, ("so",)),)}


def test_a_held_out_question_that_is_too_long_is_named_at_once() -> None:
    check_rows(RECIPE, splits("short?"), reader(), reader())
    with pytest.raises(DataError, match="long"):
        check_rows(RECIPE, splits("word " * 200), reader(), reader())


def test_templates_that_cut_one_answer_differently_are_refused_at_once() -> None:
    teacher = tokenizer()
    turn = "{{ m['content'] }}{% if m['role'] == 'assistant' %}!{{ eos_token }}{% endif %}"
    teacher.chat_template = "{% for m in messages %}" + turn + "{% endfor %}"
    with pytest.raises(ModelError, match="different tokens"):
        check_rows(RECIPE, splits("short?"), reader(), reader(teacher))
    only_text = parse_recipe({"evaluate": {"arms": ["sft", "seqkd"]}})
    check_rows(only_text, splits("short?"), reader(), reader(teacher))
