"""A pilot from a file and two models to its page, by the real command line on tiny models."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable

import pytest
import yaml

from support.house import House, Outcome
from understudy.files import read_json
from understudy.recipe import load_recipe

Command = Callable[..., Outcome]
TELECOM = (
    *("pilot", "embedded:telecom", "--teacher", "embedded:telecom-teacher", "--student", "embedded:telecom-student"),
    *("data.max_length=128", "data.max_answer_tokens=12", "device=cpu"),
)


def asked(house: House, *more: str) -> list[str]:
    models = ("--teacher", str(house.models / "teacher"), "--student", str(house.models / "student"))
    fields = ("data.max_length=96", "data.max_answer_tokens=12", "seqkd.keep_unfinished=true", "device=cpu")
    return ["pilot", str(house.folder / "qa.jsonl"), *models, *fields, *more]


@pytest.mark.parametrize(
    ("more", "error", "hint"),
    [
        (["--student", ""], "a pilot needs both models", "--student MODEL"),
        (["data.train_share=0.5"], "data.train_share is what the pilot decides itself", "leave it out"),
        (["distil.stepz=5"], "unknown key `distil.stepz`: did you mean `steps`", ""),
        (["teacher.base_url=http://localhost:1", "teacher.tokenizer=x"], "", ""),
        (["data.source=missing.jsonl"], "missing.jsonl", ""),
    ],
)
def test_what_cannot_be_is_said_in_a_line_before_anything_is_made(
    house: House, command: Command, monkeypatch: pytest.MonkeyPatch, more: list[str], error: str, hint: str
) -> None:
    monkeypatch.chdir(house.folder)
    outcome = command(*asked(house, *more))
    assert outcome.code == 1
    [line] = [line for line in outcome.err.splitlines() if line.startswith("error: ")]
    assert error in line
    assert hint in outcome.err
    assert "Traceback" not in outcome.err
    assert not (house.folder / "runs").exists()


@pytest.mark.slow
def test_a_pilot_of_tiny_models_is_killed_goes_on_and_leaves_a_page_and_a_recipe(house: House) -> None:
    house.write_data(120)
    arguments = asked(house, "--minutes", "10", "--price-per-hour", "2", "teacher.sft={steps: 6, batch_size: 8}")
    process = house.start(*arguments)
    folder = house.folder / "runs" / "qa-pilot"
    limit = time.monotonic() + 600
    while not list(folder.glob("stages/train-sft-*/done.json")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit, "no student was trained"
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    made = {path: path.stat().st_mtime for path in folder.glob("stages/*/done.json")}
    planned = read_json(folder / "pilot_plan.json")
    done = house.call(*arguments, timeout=1200)
    assert done.returncode == 0, done.stderr
    assert read_json(folder / "pilot_plan.json") == planned
    assert all(path.stat().st_mtime == at for path, at in made.items()), "a stage was made twice"
    result = read_json(folder / "pilot.json")
    points = result["results"]["points"]
    assert [point["rows"] for point in points] == sorted(point["rows"] for point in points)
    # All rows have an answer: SeqKD learns the teacher's own in their place.
    assert set(points[-1]["values"]) == {"teacher", "base_student", "sft", "seqkd", "distilled"}
    assert result["choice"]["method"] == "kd"
    # Tiny models learn nothing in so few steps, and the pilot does not call that a no.
    assert result["results"]["verdict"]["kind"] in ("cannot tell", "worth it")
    assert f"{result['results']['verdict']['kind']}: " in done.stdout
    assert "full run, cost: " in done.stdout
    page = (folder / "pilot.html").read_text(encoding="utf-8")
    assert page.count("<svg") >= 2
    assert "http" not in page.replace("http://www.w3.org", "")
    recipe = load_recipe(folder / "recipe.yaml")
    assert recipe.data.train_share == 1
    assert recipe.distil.steps is None
    assert recipe.evaluate.rows is None
    assert recipe.seqkd.keep_gold is False
    other = house.call(*asked(house, "--minutes", "20"))
    assert other.returncode == 1
    assert "holds another pilot" in other.stderr


@pytest.mark.slow
def test_two_vocabularies_get_a_method_that_is_sound_for_them(house: House) -> None:
    house.write_data(120)
    arguments = asked(house, "--minutes", "10", "--student", str(house.models / "other"))
    done = house.call(*arguments, timeout=1200)
    assert done.returncode == 0, done.stderr
    recipe = yaml.safe_load((house.folder / "runs" / "qa-pilot" / "recipe.yaml").read_text())
    assert recipe["distil"]["method"] in ("byte_aligned", "dskd_v2", "min_edit", "uld")
    assert "the vocabularies differ" in done.stderr


@pytest.mark.slow
def test_the_embedded_set_is_piloted_within_its_time(house: House) -> None:
    begun = time.monotonic()
    done = house.call(*TELECOM, "--minutes", "8", "teacher.sft={steps: 8, batch_size: 8}", timeout=1200)
    assert done.returncode == 0, done.stderr
    result = read_json(house.folder / "runs" / "embedded-telecom-pilot" / "pilot.json")
    assert result["results"]["verdict"]["kind"] in ("cannot tell", "worth it")
    assert time.monotonic() - begun < 2 * 8 * 60
