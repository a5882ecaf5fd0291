"""The section `distil`: each method with its own options, its defaults, and what an older recipe may still hold."""

from pathlib import Path

import pytest

from understudy.errors import ConfigError
from understudy.recipe import METHODS, dump_recipe, load_recipe, parse_grid, parse_recipe
from understudy.run import Run

# As version 0.1.0 wrote it: the options of all methods, whichever was chosen.
WRITTEN = """\
  method: {method}
  divergence: forward_kl
  divergence_parameters: {{}}
  loss_temperature: null
  scale_by_temperature_squared: false
  gold_weight: 0.5
  projector_learning_rate: 0.001
  agreement_threshold: 1.0
  merge: {merge}
  published: false
"""
TRAINING = """\
name: old
distil:
  epochs: 2.0
  steps: 7
  batch_size: 32
  micro_batch_size: null
  learning_rate: 0.0005
  schedule: cosine
  warmup: 0.05
  weight_decay: 0.01
  max_grad_norm: 1.0
  eval_every: null
  eval_rows: 200
  save_every: null
  gradient_checkpointing: false
  lora: null
"""


def old(folder: Path, method: str, merge: str = "observed") -> Path:
    path = folder / "recipe.yaml"
    path.write_text(TRAINING + WRITTEN.format(method=method, merge=merge), encoding="utf-8")
    return path


def refusal(distil: dict, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_recipe({"distil": distil}, overrides)
    assert "\n" not in caught.value.message
    return caught.value.message


# -- whose option it is ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("distil", "message"),
    [
        ({"method": "kd", "merge": "bayesian"}, "distil.merge belongs to byte_aligned, not kd"),
        ({"merge": "bayesian"}, "distil.merge belongs to byte_aligned, not kd"),
        ({"method": "dskd", "published": True}, "distil.published belongs to dskd_cma and dskd_v2, not dskd"),
        ({"method": "uld", "agreement_threshold": 0.5}, "distil.agreement_threshold belongs to dskd_v2, not uld"),
        ({"projector_learning_rate": 1.0}, "distil.projector_learning_rate belongs to dskd, dskd_cma and dskd_v2"),
        ({"method": "uld", "divergence": "js"}, "distil.divergence does not apply to uld, which compares sorted"),
        (
            {"method": "dskd", "scale_by_temperature_squared": True},
            "distil.scale_by_temperature_squared does not apply to dskd, which is published without the τ² factor",
        ),
    ],
)
def test_an_option_of_another_method_is_refused_with_the_method_that_has_it(distil: dict, message: str) -> None:
    assert message in refusal(distil)


def test_it_is_refused_beside_all_other_faults() -> None:
    message = refusal({"merge": "bayesian", "published": True, "steps": 0, "stepps": 1})
    for fault in ("distil.merge belongs", "distil.published belongs", "distil.steps: ", "`distil.stepps`: did you"):
        assert fault in message


def test_an_override_of_another_methods_option_is_refused_too() -> None:
    assert "distil.merge belongs to byte_aligned, not kd" in refusal({}, "distil.merge=bayesian")
    recipe = parse_recipe({}, ["distil.method=byte_aligned", "distil.merge=bayesian"])
    assert recipe.model_dump()["distil"]["merge"] == "bayesian"


@pytest.mark.parametrize("method", [3, None, ["kd"], "KD"])
def test_a_method_that_there_is_not(method: object) -> None:
    assert "distil.method: Input should be 'kd', 'dskd', 'dskd_cma'" in refusal({"method": method})


def test_a_section_that_is_no_mapping() -> None:
    assert "distil: " in refusal([1])  # pyright: ignore


def test_options_that_change_nothing_do_not_change_the_run() -> None:
    plain = parse_recipe({})
    idle = parse_recipe({"distil": {"method": "kd", "merge": "observed", "published": False}})
    assert idle == plain
    assert idle.fingerprint() == plain.fingerprint()
    assert "merge" not in dump_recipe(plain)


# -- defaults --------------------------------------------------------------------------------------------------------


def test_published_temperatures() -> None:
    temperatures = {name: parse_recipe({"distil": {"method": name}}).distil.temperature for name in METHODS}
    assert {name for name, tau in temperatures.items() if tau == 1.0} == {"kd", "uld", "byte_aligned"}
    assert {name for name, tau in temperatures.items() if tau == 2.0} == {"dskd_v2", "min_edit", "dskd", "dskd_cma"}
    assert parse_recipe({"distil": {"method": "uld", "loss_temperature": 3.0}}).distil.temperature == 3.0


@pytest.mark.parametrize("name", METHODS)
def test_a_method_written_out_is_read_back(tmp_path: Path, name: str) -> None:
    recipe = parse_recipe({"distil": {"method": name, "steps": 3}})
    assert type(recipe.distil) is METHODS[name]
    (tmp_path / "r.yaml").write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(tmp_path / "r.yaml") == recipe
    assert load_recipe(tmp_path / "r.yaml").fingerprint() == recipe.fingerprint()


# -- recipes that are written out --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_a_recipe_of_an_older_run_is_what_its_method_says(tmp_path: Path, name: str) -> None:
    expected = parse_recipe({"name": "old", "distil": {"method": name, "steps": 7, "learning_rate": 5e-4}})
    assert load_recipe(old(tmp_path, name)) == expected
    assert Run.open(tmp_path).recipe == expected


def test_an_older_run_is_read_though_it_names_an_option_that_its_method_ignored(tmp_path: Path) -> None:
    path = old(tmp_path, "kd", merge="bayesian")
    assert Run.open(tmp_path).recipe == parse_recipe({"name": "old", "distil": {"steps": 7, "learning_rate": 5e-4}})
    with pytest.raises(ConfigError, match=r"distil\.merge belongs to byte_aligned"):
        load_recipe(path)


def test_an_older_run_keeps_what_its_method_did_read(tmp_path: Path) -> None:
    old(tmp_path, "byte_aligned", merge="bayesian")
    assert Run.open(tmp_path).recipe.model_dump()["distil"]["merge"] == "bayesian"


@pytest.mark.parametrize("first", METHODS)
@pytest.mark.parametrize("then", METHODS)
def test_another_method_can_be_put_into_a_recipe_that_is_written_out(tmp_path: Path, first: str, then: str) -> None:
    (tmp_path / "r.yaml").write_text(dump_recipe(parse_recipe({"distil": {"method": first}})), encoding="utf-8")
    recipe = load_recipe(tmp_path / "r.yaml", [f"distil.method={then}"])
    assert recipe == parse_recipe({"distil": {"method": then}})
    assert recipe.distil.temperature == METHODS[then].published_temperature


# -- grids -----------------------------------------------------------------------------------------------------------


def test_methods_as_an_axis_get_their_options_by_where() -> None:
    grid = parse_grid(
        {
            "axes": {"distil.method": ["kd", "byte_aligned"]},
            "where": [{"if": {"distil.method": "byte_aligned"}, "set": {"distil.merge": "bayesian"}}],
        }
    )
    kd, byte_aligned = (cell.recipe.model_dump()["distil"] for cell in grid.cells)
    assert "merge" not in kd
    assert byte_aligned["merge"] == "bayesian"


def test_an_option_may_be_an_axis_where_its_method_is_not_the_first() -> None:
    axes = {"distil.method": ["kd", "byte_aligned"], "distil.merge": ["observed", "bayesian"]}
    grid = parse_grid({"axes": axes, "exclude": [{"distil.method": "kd", "distil.merge": "bayesian"}]})
    assert len(grid.cells) == 3
    with pytest.raises(ConfigError, match=r"the cell distil.method kd, distil.merge bayesian: distil.merge belongs to"):
        parse_grid({"axes": axes})
