"""The face for Python: light to import, and the same run as the command gives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import understudy
from support.house import House
from support.tiny import llama, tokenizer
from understudy.errors import ConfigError, RunError


def test_importing_the_package_loads_nothing_heavy() -> None:
    program = (
        "import sys, understudy\n"
        "assert {'distil', 'compare', 'evaluate', 'load_recipe', 'Recipe', 'Run'} <= set(dir(understudy))\n"
        "assert understudy.__version__\n"
        "loaded = {name.split('.')[0] for name in sys.modules}\n"
        "assert not loaded & {'torch', 'numpy', 'transformers', 'pydantic', 'yaml'}, loaded\n"
        "understudy.distil, understudy.compare, understudy.evaluate, understudy.Recipe, understudy.Run\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_every_name_is_there_and_another_is_an_attribute_error() -> None:
    assert all(getattr(understudy, name) for name in understudy.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'distill'"):
        understudy.distill  # noqa: B018  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A question set, tiny models, a small recipe."""
    folder = tmp_path_factory.mktemp("api")
    for name, width in (("teacher", 24), ("student", 16)):
        tokens = tokenizer(300)
        tokens.save_pretrained(folder / name)
        llama(len(tokens), width=width, seed=len(name)).save_pretrained(folder / name)
    house = House(folder, folder)
    house.write_data(24)
    del house.recipe["teacher"]["sft"]
    del house.recipe["distil"]["learning_rate"]
    house.recipe["evaluate"] |= {"arms": ["distilled"], "speed": False}
    house.recipe["seqkd"] |= {"keep_gold": True}
    return house


@pytest.fixture(scope="module")
def run(house: House) -> understudy.Run:
    """A run through the function."""
    return understudy.distil(house.recipe, {"distil.steps": 4, "output": str(house.folder / "mine")}, quiet=True)


def test_the_function_gives_the_weights_that_the_command_gives(house: House, run: understudy.Run) -> None:
    commanded = house.run("distil.steps=4")
    assert run.folder.name == commanded.name
    theirs = understudy.Run.open(commanded)
    weights = [each.student / "model.safetensors" for each in (run, theirs)]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    assert texts(run) == texts(theirs)
    assert run.scores["overall"]["table"] == theirs.scores["overall"]["table"]


def texts(run: understudy.Run) -> list[tuple[str, str | None]]:
    """What the distilled student answered."""
    return [(row.id, row.prediction) for row in run.predictions("distilled")]


def test_a_second_call_goes_on_where_the_first_stopped(
    house: House, run: understudy.Run, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = (run.student / "model.safetensors").stat().st_mtime_ns
    path, output = house.write_recipe("again.yaml"), f"output={house.folder / 'mine'}"
    again = understudy.distil(path, ["distil.steps=4", output])
    assert again.folder == run.folder
    assert (again.student / "model.safetensors").stat().st_mtime_ns == weights
    assert f"run folder: {run.folder}" in capfd.readouterr().err


def test_a_run_knows_what_came_out(run: understudy.Run) -> None:
    page = run.report.read_text(encoding="utf-8")
    assert page.lstrip().startswith("<!")
    assert "The peak learning rate of the students was chosen by their size: 0.0005." in page
    assert all(row.prediction is not None for row in run.predictions("teacher"))
    with pytest.raises(ConfigError, match="there is no arm 'distiled'") as refused:
        run.predictions("distiled")
    assert "did you mean `distilled`?" in refused.value.hint


def test_a_run_is_scored_and_compared(run: understudy.Run) -> None:
    [name] = understudy.compare(run, metrics=["token_f1"]).to_dict()["metrics"]
    assert name == "token_f1"
    [(_, system)] = understudy.evaluate(f"{run.folder}:distilled", metrics="text").systems.items()
    assert {"bleu", "chrf"} <= system.scores.keys()


def test_a_recipe_comes_in_four_shapes(house: House, tmp_path: Path) -> None:
    from understudy.api import recipe_of

    path = house.write_recipe("shapes.yaml")
    recipe = understudy.load_recipe(path)
    prints = [recipe_of(each, {"seed": 3}).fingerprint() for each in (recipe, house.recipe, path, str(path))]
    assert len(set(prints)) == 1
    assert recipe_of("telecom_qa").name == "telecom-qa"
    with pytest.raises(ConfigError, match="there is no recipe 'telecom_qaa'"):
        recipe_of("telecom_qaa")
    with pytest.raises(ConfigError, match=r"unknown key `distil\.stepps`"):
        recipe_of(house.recipe, {"distil.stepps": 3})


def test_what_is_not_there_yet_is_said_in_one_line(tmp_path: Path) -> None:
    unfinished = understudy.Run(tmp_path)
    for read in (lambda: unfinished.scores, lambda: unfinished.report, lambda: unfinished.student):
        with pytest.raises(RunError, match="there is no"):
            read()
