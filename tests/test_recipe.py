"""A recipe: what is read, what is refused and how, and what its fingerprint depends on."""

from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import ConfigError
from understudy.recipe import METHODS, Recipe, TrainConfig, dump_recipe, load_recipe, parse_recipe


def refusal(value: dict, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_recipe(value, overrides)
    assert "\n" not in caught.value.message
    return caught.value.message


def test_every_field_has_a_sentence() -> None:
    from pydantic import BaseModel

    def walk(section: type[BaseModel]) -> None:
        assert (section.__doc__ or "").rstrip().endswith("."), section
        for name, field in section.model_fields.items():
            # What a method's own name stands for is the section itself.
            assert name == "method" or (field.description or "").endswith("."), f"{section.__name__}.{name}"

    kinds = [
        Recipe,
        *(type(value) for _, value in Recipe() if isinstance(value, BaseModel)),
        TrainConfig,
        *METHODS.values(),
    ]
    for kind in kinds:
        walk(kind)


def test_dump_and_load_give_the_same_recipe(tmp_path: Path) -> None:
    recipe = parse_recipe({"student": {"model": "m", "sft": {"lora": {"r": 4}}}, "report_to": ["wandb"]})
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "r.yaml") == recipe


# -- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"distill": {}}, "unknown key `distill`: did you mean `distil`?"),
        ({"distil": {"temprature": 2}}, "unknown key `distil.temprature`: did you mean `loss_temperature`?"),
        (
            {"teacher": {"model": "m", "sft": {"lora": {"rank": 4}}}},
            "unknown key `teacher.sft.lora.rank`: known here: r,",
        ),
        ({"evaluate": {"zzz": 1}}, "unknown key `evaluate.zzz`: known here: metrics, embedding_model, bertscore_model"),
        ({"distil": {"method": "magic"}}, "distil.method: Input should be 'kd', 'dskd', 'dskd_cma'"),
        ({"student": {"model": "m", "config": {"num_hidden_layers": 2}}}, "needs student.init: fresh"),
        (
            {"distil": {"batch_size": 10, "micro_batch_size": 4}},
            "distil.micro_batch_size 4 does not divide batch_size 10",
        ),
        ({"distil": {"loss_temperature": 0}}, "distil.loss_temperature: Input should be greater than 0"),
        ({"distil": {"learning_rate": float("inf")}}, "distil.learning_rate: Input should be a finite number"),
        ({"evaluate": {"arms": ["sft", "sft"]}}, "evaluate.arms names an arm twice"),
        ({"data": {"gold_share": 1.5}}, "data.gold_share: Input should be less than or equal to 1"),
        ({1: 2}, "1: Keys should be strings"),
    ],
)
def test_a_fault_is_named_by_its_path(value: dict, said: str) -> None:
    assert said in refusal(value)


def test_all_faults_are_named_at_once() -> None:
    message = refusal({"sed": 1, "distil": {"steps": 0}})
    assert "`sed`" in message
    assert "distil.steps" in message


@pytest.mark.parametrize("name", ["../evil", "a/b", ".hidden", "", "a\n", "a b", "..", "-rf", "a\x00b", "ä"])
def test_a_name_that_could_leave_its_folder_is_refused(name: str) -> None:
    assert refusal({"name": name}).startswith("recipe: name: ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name: [a\n", r"r\.yaml:2: not valid YAML"),
        ("- a\n- b\n", "holds a list, not a mapping"),
        ("name: a\nname: b\n", r"r\.yaml:2: not valid YAML: the key 'name' stands twice"),
        ("name: !!python/object/apply:os.system ['true']\n", "not valid YAML"),
    ],
)
def test_a_file_that_holds_no_recipe(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said):
        load_recipe(tmp_path / "r.yaml")


def test_an_empty_file_is_the_default_recipe(tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("# nothing yet\n")
    assert load_recipe(tmp_path / "r.yaml") == Recipe()


# -- overrides -------------------------------------------------------------------------------------------------------


def test_overrides_are_typed() -> None:
    recipe = parse_recipe(
        {"distil": {"epochs": 3}, "student": {"model": "m"}},
        [
            "distil.steps=7",
            "distil.learning_rate=5e-4",
            "student.sft.lora.r=2",
            "student.init=fresh",
            "student.config={num_hidden_layers: 2, rms_norm_eps: 1e-6}",
            "evaluate.arms=[sft, distilled]",
            "data.gold_share=null",
            "data.columns.question=Query",
            "data.source=a=b.jsonl",
            "seqkd.keep_gold=false",
        ],
    )
    assert (recipe.distil.steps, recipe.distil.epochs, recipe.distil.learning_rate) == (7, 3, 0.0005)
    assert recipe.student.sft is not None
    assert recipe.student.sft.lora is not None
    assert recipe.student.sft.lora.r == 2
    assert recipe.student.config == {"num_hidden_layers": 2, "rms_norm_eps": 1e-6}
    assert recipe.evaluate.arms == ("sft", "distilled")
    assert recipe.data.gold_share is None
    assert recipe.data.columns == {"question": "Query"}
    assert recipe.data.source == "a=b.jsonl"
    assert recipe.seqkd.keep_gold is False


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("distil.steps", "cannot read the override 'distil.steps'"),
        ("=3", "cannot read the override '=3'"),
        ("distil.steps=many", "distil.steps: Input should be a valid integer"),
        ("distil.steps=[", "is not valid YAML"),
        ("distil.stepps=3", "did you mean `steps`?"),
        ("name.first=x", "name: Input should be a valid string"),
        ("workers=0", "workers: Input should be greater than 0"),
        ("seqkd.keep_gold=perhaps", "seqkd.keep_gold: Input should be a valid boolean"),
    ],
)
def test_a_bad_override_is_refused(override: str, said: str) -> None:
    assert said in refusal({}, override)


def test_an_override_leaves_the_mapping_it_was_given() -> None:
    value = {"distil": {"steps": 1}}
    parse_recipe(value, ["distil.steps=2", "distil.epochs=9"])
    assert value == {"distil": {"steps": 1}}


# -- the fingerprint -------------------------------------------------------------------------------------------------


def test_the_fingerprint_ignores_order_layout_and_how_a_number_is_written(tmp_path: Path) -> None:
    texts = [
        "name: x\ndistil:\n  steps: 5\n  learning_rate: 0.001\ndata: {source: a.jsonl}\n",
        "# words\ndata:\n    source: 'a.jsonl'\n    dev: 0.10\ndistil: {learning_rate: 1e-3, steps: 5}\nname: \"x\"\n",
        "data: {source: a.jsonl}\ndistil: {steps: 5, learning_rate: 1.0e-03, gold_weight: 0.5}\nname: x\nseed: 0\n",
    ]
    prints = set()
    for number, text in enumerate(texts):
        (tmp_path / f"{number}.yaml").write_text(text)
        prints.add(load_recipe(tmp_path / f"{number}.yaml").fingerprint())
    assert len(prints) == 1


@pytest.mark.parametrize("override", ["workers=7", "output=elsewhere", "device=cpu", "report_to=[wandb]"])
def test_the_fingerprint_ignores_where_and_how_fast(override: str) -> None:
    assert parse_recipe({}, [override]).fingerprint() == Recipe().fingerprint()


@pytest.mark.parametrize(
    "override", ["seed=1", "name=x", "distil.steps=3", "data.seed=1", "distil.gold_weight=0.1", "evaluate.rows=5"]
)
def test_the_fingerprint_knows_what_changes_a_result(override: str) -> None:
    assert parse_recipe({}, [override]).fingerprint() != Recipe().fingerprint()


def test_a_raised_budget_goes_on_with_the_same_run_and_another_teacher_does_not() -> None:
    asked = {"model": "large", "base_url": "http://127.0.0.1:1/v1"}
    sections: dict = {"teacher": None, "evaluate": {"arms": ["sft"]}}
    first = parse_recipe({**sections, "generate": {"teacher": {**asked, "max_calls": 10}}})
    more = {**asked, "max_calls": 20, "concurrency": 2, "base_url": "http://127.0.0.1:2/v1"}
    assert parse_recipe({**sections, "generate": {"teacher": more}}).fingerprint() == first.fingerprint()
    for field, value in (("model", "larger"), ("temperature", 0.5), ("max_tokens", 5)):
        other = parse_recipe({**sections, "generate": {"teacher": {**asked, field: value}}})
        assert other.fingerprint() != first.fingerprint(), field


@given(st.permutations(["seed: 3", "name: x", "workers: 2", "data: {limit: 4, dev: 0.2}", "distil: {steps: 2}"]))
def test_the_fingerprint_ignores_any_order_of_fields(lines: list[str]) -> None:
    recipe = parse_recipe(yaml.safe_load("\n".join(lines)))
    assert recipe.fingerprint() == parse_recipe(yaml.safe_load("\n".join(sorted(lines)))).fingerprint()
