"""A grid that is killed at random moments: the same command goes on, and the table is the same to the byte."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest
from test_run_killed import close, until

from support.grids import at_work, done, folder_of, make_grid, tables
from support.house import House


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory, models: Path) -> House:
    """A house with a grid of two runs that nobody killed, which share what does not depend on the method."""
    house = House(tmp_path_factory.mktemp("unbroken"), models)
    house.write_data()
    make_grid(house)
    house.recipe["axes"] = {"distil.method": ["kd", "dskd"]}
    house.recipe["evaluate"]["arms"] = ["distilled"]
    house.write_recipe("grid.yaml")
    process = house.call("run", "grid.yaml", timeout=900)
    assert process.returncode == 0, process.stderr
    return house


@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(8, marks=pytest.mark.slow)])
def test_going_on_after_kills_gives_the_same_table(unbroken: House, tmp_path, times: int) -> None:
    moment = random.Random(times)
    folder = tmp_path / "runs" / "grid"
    arguments = ("run", "grid.yaml", f"output={tmp_path / 'runs'}", f"workers={1 + times % 3}")
    total, kills = len(done(folder_of(unbroken))), 0
    for left in range(times, 0, -1):
        seen = len(done(folder))
        # Spread over what there is to do, so that no kill finds the grid finished.
        more = moment.randint(0, max(0, (total - seen) // (left + 1) - 1))
        process = unbroken.start(*arguments)
        # The driver may still be loading, or several stages may be under way.
        began = until(lambda seen=seen, more=more: len(done(folder)) >= seen + more and at_work(folder), process, 600)
        if began:
            time.sleep(moment.random() / 2)
            kills += process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
        close(process)
    assert kills == times
    last = unbroken.call(*arguments, timeout=900)
    assert last.returncode == 0, last.stderr
    assert tables(folder) == tables(folder_of(unbroken))
    assert done(folder) == done(folder_of(unbroken))
    assert not list(folder.rglob("*.part"))
