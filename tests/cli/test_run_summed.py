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
from understudy.records import CacheNotes, PairNotes
from understudy.run import Run

Command = Callable[..., Outcome]


@pytest.fixture
def vocabularies(house: House) -> House:
    """Rows of two files; on those of one a second teacher, of another vocabulary, is heard in place of the first."""
    files = {}
    for number, name in enumerate(("radio", "core")):
        asked = [(f"{question} ({n}, {name})", answer) for n in range(3) for question, answer in FACTS]
        rows = [{"id": f"{name}-{n}", "question": q, "answer": a} for n, (q, a) in enumerate(asked)]
        path = house.folder / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[number:]), encoding="utf-8")
        files[name] = str(path)
    del house.recipe["data"]["source"], house.recipe["data"]["gold_share"]
    house.recipe["data"]["sources"] = files
    house.recipe["teacher"] = {"model": house.recipe["teacher"]["model"]}
    other = {"model": str(house.models / "other"), "distil": {"method": "uld"}, "where": {"source": "core"}}
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
    vocabularies.recipe["data"]["gold_share"] = 0.5
    done = command("run", str(vocabularies.write_recipe()))
    assert done.code == 0, done.err
    run = Run.open(vocabularies.run_folder())
    sentence = "teacher (2 on all other rows); added to it the losses of other (1 where source = core) by uld"
    assert sentence in run.report.read_text(encoding="utf-8")
    assert sentence in (run.folder / "student" / "README.md").read_text(encoding="utf-8")
    assert str(vocabularies.models / "other") in {m.folder for m in run.notes("pair", PairNotes).models}


def test_the_doctor_looks_at_each_and_inspect_says_whom_it_leaves_out(vocabularies: House, command: Command) -> None:
    recipe = str(vocabularies.write_recipe())
    doctor = command("doctor", recipe)
    assert doctor.code == 0, doctor.err
    assert "other: uld is weak" in doctor.out
    inspect = command("inspect", recipe)
    assert inspect.code == 0, inspect.err
    assert "these readings are of `teacher` alone: the run hears other too" in " ".join(inspect.out.split())


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
@pytest.mark.parametrize("added", [True, False], ids=["added", "mean"])
def test_soft_labels_of_two_files_from_two_teachers(vocabularies: House, command: Command, added: bool) -> None:
    """Each file's top-k labels in a folder that a run on that file alone wrote; one recipe learns from both."""
    recipe, folder, models = vocabularies.recipe, vocabularies.folder, vocabularies.models
    teachers = {"radio": str(models / "teacher"), "core": str(models / ("other" if added else "student"))}
    for name, model in teachers.items():
        alone = House(folder, models)
        kept = {"targets": "topk", "k": 40, "temperatures": [1.0], "folder": str(folder / f"kept-{name}")}
        alone.recipe = {k: v for k, v in recipe.items() if k != "teachers"}
        alone.recipe |= {
            "data": {
                **{k: v for k, v in recipe["data"].items() if k != "sources"},
                "source": recipe["data"]["sources"][name],
            },
            "teacher": {"model": model, "cache": kept},
            "distil": {**recipe["distil"], "method": "uld" if added and name == "core" else "kd"},
            "output": str(folder / f"alone-{name}"),
        }
        written = command("cache", str(alone.write_recipe(f"{name}.yaml")))
        assert written.code == 0, written.err
    recipe["teacher"] |= {"cache": {"targets": "topk", "k": 40, "folder": str(folder / "kept-radio")}}
    core = {"cache": str(folder / "kept-core"), "where": {"source": "core"}}
    core |= {"distil": {"method": "uld"}, "tokenizer": teachers["core"]} if added else {}
    recipe["teachers"] = {"where": {"source": "radio"}, "others": {"core": core}}
    done = command("run", str(vocabularies.write_recipe()))
    assert done.code == 0, done.err
    names = ("teacher_loss", "core_loss") if added else ("divergence",)
    assert all(min(row) > 0 for row in curve(vocabularies, *names))
    run = Run.open(vocabularies.run_folder())
    assert run.notes("cache", CacheNotes).written == 0


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
        ({"where": {"source": "nothing"}}, "teachers.others.other: "),
    ],
)
def test_what_does_not_go_together_is_one_line(
    vocabularies: House, command: Command, other: dict[str, Any], message: str
) -> None:
    vocabularies.recipe["teachers"]["others"]["other"].update(other)
    if "where" in other:
        vocabularies.recipe["teachers"]["where"] = {"source": "radio"}
        message = "no teacher's `where` fits it"
    outcome = command("run", str(vocabularies.write_recipe()))
    assert outcome.code != 0
    assert message in outcome.err
    assert "Traceback" not in outcome.err
