"""Killed in the middle, again and again: the run ends complete, and what was answered is never asked twice."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from support.asking import by_id, completer, questions
from support.servers import Call, Reply, Server
from understudy.completers.cache import FILE_NAME

HERE = Path(__file__).resolve().parents[1]
ITEMS, AT_ONCE, KILLS = 400, 8, 5
RUN = f"""
import sys
sys.path.insert(0, {str(HERE)!r})
from pathlib import Path
from support.asking import completer, questions
asked = completer(sys.argv[1], Path(sys.argv[2]), account="run", concurrency={AT_ONCE}, max_calls=int(sys.argv[3]))
for completion in asked.complete(questions({ITEMS})):
    print(completion.id, completion.reason, flush=True)
"""


class Executioner:
    """A script that answers, and kills the process that asks as soon as it has asked so many questions."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None
        self.last_call = 0

    def __call__(self, call: Call) -> Reply:
        if self.process and call.number >= self.last_call:
            self.process.kill()
        if call.attempt == 0 and call.number % 7 == 3:
            return Reply("later", status=503)
        return Reply(f"answer to {call.prompt}", delay=0.005)

    def run(self, server: Server, folder: Path, *, max_calls: int, after: int) -> None:
        """Start a run and have it killed after so many calls."""
        self.last_call = len(server.calls) + after
        command = [sys.executable, "-c", RUN, server.base_url, str(folder), str(max_calls)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        assert self.process.wait(60) == -signal.SIGKILL
        self.process = None
        # The server may still be answering what it was asked.
        time.sleep(0.1)


def kept(folder: Path) -> set[str]:
    """The questions whose answers lie in the cache."""
    database = sqlite3.connect(folder / FILE_NAME)
    texts = {text.removeprefix("answer to ") for (text,) in database.execute("SELECT text FROM answers")}
    database.close()
    return texts


def test_killed_five_times_each_answer_is_paid_once(tmp_path: Path) -> None:
    executioner = Executioner()
    with Server(executioner) as server:
        for _ in range(KILLS):
            known, before = kept(tmp_path) if server.calls else set(), len(server.calls)
            executioner.run(server, tmp_path, max_calls=10_000, after=60)
            assert not known & {call.prompt for call in server.calls[before:]}
            assert len(kept(tmp_path)) >= len(known) + 60 * 6 // 7 - 2 * AT_ONCE
        known, before = kept(tmp_path), len(server.calls)
        found = by_id(completer(server, tmp_path, account="run", concurrency=AT_ONCE).complete(questions(ITEMS)))
    assert not known & {call.prompt for call in server.calls[before:]}
    assert {name: completion.text for name, completion in found.items()} == {
        f"q{number}": f"answer to q{number}" for number in range(ITEMS)
    }
    paid = Counter(call.prompt for call in server.calls if call.answered)
    assert set(paid) == set(found)
    # A call under way when the process dies may be answered to nobody; no other is made twice.
    assert paid.total() <= ITEMS + KILLS * AT_ONCE


def test_killed_runs_keep_to_one_budget(tmp_path: Path) -> None:
    limit = 180
    executioner = Executioner()
    with Server(executioner) as server:
        for _ in range(3):
            executioner.run(server, tmp_path, max_calls=limit, after=40)
        asked = completer(server, tmp_path, account="run", concurrency=AT_ONCE, max_calls=limit)
        found = by_id(asked.complete(questions(ITEMS)))
        paid = sum(call.answered for call in server.calls)
    assert limit - 3 * AT_ONCE <= paid <= limit
    assert len(found) == ITEMS
    assert {completion.reason.partition(":")[0] for completion in found.values()} == {"", "budget"}
