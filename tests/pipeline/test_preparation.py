"""What can be known before any weight is loaded stops a run before any weight is loaded."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from support.tiny import llama, tokenizer
from support.tiny_explained import run_recipe
from understudy.errors import ConfigError, DataError, ModelError, TooLong
from understudy.files import read_json, read_jsonl
from understudy.inspection.doctor import examine
from understudy.pipeline.kinds import stage_of
from understudy.pipeline.stages import run_stage
from understudy.pipeline.stages.preparation import check_rows, check_variant
from understudy.recipe import parse_recipe
from understudy.run import Run
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


@pytest.fixture
def short_models(tmp_path: Path) -> Path:
    core = tokenizer()
    core.save_pretrained(tmp_path / "model")
    llama(len(core)).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def prepared(tmp_path: Path, model: Path, rows: list[dict[str, str]], **data: Any) -> Run:
    """A run whose data were read and whose pair was checked."""
    tmp_path.mkdir(exist_ok=True)
    (tmp_path / "qa.jsonl").write_text("\n".join(map(json.dumps, rows)))
    lengths = {"max_length": 64, "max_answer_tokens": 16}
    recipe = parse_recipe(
        {
            "data": {"source": str(tmp_path / "qa.jsonl"), **lengths, **data},
            "teacher": {"model": str(model)},
            "student": {"model": str(model)},
            "output": str(tmp_path / "runs"),
            "device": "cpu",
        }
    )
    run = Run.of(recipe)
    run.prepare(recipe)
    for kind in ("data", "pair"):
        run_stage(stage_of(kind), recipe, run.folder, lambda *_: None)
    return run


GOOD = [{"question": f"what is {n}?", "answer": "that"} for n in range(30)]
LONG = {"question": "word " * 200, "answer": "that"}
LONG_CONTEXT = {"question": "what?", "context": "some words. " * 200, "answer": "words"}


def test_a_question_that_does_not_fit_is_a_row_to_quarantine(tmp_path: Path, short_models: Path) -> None:
    run = prepared(tmp_path, short_models, [*GOOD, LONG, LONG_CONTEXT], on_bad_row="quarantine")
    notes = read_json(run.folder / "data" / "notes.json")
    assert (notes["rows_read"], notes["quarantined"], sum(notes["sizes"].values())) == (32, 1, 31)
    [bad_row] = notes["bad_rows"]
    assert re.fullmatch(r"qa\.jsonl:31: the question takes \d+ tokens, and 48 are left for it", bad_row)
    [quarantined] = read_jsonl(run.folder / "data" / "quarantine.jsonl")
    assert quarantined["row"]["question"] == LONG["question"]


def test_a_context_that_may_not_be_reduced_is_a_row_to_quarantine(tmp_path: Path, short_models: Path) -> None:
    refuse = {"on_bad_row": "quarantine", "context_overflow": "refuse"}
    run = prepared(tmp_path, short_models, [*GOOD, LONG_CONTEXT], **refuse)
    [bad_row] = read_json(run.folder / "data" / "notes.json")["bad_rows"]
    assert bad_row.startswith("qa.jsonl:31: the context takes ")


def test_a_question_that_does_not_fit_stops_a_run_that_sets_nothing_aside(tmp_path: Path, short_models: Path) -> None:
    with pytest.raises(DataError, match="tokens, and 48 are left"):
        prepared(tmp_path, short_models, [*GOOD, LONG])


def test_rows_that_do_not_fit_are_counted_once_with_the_length_that_would_do(
    tmp_path: Path, short_models: Path
) -> None:
    rows = [*GOOD, LONG, {**LONG, "question": "word " * 210}]
    with pytest.raises(TooLong, match=r"^2 of 32 rows do not fit; data\.max_length=\d+ would do for all") as error:
        prepared(tmp_path / "a", short_models, rows)
    prepared(tmp_path / "b", short_models, rows, max_length=error.value.needed)
    with pytest.raises(TooLong, match="the question takes"):
        prepared(tmp_path / "c", short_models, rows, max_length=error.value.needed - 1)
