"""A question set, two tiny models on disk, and the real command line."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from support.house import House, Outcome
from support.tiny import llama, tokenizer
from understudy.cli import main


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Teacher and student of one vocabulary, and a student of another."""
    folder = tmp_path_factory.mktemp("models")
    for name, size, width in (("teacher", 300, 24), ("student", 300, 16), ("other", 340, 16)):
        # No pad token and no chat template: that must be no error.
        tokens = tokenizer(size, pad=None)
        tokens.save_pretrained(folder / name)
        llama(len(tokens), width=width, seed=len(name)).save_pretrained(folder / name)
    return folder


@pytest.fixture
def house(tmp_path: Path, models: Path) -> House:
    """A fresh folder."""
    project = House(tmp_path, models)
    project.write_data()
    return project


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Outcome]:
    """The same command line in this process, where torch is loaded already."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["understudy", *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            main()
        output = capsys.readouterr()
        return Outcome(int(end.value.code or 0), output.out, output.err)

    return call


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, models: Path) -> House:
    """A house with one finished run, through a real process; nobody may change it."""
    house = House(tmp_path_factory.mktemp("whole"), models)
    house.write_data()
    house.run()
    return house


@pytest.fixture(scope="session")
def finished_grid(tmp_path_factory: pytest.TempPathFactory, models: Path) -> House:
    """A house with a finished grid, through a real process; nobody may change it."""
    from support.grids import make_grid

    house = House(tmp_path_factory.mktemp("grid"), models)
    house.write_data()
    make_grid(house)
    process = house.call("run", "grid.yaml", timeout=900)
    assert process.returncode == 0, process.stderr
    (house.folder / "stderr.txt").write_text(process.stderr, encoding="utf-8")
    return house
