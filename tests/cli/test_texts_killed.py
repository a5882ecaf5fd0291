"""A run that is killed while its teacher writes goes on from there, and asks nothing twice."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from test_generate_command import choose, reply
from test_run_killed import close, until

from support.house import House
from support.servers import Call, Reply, Server
from understudy.files import read_jsonl
from understudy.run import Run

AT_ONCE = 2


def test_what_was_answered_before_the_kill_is_not_asked_again(
    house: House, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))

    def slowly(call: Call) -> Reply:
        found = reply(call)
        found.delay = 0.05
        return found

    with Server(slowly) as server:
        choose(house, server)
        house.recipe["generate"]["teacher"]["concurrency"] = AT_ONCE
        house.recipe["evaluate"] |= {"arms": ["explained"], "speed": False, "rows": 3}
        house.recipe["distil"] |= {"steps": 1}
        house.recipe["data"] |= {"max_length": 400, "max_answer_tokens": 100}
        recipe = str(house.write_recipe())
        process = house.start("run", recipe)
        assert until(lambda: sum(call.answered for call in server.calls) >= 20, process)
        os.killpg(process.pid, signal.SIGKILL)
        close(process)
        before = server.answered()
        run = Run(house.run_folder())
        assert not run.is_done("generate")
        done = house.call("run", recipe)
        assert done.returncode == 0, done.stderr
        train = len(read_jsonl(run.folder / "data" / "train.jsonl"))
        asked = server.answered()
    # Five texts an example; only what was under way at the kill may be asked again.
    assert len(asked) == 5 * train
    assert sum(asked.values()) - len(asked) <= AT_ONCE
    assert sum(count > 1 for count in asked.values()) <= AT_ONCE
    assert sum(before.values()) == len(before) < 5 * train
    assert run.is_done("report")
    for step, number in (("explain", 1), ("critique", 1), ("revise", 1), ("counterfactual", 2)):
        rows = read_jsonl(run.stage("generate") / f"{step}.jsonl")
        assert len(rows) == len({(row["id"], row["choice"]) for row in rows}) == number * train
