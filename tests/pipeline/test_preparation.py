"""What can be known before any weight is loaded stops a run before any weight is loaded."""

from pathlib import Path
from typing import Any

import pytest

from support.tiny import tokenizer
from support.tiny_explained import run_recipe
from understudy.errors import ConfigError, DataError, ModelError
from understudy.inspection.doctor import examine
from understudy.pipeline.stages.preparation import check_rows, check_variant
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


def test_lengths_that_leave_no_prompt_are_refused_before_data_and_models_are_looked_for(tmp_path: Path) -> None:
    value = {"output": str(tmp_path), "data": {"source": "nowhere.jsonl", "max_length": 1}}
    with pytest.raises(ConfigError, match=r"data\.max_length 1 leaves no room for a prompt: .* takes 128 of it"):
        run_recipe(value)
    with pytest.raises(ConfigError, match="leaves no room"):
        examine(parse_recipe({"data": {"max_length": 1}}))
    assert not [*tmp_path.glob("*/stages/*"), *tmp_path.glob("*/data/*")]


@pytest.mark.parametrize("section", ["teacher.sft", "student.sft", "distil"])
def test_adapters_of_every_section_are_checked_with_the_pair(section: str) -> None:
    models = {side: {"model": f"embedded:telecom-{side}"} for side in ("teacher", "student")}
    recipe = parse_recipe(models, [f"{section}={{lora: {{target_modules: nope}}}}"])
    with pytest.raises(ModelError, match=rf"^{section}\.lora\.target_modules: the model has no layer 'nope'"):
        check_variant(recipe, splits("short?"))
