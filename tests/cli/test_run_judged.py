"""A run whose judge is not there at first."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support import scripted_judge
from support.house import House, Outcome
from support.servers import Reply, Server
from understudy.files import read_json


def test_a_judge_that_only_was_not_there_is_asked_again(
    house: House, command: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is not done without its verdicts; all that stands before them is kept."""
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    with Server(lambda _: Reply(raw=b"<html>sign in</html>")) as server:
        judge = {"model": "judge", "base_url": server.base_url, "max_retries": 0}
        house.recipe["evaluate"] |= {"arms": ["sft"], "metrics": ["rougeL", "factual_correctness"], "judge": judge}
        recipe = str(house.write_recipe())
        done = command("run", recipe)
        assert done.code == 1
        assert "the judge judge gave no verdict for factual_correctness: unreadable: " in done.err
        assert not (house.run_folder() / "stages" / "report" / "done.json").exists()
        trained = (house.run_folder() / "stages" / "train-sft" / "done.json").read_bytes()
        server.script = scripted_judge.judge
        again = command("run", recipe)
    assert again.code == 0, again.err
    assert (house.run_folder() / "stages" / "train-sft" / "done.json").read_bytes() == trained
    table = read_json(house.run_folder() / "scores.json")["overall"]["table"]["sft"]
    assert table["factual_correctness"]["value"] is not None


def test_a_judge_that_cannot_judge_leaves_its_metric_out(
    house: House, command: Callable[..., Outcome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))
    with Server(lambda _: Reply("I would rather not")) as server:
        judge = {"model": "judge", "base_url": server.base_url, "max_retries": 0}
        house.recipe["evaluate"] |= {"arms": ["sft"], "metrics": ["rougeL", "factual_correctness"], "judge": judge}
        done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    assert "unparseable" in read_json(house.run_folder() / "scores.json")["not_measured"]["factual_correctness"]["sft"]
