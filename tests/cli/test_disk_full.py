"""A disk that takes no more: one clear line wherever it happens, and the run goes on once there is room."""

from __future__ import annotations

import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.house import House, answers


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """No file may grow beyond `size` bytes: the system then answers as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def copy(finished: House, tmp_path: Path) -> House:
    house = House(tmp_path, finished.models)
    house.recipe = {**finished.recipe, "output": str(tmp_path / "runs")}
    shutil.copytree(finished.folder / "runs", tmp_path / "runs")
    return house


def fails_in_one_line(house: House, command, size: int) -> str:
    recipe = str(house.write_recipe())
    with room_for(size):
        done = command("run", recipe)
    assert done.code == 1, done.err
    assert "Traceback" not in done.err
    [error] = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert "  hint: free some space" in done.err
    assert "run the same command again: it goes on" in done.err
    return error


def test_no_room_for_the_recipe_or_the_data(house: House, command) -> None:
    assert "recipe.yaml: File too large" in fails_in_one_line(house, command, 500)
    assert not (house.folder / "runs").exists()
    house.write_data(240)
    assert ".jsonl: File too large" in fails_in_one_line(house, command, 9_000)
    assert not (house.folder / "runs").exists()


@pytest.mark.parametrize(
    ("stage", "size", "said"),
    [
        ("train-distilled", 10_000, "cannot write the checkpoint"),
        ("train-distilled", 60_000, "cannot write the checkpoint"),
        ("predict-distilled", 1_000, "predictions.jsonl: File too large"),
        ("report", 20_000, "File too large"),
    ],
)
def test_no_room_later_and_going_on(copy: House, command, stage: str, size: int, said: str) -> None:
    folder = copy.run_folder()
    before = answers(folder)
    student = (folder / "student" / "model.safetensors").read_bytes()
    shutil.rmtree(folder / "stages" / stage)
    assert said in fails_in_one_line(copy, command, size)
    assert not (folder / "stages" / stage / "done.json").exists()
    assert not list(folder.rglob("*.part"))
    done = command("run", str(copy.write_recipe()))
    assert done.code == 0, done.err
    assert answers(folder) == before
    assert (folder / "student" / "model.safetensors").read_bytes() == student


def test_no_room_for_the_model_of_a_stage(tmp_path: Path, finished: House) -> None:
    """Weights and tokenizers are written by libraries with exceptions of their own."""
    from transformers import AutoModelForCausalLM

    from understudy.errors import RunError
    from understudy.models.load import load_template
    from understudy.recipe import ModelConfig
    from understudy.training.session import save_model

    source = finished.models / "student"
    model, template = AutoModelForCausalLM.from_pretrained(source), load_template(ModelConfig(model=str(source)))
    save_model(model, template, tmp_path / "model")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()}
    weights, tokens = ((tmp_path / "model" / name).stat().st_size for name in ("model.safetensors", "tokenizer.json"))
    for size in (300, min(weights, tokens) - 1, max(weights, tokens) - 1):
        with room_for(size), pytest.raises(RunError, match=r"cannot write .*model"):
            save_model(model, template, tmp_path / "model")
        assert {path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()} == before
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
