"""Runs with several teachers, by the real command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.house import House, Outcome
from support.tiny import FACTS, llama, tokenizer
from understudy.files import read_jsonl
from understudy.records import PairNotes
from understudy.run import Run

Command = Callable[..., Outcome]


@pytest.fixture
def teachers(house: House) -> House:
    """Two teachers, the second of which is heard on the rows of one category."""
    tokens = tokenizer(300, pad=None)
    for name, width, seed in (("radio", 32, 21), ("anew", 32, 22)):
        llama(len(tokens), width=width, seed=seed).save_pretrained(house.folder / name)
        tokens.save_pretrained(house.folder / name)
    asked = [(f"{question} ({n})", answer) for n in range(5) for question, answer in FACTS]
    rows = [
        {"id": f"q{n}", "question": question, "answer": answer, "category": ("radio", "core")[n % 2]}
        for n, (question, answer) in enumerate(asked)
    ]
    (house.folder / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    house.recipe["teacher"] = {"model": house.recipe["teacher"]["model"]}
    house.recipe["teachers"] = {
        "weight": 2,
        "mean": "log_probabilities",
        "others": {"radio": {"model": str(house.folder / "radio"), "where": {"category": "radio"}}},
    }
    house.recipe["evaluate"]["arms"] = ["distilled"]
    return house


def curve(house: House) -> list[float]:
    """The divergences of the student on gold rows."""
    [folder] = Path(house.recipe["output"]).iterdir()
    rows = read_jsonl(folder / "stages" / "train-kd_gold" / "training" / "metrics.jsonl")
    return [row["divergence"] for row in rows if "divergence" in row]


def test_the_student_learns_from_both_and_the_report_says_so(teachers: House, command: Command) -> None:
    recipe = str(teachers.write_recipe())
    first = command("run", recipe)
    assert first.code == 0, first.err
    run = Run.open(teachers.run_folder())
    sentence = "mean of the log-probabilities of teacher (2), radio (1 where category = radio)"
    assert sentence in run.report.read_text(encoding="utf-8")
    assert sentence in (run.folder / "student" / "README.md").read_text(encoding="utf-8")
    named = {model.folder for model in run.notes("pair", PairNotes).models}
    assert str(teachers.folder / "radio") in named
    # Another teacher under the same name is another run.
    llama(300, width=32, seed=99).save_pretrained(teachers.folder / "radio")
    changed = command("run", recipe)
    assert changed.code != 0
    assert "changed since this run was begun" in changed.err


def test_states_from_disk_teach_what_the_model_teaches(teachers: House, command: Command) -> None:
    """The second teacher from a cache that a run of its own wrote; the first from one too."""
    recipe, folder = teachers.recipe, teachers.folder
    recipe["evaluate"]["arms"] = ["kd_gold"]
    whole = command("run", str(teachers.write_recipe()))
    assert whole.code == 0, whole.err
    live = curve(teachers)
    second = recipe["teachers"]["others"]["radio"]
    states = {"targets": "states", "dtype": "float32"}
    alone = House(folder, teachers.models)
    alone.recipe = {
        **recipe,
        "teacher": {"model": second["model"], "cache": {**states, "folder": str(folder / "kept")}},
    }
    alone.recipe["output"] = str(folder / "alone")
    del alone.recipe["teachers"]
    written = command("cache", str(alone.write_recipe("alone.yaml")))
    assert written.code == 0, written.err
    recipe["teachers"]["others"]["radio"] = {"cache": str(folder / "kept"), "where": second["where"]}
    recipe["teacher"]["cache"] = states
    recipe["output"] = str(folder / "cached")
    again = command("run", str(teachers.write_recipe()))
    assert again.code == 0, again.err
    assert curve(teachers) == pytest.approx(live, rel=1e-4)
    # Answers that are written in a run are in no cache of another.
    recipe["evaluate"]["arms"] = ["distilled"]
    refused = command("run", str(teachers.write_recipe()))
    assert refused.code != 0
    assert "distilled learns answers that teacher writes in this run" in refused.err


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["distil.method=dskd"], "this teacher gives log-probabilities of every token"),
        (["teachers.others.radio.model={models}/other"], "teachers.others.radio has another vocabulary than teacher"),
        (["teacher.cache.targets=topk"], "the mean of log-probabilities needs the probability of each token"),
        (["teacher.cache.targets=sampled"], "a sample has no entropy of a mean"),
        (
            ["teacher.cache.targets=topk", "teachers.mean=probabilities", "teachers.by_confidence=true"],
            "teachers.by_confidence needs the entropy of each teacher",
        ),
        (
            ["teacher.cache.targets=topk", "teachers.mean=probabilities", "distil.method=uld"],
            "which tokens of the mean are the likeliest is not known, and distil.method uld needs to know",
        ),
        (
            ["teacher.cache.targets=topk", "teachers.mean=probabilities", "distil.loss_temperature=2"],
            "what lies in its tail at 2 does not follow",
        ),
        (["teachers.where.category=nothing"], "no teacher's `where` fits it"),
        (["teachers.others.radio.cache=nowhere"], "give one of model and cache"),
    ],
)
def test_what_does_not_go_together_is_one_line(
    teachers: House, command: Command, overrides: list[str], message: str
) -> None:
    filled = [override.format(models=teachers.models) for override in overrides]
    outcome = command("run", str(teachers.write_recipe()), *filled)
    assert outcome.code != 0
    assert message in outcome.err
    assert "Traceback" not in outcome.err
