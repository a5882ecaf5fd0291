"""Bad input: one `error:` line with a hint, exit code 1, no traceback, and nothing half-written."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from understudy.cli import one_line
from understudy.recipe import METHODS


def refused(house, command, *overrides: str) -> tuple[str, str]:
    """Run what must be refused; give the error line and the hint."""
    done = command("run", str(house.write_recipe()), *overrides)
    assert done.code == 1, done.err
    assert "Traceback" not in done.err
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    hints = [line for line in done.err.splitlines() if line.startswith("  hint: ")]
    assert len(errors) == 1, done.err
    assert len(hints) == 1, done.err
    assert done.err.endswith(f"{errors[0]}\n{hints[0]}\n")
    assert not (house.folder / "runs").exists()
    return errors[0], hints[0]


# -- through a real process: what is found before anything is loaded -------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error", "hint"),
    [
        (["missing.yaml"], "there is no recipe 'missing.yaml'", "known: bert_qa"),
        (["telecom_qaa"], "there is no recipe 'telecom_qaa'", "did you mean `telecom_qa`?"),
        (["recipe.yaml", "distill.steps=3"], "unknown key `distill`: did you mean `distil`?", "understudy init"),
        (["recipe.yaml", "distil.steps"], "cannot read the override 'distil.steps'", "key=value"),
        (["recipe.yaml", "distil.method=magic"], "distil.method: Input should be 'kd', 'dskd'", "init"),
        (["recipe.yaml", "name=../../evil"], "name: String should match pattern", "init"),
    ],
)
def test_a_recipe_that_is_none(house, arguments: list[str], error: str, hint: str) -> None:
    house.write_recipe()
    done = house.call("run", *arguments)
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("  hint: ")
    assert error in lines[0]
    assert hint in lines[1]
    assert not (house.folder / "runs").exists()
    assert not (house.folder.parent / "evil").exists()


# -- the data --------------------------------------------------------------------------------------------------------


def test_a_missing_data_file(house, command) -> None:
    error, hint = refused(house, command, "data.source=nowhere.csv")
    assert error == "error: no such file: nowhere.csv"
    assert "path" in hint


def test_a_csv_without_the_named_column(house, command) -> None:
    (house.folder / "qa.csv").write_text("Query,Reply\nWhat is N2?,a reference point\n")
    source = f"data.source={house.folder / 'qa.csv'}"
    error, _ = refused(house, command, source, "data.columns={question: Frage, answer: Reply}")
    assert "qa.csv has no column 'Frage' (data.columns.question); it has: Query, Reply" in error
    error, hint = refused(house, command, source, "data.format=qa")
    assert "qa.csv has no column" in error
    assert "data.columns" in hint


@pytest.mark.parametrize(
    ("name", "text"), [("none.jsonl", ""), ("header.csv", "question,answer\n"), ("list.json", "[]")]
)
def test_an_empty_data_set(house, command, name: str, text: str) -> None:
    (house.folder / name).write_text(text)
    done = command("run", str(house.write_recipe()), f"data.source={house.folder / name}")
    assert done.code == 1
    [error] = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert f"{name} is empty" in error
    assert "Traceback" not in done.err
    assert not (house.folder / "runs").exists()


def test_too_few_rows_to_hold_any_out(house, command) -> None:
    house.write_data(12)
    error, hint = refused(house, command, "data.limit=1")
    assert "1 different question cannot be cut into 3 splits" in error
    assert "data." in hint


def test_text_that_looks_like_markup_or_steers_a_terminal_is_shown_as_it_is(house, command) -> None:
    row = {"id": "[red]x[/red] :smile:", "question": "\x1b[2Jgone?\nerror: not me", "answer": ""}
    (house.folder / "qa.jsonl").write_text(json.dumps(row) + "\n")
    error, _ = refused(house, command)
    assert "\x1b" not in error
    source = house.folder / "[bold]:smile: {x}.jsonl"
    error, _ = refused(house, command, f"data.source='{source}'")
    assert "[bold]:smile: {x}.jsonl" in error


def test_one_line_keeps_letters_and_writes_out_the_rest() -> None:
    assert one_line("a\r\n  b\x1b[2J\x07 naïve ✓ 漢字 [x]") == "a b\\x1b[2J\\x07 naïve ✓ 漢字 [x]"


# -- the models and the method ---------------------------------------------------------------------------------------


def test_two_vocabularies_name_the_method_that_works(house, command) -> None:
    error, hint = refused(house, command, f"student.model={house.models / 'other'}")
    assert "distil.method kd needs one vocabulary, and the two differ: student 340 tokens, teacher 300" in error
    others = [name for name, kind in METHODS.items() if not kind.one_vocabulary]
    assert f"distil.method={' or '.join(others)} works across vocabularies" in hint


def test_an_unknown_divergence_is_named_with_the_nearest(house, command) -> None:
    error, hint = refused(house, command, "distil.divergence=foward_kl")
    assert "foward_kl" in error
    assert "forward_kl" in (error + hint).replace("foward_kl", "")


def test_an_unknown_parameter_of_a_divergence(house, command) -> None:
    error, _ = refused(house, command, "distil.divergence_parameters={skew: 0.1}")
    assert "skew" in error


def test_a_missing_model_folder(house, command) -> None:
    error, hint = refused(house, command, f"teacher.model={house.models / 'absent'}")
    assert "no such model folder" in error
    assert "config.json" in hint


@pytest.mark.parametrize("fill", [lambda folder: None, lambda folder: (folder / "config.json").write_text("{}")])
def test_a_folder_that_holds_no_model(house, command, fill: Callable[[Path], None]) -> None:
    folder = house.folder / "empty"
    folder.mkdir()
    fill(folder)
    error, hint = refused(house, command, f"student.model={folder}")
    assert "cannot load the tokenizer of" in error
    assert "config.json" in hint


def test_an_unknown_embedded_model_and_data_set(house, command) -> None:
    error, hint = refused(house, command, "student.model=embedded:telecom-pupil")
    assert "no embedded model" in error
    assert "embedded:telecom-student" in hint
    error, hint = refused(house, command, "data.source=embedded:medicine")
    assert "embedded:medicine" in error
    assert "embedded:telecom" in hint


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write into a read-only folder")
def test_a_read_only_output_folder(house, command) -> None:
    (house.folder / "locked").mkdir(mode=0o555)
    error, hint = refused(house, command, f"output={house.folder / 'locked'}")
    assert "cannot write" in error
    assert "output=" in hint


def test_an_output_folder_that_is_a_file(house, command) -> None:
    (house.folder / "taken").write_text("")
    error, hint = refused(house, command, f"output={house.folder / 'taken'}")
    assert "cannot write" in error
    assert "output=" in hint
