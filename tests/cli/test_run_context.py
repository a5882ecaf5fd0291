"""Students of a teacher that reads more than they do, by the real command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.house import House, Outcome, training
from support.tiny import FACTS
from understudy.files import read_jsonl
from understudy.run import Run

Command = Callable[..., Outcome]


@pytest.fixture
def told(house: House) -> House:
    """Questions with a context, most of them without an answer."""
    rows = [
        {
            "id": f"q{n}",
            "question": f"{FACTS[n % 12][0]} ({n})",
            "context": FACTS[n % 12][1],
            "answer": FACTS[n % 12][1],
        }
        for n in range(48)
    ]
    (house.folder / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    house.recipe["student"]["context"] = False
    house.recipe["evaluate"] |= {"rows": 6, "speed": False, "metrics": ["exact_match"]}
    return house


def losses(run: Run, arm: str) -> list[float]:
    lines = read_jsonl(run.folder / "stages" / f"train-{arm}" / "training" / "metrics.jsonl")
    return [line["divergence"] for line in lines if "divergence" in line]


def test_the_teacher_reads_the_context_and_the_student_goes_without_or_keeps_it(told: House, command: Command) -> None:
    told.recipe["arms"] = {"kept": {"student.context": True}}
    told.recipe["evaluate"]["arms"] = ["distilled", "kept"]
    outcome = command("run", str(told.write_recipe()))
    assert outcome.code == 0, outcome.err
    run = Run.open(told.run_folder())
    assert run.recipe.arm("kept").against[0] == "distilled"
    # The same rows and steps; what the students read tells them apart from the first step on.
    assert losses(run, "distilled")[0] != losses(run, "kept")[0]
    scores = json.loads((run.folder / "scores.json").read_text(encoding="utf-8"))
    assert {"teacher", "distilled", "kept"} <= scores["overall"]["table"].keys()


def test_a_student_that_teaches_itself_starts_from_what_it_would_say_with_the_hint(
    told: House, command: Command, tmp_path: Path
) -> None:
    told.recipe["teacher"] = {"from_student": True, "hint": {"system": "Say the name alone."}}
    told.recipe["student"] |= {"context": True, "sft": training(steps=4)}
    told.recipe["distil"] |= {"gold_weight": 0.0}
    told.recipe["evaluate"]["arms"] = ["distilled"]
    outcome = command("run", str(told.write_recipe()))
    assert outcome.code == 0, outcome.err
    run = Run.open(told.run_folder())
    assert not (run.folder / "stages" / "teacher_sft").exists()
    assert "student_sft" in (run.record("answers").input_versions or {})
    assert losses(run, "distilled")[0] > 1e-4
    # Without a hint both are one model that reads one prompt, so there is nothing to learn.
    told.recipe["teacher"] = {"from_student": True}
    told.recipe["output"] = str(tmp_path / "others")
    outcome = command("run", str(told.write_recipe()))
    assert outcome.code == 0, outcome.err
    [folder] = (tmp_path / "others").iterdir()
    assert abs(losses(Run.open(folder), "distilled")[0]) < 1e-6


def test_on_policy_the_teacher_judges_the_students_answers_with_the_hint(told: House, command: Command) -> None:
    told.recipe["teacher"] = {"from_student": True}
    told.recipe["distil"] |= {"on_policy": {"share": 1.0}, "steps": 2}
    told.recipe["evaluate"]["arms"] = ["distilled"]
    outcome = command("run", str(told.write_recipe()))
    assert outcome.code == 0, outcome.err
    run = Run.open(told.run_folder())
    assert not (run.folder / "stages" / "answers").exists()


def test_a_hint_for_a_teacher_whose_inner_states_are_compared_is_refused(told: House, command: Command) -> None:
    told.recipe["features"] = {"hidden": 1.0}
    outcome = command("run", str(told.write_recipe()))
    assert outcome.code == 1
    assert "features compares inner states at the same tokens, and with student.context: false" in outcome.err
