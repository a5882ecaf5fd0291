"""A grid that is killed at random moments: the same command goes on, and the table is the same to the byte."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest
from test_run_killed import close, until

from support.grids import at_work, done, folder_of, tables
from support.house import House


@pytest.mark.parametrize("times", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_going_on_after_kills_gives_the_same_table(finished_grid: House, tmp_path, times: int) -> None:
    moment = random.Random(times)
    folder = tmp_path / "runs" / "grid"
    arguments = ("run", "grid.yaml", f"output={tmp_path / 'runs'}", f"workers={1 + times % 3}")
    total, kills = len(done(folder_of(finished_grid))), 0
    for left in range(times, 0, -1):
        seen = len(done(folder))
        # Spread over what there is to do, so that no kill finds the grid finished.
        more = moment.randint(0, max(0, (total - seen) // left - 1))
        process = finished_grid.start(*arguments)
        # The driver may still be loading, or several stages may be under way.
        began = until(lambda seen=seen, more=more: len(done(folder)) >= seen + more and at_work(folder), process, 600)
        if began:
            time.sleep(moment.random())
            kills += process.poll() is None
            os.killpg(process.pid, signal.SIGKILL)
        close(process)
    assert kills == times
    last = finished_grid.call(*arguments, timeout=900)
    assert last.returncode == 0, last.stderr
    assert tables(folder) == tables(folder_of(finished_grid))
    assert done(folder) == done(folder_of(finished_grid))
    assert not list(folder.rglob("*.part"))
