"""Settings are searched by the real command line, on tiny models."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from support.house import House, Outcome
from understudy.files import read_json, read_jsonl
from understudy.recipe import load_recipe

Command = Callable[..., Outcome]
NARROW = ("--over", "distil.method=kd", "--over", "distil.divergence=forward_kl,js", "--over", "distil.gold_weight=1")
RATES = ("--over", "distil.learning_rate=0.01,1e-7")


@pytest.fixture
def searched(house: House) -> House:
    house.recipe["data"] |= {"gold_share": 1.0}
    house.recipe["distil"] |= {"steps": 24, "eval_every": 8, "schedule": "constant", "eval_rows": 8}
    del house.recipe["distil"]["save_every"]
    house.recipe["evaluate"] |= {"arms": ["sft", "distilled"], "rows": 6, "speed": False}
    house.write_recipe()
    return house


def trials_of(house: House) -> list[dict]:
    """Trials as the journal has them: the last state and the scores of each."""
    trials: list[dict] = []
    for row in read_jsonl(house.folder / "runs" / "tiny-search" / "search.jsonl"):
        if row["op_code"] == 4:
            trials.append({"scores": [], "state": 0})
        elif row["op_code"] == 7:
            trials[row["trial_id"]]["scores"].append(row["intermediate_value"])
        elif row["op_code"] == 6:
            trials[row["trial_id"]]["state"] = row["state"]
    return trials


def test_the_best_settings_are_written_and_compared_on_the_test_split_once(
    searched: House, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(searched.folder)
    outcome = command("tune", "recipe.yaml", *NARROW, *RATES, "--trials", "4", "--budget", "10m")
    assert outcome.code == 0, outcome.err
    folder = searched.folder / "runs" / "tiny-search"
    best = load_recipe(folder / "best.yaml")
    assert best.distil.learning_rate == 0.01
    assert "distil.learning_rate=0.01" in outcome.out
    # What trials agree in was made once.
    assert len(list((folder / "stages").glob("teacher_sft-*"))) == 1
    final = read_json(folder / "final.json")
    assert {system["name"].split(":")[0] for system in final["comparison"]["systems"]} == {"tuned", "before"}
    # No trial answered a test item: only the two runs of the end have predictions of the distilled student.
    assert len({path.resolve() for path in folder.glob("cells/*/stages/predict-distilled/predictions.jsonl")}) == 2
    page = (folder / "tune.html").read_text(encoding="utf-8")
    assert "distil.learning_rate" in page
    assert "<svg" in page
    again = command("tune", "recipe.yaml", *NARROW, *RATES, "--trials", "9")
    assert again.code == 1
    assert "the test split was looked at already" in again.err
    shown = command("tune", "recipe.yaml", *NARROW, *RATES, "--trials", "4")
    assert shown.code == 0
    assert len(trials_of(searched)) == 4
    other = command("tune", "recipe.yaml", *NARROW, "--trials", "4")
    assert other.code == 1
    assert "another recipe or over other values" in other.err


@pytest.mark.slow
def test_a_rate_at_which_nothing_is_learned_is_stopped_early(
    searched: House, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(searched.folder)
    del searched.recipe["distil"]["eval_every"]
    searched.recipe["distil"] |= {"steps": 162}
    searched.write_recipe()
    outcome = command("tune", "recipe.yaml", *NARROW, *RATES, "--trials", "9", "--budget", "30m", "--no-final")
    assert outcome.code == 0, outcome.err
    stopped = [trial["scores"] for trial in trials_of(searched) if trial["state"] == 2]
    assert stopped
    assert all(len(scores) in (1, 3, 9) for scores in stopped)
    assert f"{len(stopped)} stopped early" in outcome.out
    assert not list(searched.folder.glob("runs/tiny-search/stages/train-distilled-*/training/checkpoint-*"))


def test_a_killed_search_goes_on_with_the_trial_that_was_at_work(searched: House) -> None:
    arguments = ["tune", "recipe.yaml", *NARROW, "--over", "distil.learning_rate=0.01,0.005", "--no-final"]
    process = searched.start(*arguments, "--trials", "2")
    folder = searched.folder / "runs" / "tiny-search"
    limit = time.monotonic() + 120
    while not list(folder.glob("stages/train-distilled-*/training/checkpoint-*")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < limit, "no checkpoint was written"
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    [begun] = folder.glob("stages/train-distilled-*")
    done = searched.call(*arguments, "--trials", "2")
    assert done.returncode == 0, done.stderr
    assert (begun / "done.json").is_file(), "the trial at work was not ended"
    states = [trial["state"] for trial in trials_of(searched)]
    # One left at work and written off, and two that ended.
    assert len(states) == 3
    assert done.stdout.count("2 complete") == 1 or "1 complete, 1 stopped early" in done.stdout


def test_settings_that_do_not_go_together_are_refused_in_a_line_and_the_search_goes_on(
    searched: House, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(searched.folder)
    searched.recipe["distil"] |= {"steps": 3, "eval_every": 3}
    searched.write_recipe()
    axes = (
        "--over",
        "distil.batch_size=8",
        "--over",
        "distil.micro_batch_size=3,5,8",
        "--over",
        "distil.learning_rate=0.01",
    )
    outcome = command("tune", "recipe.yaml", *NARROW, *axes, "--trials", "4", "--no-final")
    assert outcome.code == 0, outcome.err
    assert "refused: " in outcome.err
    assert load_recipe(searched.folder / "runs" / "tiny-search" / "best.yaml").distil.micro_batch_size == 8


def test_where_no_settings_can_be_run_the_reason_is_given(
    searched: House, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(searched.folder)
    outcome = command("tune", "recipe.yaml", *NARROW, "--over", "distil.micro_batch_size=3", "--trials", "2")
    assert outcome.code == 1
    assert "no trial of" in outcome.err
    assert "micro_batch_size" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--budget", "two hours"), "--budget two hours is no time"),
        (("--arm", "explained"), "--arm explained: the recipe trains sft, distilled"),
        (("--seeds", "1,x"), "seeds are whole numbers"),
        (("--over", "distil.metod=kd"), "distil.method"),
    ],
)
def test_what_cannot_be_searched_is_refused_before_anything_is_made(
    searched: House, command: Command, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(searched.folder)
    outcome = command("tune", "recipe.yaml", *arguments)
    assert outcome.code == 1
    assert said in outcome.err
    assert not (searched.folder / "runs").exists()
