"""Several answers to a question, weighed by the teacher and learned, by the real command line."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import time
from collections.abc import Callable
from pathlib import Path

from support.house import House, Outcome
from support.tiny import FACTS
from understudy.files import read_jsonl
from understudy.records import CandidatesNotes
from understudy.run import Run

Command = Callable[..., Outcome]


def weights(run: Run, arm: str) -> str:
    path = run.folder / "stages" / f"train-{arm}" / "model" / "model.safetensors"
    return hashlib.sha256(path.read_bytes()).hexdigest()


def candidates(run: Run, stage: str = "candidates") -> dict[str, list[dict]]:
    return {row["id"]: row["candidates"] for row in read_jsonl(run.folder / "stages" / stage / "candidates.jsonl")}


def test_answers_are_written_weighed_and_learned_and_one_alone_is_seqkd(house: House, command: Command) -> None:
    house.recipe["candidates"] = {"number": 3, "sampling_temperature": 2.0}
    house.recipe["arms"] = {
        "texts": {"candidates.learn": "sequences"},
        "one": {"candidates": {"number": 1, "gold": False, "learn": "sequences"}},
    }
    house.recipe["seqkd"] |= {"keep_gold": False}
    house.recipe["evaluate"] |= {"arms": ["seqkd", "candidates", "texts", "one"], "rows": 6, "speed": False}
    outcome = command("run", str(house.write_recipe()))
    assert outcome.code == 0, outcome.err
    run = Run.open(house.run_folder())
    # What is asked for decides on the stage, not what is learned of it.
    assert {path.name for path in run.folder.glob("stages/candidates*")} == {"candidates", "candidates-one"}
    weighed, alone = candidates(run), candidates(run, "candidates-one")
    assert max(map(len, weighed.values())) > 2
    assert {len(answers) for answers in alone.values()} == {1}
    assert sum(answer["gold"] for answers in weighed.values() for answer in answers) > 10
    assert all(answer["logp"] < 0 for answers in weighed.values() for answer in answers)
    assert weights(run, "one") == weights(run, "seqkd")
    assert len({weights(run, arm) for arm in ("seqkd", "candidates", "texts")}) == 3
    notes = run.notes("candidates", CandidatesNotes)
    assert notes.candidates == sum(map(len, weighed.values()))
    assert "The teacher weighed" in (run.folder / "report.html").read_text(encoding="utf-8")


def test_given_choices_are_weighed_for_a_student_of_another_vocabulary(house: House, command: Command) -> None:
    house.recipe["student"]["model"] = str(house.models / "other")
    names = [answer for _, answer in FACTS]
    rows = [
        {
            "id": f"q{n}",
            "question": f"{FACTS[n % 12][0]} ({n})",
            "answer": names[n % 12],
            "choices": names[n % 12 :][:4],
        }
        for n in range(60)
        if n % 12 < 9
    ]
    (house.folder / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    house.recipe["data"] |= {"max_length": 160}
    house.recipe["candidates"] = {"divergence": "js"}
    house.recipe["evaluate"] |= {"arms": ["candidates"], "rows": 6, "speed": False}
    outcome = command("run", str(house.write_recipe()))
    assert outcome.code == 0, outcome.err
    weighed = candidates(Run.open(house.run_folder()))
    assert {len(answers) for answers in weighed.values()} == {4}
    house.recipe["candidates"] = {"divergence": "mutual"}
    outcome = command("run", str(house.write_recipe()), "name=other")
    assert outcome.code == 1
    assert "divergence 'mutual'" in outcome.err


def test_a_killed_training_goes_on_to_the_same_bytes(house: House, tmp_path: Path) -> None:
    house.recipe["candidates"] = {"number": 3, "sampling_temperature": 2.0}
    house.recipe["distil"] |= {"steps": 30, "save_every": 2}
    house.recipe["evaluate"] |= {"arms": ["candidates"], "rows": 4, "speed": False}
    whole = Run.open(house.run())
    expected, text = weights(whole, "candidates"), candidates(whole)
    shutil.rmtree(house.folder / "runs")
    process = house.start("run", str(house.write_recipe()))
    found = house.folder / "runs"
    until = time.monotonic() + 120
    while not list(found.glob("*/stages/train-candidates/training/checkpoint-*")) and time.monotonic() < until:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not list(found.glob("*/stages/train-candidates/done.json")), "it was done before it could be killed"
    again = Run.open(house.run())
    assert weights(again, "candidates") == expected
    assert candidates(again) == text
