"""Runs with teachers of several vocabularies, by the real command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.house import House, Outcome
from support.tiny import FACTS
from understudy.files import read_jsonl
from understudy.records import PairNotes
from understudy.run import Run

Command = Callable[..., Outcome]


@pytest.fixture
def vocabularies(house: House) -> House:
    """A second teacher of another vocabulary, whose loss is added on the rows of one category."""
    asked = [(f"{question} ({n})", answer) for n in range(5) for question, answer in FACTS]
    rows = [
        {"id": f"q{n}", "question": question, "answer": answer, "category": ("radio", "core")[n % 2]}
        for n, (question, answer) in enumerate(asked)
    ]
    (house.folder / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    house.recipe["teacher"] = {"model": house.recipe["teacher"]["model"]}
    other = {"model": str(house.models / "other"), "distil": {"method": "uld"}, "where": {"category": "core"}}
    house.recipe["teachers"] = {"weight": 2, "where": "otherwise", "others": {"other": other}}
    house.recipe["evaluate"]["arms"] = ["kd_gold"]
    return house


def curve(house: House, *names: str) -> list[list[float]]:
    """Terms of the loss of the student on gold rows."""
    [folder] = Path(house.recipe["output"]).iterdir()
    rows = read_jsonl(folder / "stages" / "train-kd_gold" / "training" / "metrics.jsonl")
    return [[row[name] for name in names] for row in rows if "loss" in row]


def test_the_student_learns_from_both_vocabularies_and_the_report_says_so(
    vocabularies: House, command: Command
) -> None:
    vocabularies.recipe["evaluate"]["arms"] = ["distilled"]
    done = command("run", str(vocabularies.write_recipe()))
    assert done.code == 0, done.err
    run = Run.open(vocabularies.run_folder())
    sentence = "teacher (2 on all other rows); added to it the losses of other (1 where category = core) by uld"
    assert sentence in run.report.read_text(encoding="utf-8")
    assert sentence in (run.folder / "student" / "README.md").read_text(encoding="utf-8")
    assert str(vocabularies.models / "other") in {m.folder for m in run.notes("pair", PairNotes).models}


@pytest.mark.slow
def test_each_teacher_may_be_read_from_disk(vocabularies: House, command: Command) -> None:
    """The added teacher from a cache that a run of its own wrote, with the tokenizer that it was written with."""
    recipe, folder = vocabularies.recipe, vocabularies.folder
    live = command("run", str(vocabularies.write_recipe()))
    assert live.code == 0, live.err
    losses = curve(vocabularies, "loss", "gold", "teacher_loss", "other_loss")
    assert all(min(row) > 0 for row in losses)
    second = recipe["teachers"]["others"]["other"]
    alone = House(folder, vocabularies.models)
    kept = {"targets": "states", "dtype": "float32", "folder": str(folder / "kept")}
    alone.recipe = {k: v for k, v in recipe.items() if k != "teachers"}
    alone.recipe |= {
        "teacher": {"model": second["model"], "cache": kept},
        "distil": {**recipe["distil"], "method": "uld"},
        "output": str(folder / "alone"),
    }
    written = command("cache", str(alone.write_recipe("alone.yaml")))
    assert written.code == 0, written.err
    recipe["teachers"]["others"]["other"] = {
        **{key: second[key] for key in ("distil", "where")},
        "cache": str(folder / "kept"),
        "tokenizer": second["model"],
    }
    recipe["output"] = str(folder / "cached")
    again = command("run", str(vocabularies.write_recipe()))
    assert again.code == 0, again.err
    for ours, theirs in zip(curve(vocabularies, "loss", "gold", "teacher_loss", "other_loss"), losses, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    recipe["teachers"]["others"]["other"]["tokenizer"] = str(vocabularies.models / "student")
    refused = command("run", str(vocabularies.write_recipe()))
    assert refused.code != 0
    assert "was written with another tokenizer than its tokenizer has" in refused.err


@pytest.mark.slow
def test_texts_of_tasks_learn_from_both(vocabularies: House, command: Command) -> None:
    """`tasks.logits`: rows of tasks with their weights, and both teachers beside them."""
    vocabularies.recipe |= {"tasks": {"kind": "answer", "logits": True}}
    vocabularies.recipe["evaluate"]["arms"] = ["explained"]
    done = command("run", str(vocabularies.write_recipe()))
    assert done.code == 0, done.err
    [folder] = Path(vocabularies.recipe["output"]).iterdir()
    rows = read_jsonl(folder / "stages" / "train-explained" / "training" / "metrics.jsonl")
    assert all(row["other_loss"] > 0 and row["teacher_loss"] > 0 for row in rows if "loss" in row)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"distil": {"method": "kd"}}, "teachers.others.other: distil.method kd"),
        ({"distil": {"method": "min_edit", "divergence": "reverse_kl"}}, "teachers.others.other: min_edit cannot use"),
        ({"where": {"category": "nothing"}}, "teachers.others.other: "),
    ],
)
def test_what_does_not_go_together_is_one_line(
    vocabularies: House, command: Command, other: dict[str, Any], message: str
) -> None:
    vocabularies.recipe["teachers"]["others"]["other"].update(other)
    if "where" in other:
        vocabularies.recipe["teachers"]["where"] = {"category": "radio"}
        message = "no teacher's `where` fits it"
    outcome = command("run", str(vocabularies.write_recipe()))
    assert outcome.code != 0
    assert message in outcome.err
    assert "Traceback" not in outcome.err
