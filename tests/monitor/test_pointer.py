"""The file that says which student is served: whole at every moment, whoever changes it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from typer.testing import CliRunner

from understudy.cli import app
from understudy.errors import RunError
from understudy.monitor.pointer import Pointer, PointerFile


def test_promote_and_roll_back(tmp_path: Path) -> None:
    file = PointerFile(tmp_path / "serving.json")
    file.begin("a")
    file.attempt("b", 0.2)
    assert (file.read().current, file.read().candidate, file.read().share) == ("a", "b", 0.2)
    assert file.promote().current == "b"
    assert (file.read().candidate, file.read().previous) == (None, "a")
    assert file.roll_back().current == "a"
    file.attempt("c", 0.5)
    assert (file.roll_back().current, file.read().candidate) == ("a", None)


def test_what_makes_no_sense_is_refused(tmp_path: Path) -> None:
    file = PointerFile(tmp_path / "serving.json")
    file.begin("a")
    for change in (file.promote, file.roll_back, lambda: file.begin("b")):
        with pytest.raises(RunError):
            change()
    assert file.read().current == "a"


def test_the_share_is_kept_and_a_request_is_told_again(tmp_path: Path) -> None:
    pointer = Pointer("a", "b", 0.2)
    chosen = [pointer.chosen(f"request {number}") for number in range(5000)]
    assert 0.18 < chosen.count("b") / 5000 < 0.22
    assert chosen[:50] == [pointer.chosen(f"request {number}") for number in range(50)]
    assert {Pointer("a").chosen(str(number)) for number in range(50)} == {"a"}


def test_readers_never_see_half_a_change(tmp_path: Path) -> None:
    file, seen, end = PointerFile(tmp_path / "serving.json"), [], threading.Event()
    file.begin("a")

    def read() -> None:
        while not end.is_set():
            seen.append(file.read())

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(40):
        file.attempt("b", 0.1)
        file.promote()
        file.roll_back()
    end.set()
    reader.join()
    allowed = {("a", None), ("a", "b"), ("b", None)}
    assert {(pointer.current, pointer.candidate) for pointer in seen} <= allowed
    assert len(seen) > 40


def test_the_command_names_what_is_missing(tmp_path: Path) -> None:
    said = CliRunner().invoke(app, ["monitor", "promote", str(tmp_path / "none.json")])
    assert said.exit_code != 0
    assert "no such file" in str(said.exception)
