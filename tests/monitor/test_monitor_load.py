"""Load on a watched server, and a kill in the middle of it: whatever was acknowledged is in the database.

Seconds by default; `-m slow` takes ten minutes each, or UNDERSTUDY_LOAD_MINUTES, and kills a server of its own.
"""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from sqlalchemy import func, select

from support.commands import serve_command
from support.serving import causal_run, serve_for_a_test
from understudy.monitor.config import MonitorConfig, ShadowConfig
from understudy.monitor.live import open_watching
from understudy.monitor.store import MonitorStore
from understudy.monitor.tables import REQUESTS, THUMBS
from understudy.run import Run
from understudy.serve.opening import Plan
from understudy.serve.sides import Opening

MINUTES = float(os.environ.get("UNDERSTUDY_LOAD_MINUTES", "10"))
LENGTHS = [2.0, pytest.param(60 * MINUTES, marks=pytest.mark.slow, id="minutes")]
CLIENTS = 8


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return causal_run(tmp_path_factory.mktemp("served"))


@dataclass
class Clients:
    """Clients that ask without end, and say of every second answer what they think of it.

    Attributes:
        url: of the gateway.
        page: of the monitor; empty: no thumbs.
        answered: ids of answers that came whole.
        kept: ids of requests whose thumb was acknowledged.
        others: how often something else came, by status.
    """

    url: str
    page: str = ""
    answered: set[str] = field(default_factory=set)
    kept: set[str] = field(default_factory=set)
    others: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Clients:
        self._end = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(number,)) for number in range(CLIENTS)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, number: int) -> None:
        connection, count = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=60), 0
        while not self._end.is_set():
            count += 1
            turn = {"role": "user", "content": f"Who ends N{number} {count}?"}
            try:
                body = json.dumps({"model": "student", "messages": [turn]})
                connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
                answer = connection.getresponse()
                body = answer.read().decode()
            except (OSError, http.client.HTTPException) as error:
                self.others[type(error).__name__] += 1
                connection.close()
                continue
            if answer.status != 200:
                self.others[f"{answer.status} {body[:200]}"] += 1
                continue
            id = json.loads(body)["id"]
            self.answered.add(id)
            if self.page and count % 2:
                self._thumb(id)
        connection.close()

    def _thumb(self, id: str) -> None:
        """Until it is acknowledged: a request that was answered just now may not be written yet (404)."""
        for _ in range(100):
            status = post(f"{self.page}/thumbs", {"id": id, "verdict": "up"})
            if status == 201:
                self.kept.add(id)
            if status != 404 or self._end.wait(0.05):
                return


def post(url: str, body: dict[str, Any]) -> int:
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def missing(store: MonitorStore, ids: set[str]) -> set[str]:
    with store.reading() as connection:
        return ids - {row.id for row in connection.execute(select(REQUESTS.c.id))}


def resident() -> float:
    """Megabytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.parametrize("seconds", LENGTHS)
def test_under_load_every_answer_is_in_the_log(run: Run, database: str, seconds: float) -> None:
    config = MonitorConfig(shadow=ShadowConfig(share=0.02))
    watching = open_watching(run, Plan(opening=Opening(batch=8)), None, database, config)
    assert watching.monitor is not None
    memory = []
    with serve_for_a_test(watching.gateway) as url:
        with Clients(url) as clients:
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(seconds / 20)
                memory.append(resident())
        watching.monitor.drain()
    figures, store = watching.monitor.figures, watching.monitor.store
    assert not clients.others
    assert len(clients.answered) > 10 * seconds / 2
    assert missing(store, clients.answered) == set()
    assert store.count() == len(clients.answered)
    assert figures.lost._value.get() == 0
    assert len(store.shadows()) == figures.shadow.labels("asked")._value.get()
    # A log grows on the disk, and nowhere else; what is allocated once comes in the first half.
    assert memory[-1] < memory[len(memory) // 2] + 30
    print(f"{len(clients.answered)} answers in {seconds:.0f} s, {memory[-1] - memory[0]:+.0f} MB")
    watching.close()


@pytest.mark.slow
def test_a_killed_server_has_lost_nothing_that_it_acknowledged(run: Run, database: str) -> None:
    kept: set[str] = set()
    for kill in range(2):
        command = serve_command(run.folder, "--monitor", database, "--monitor-port", 0)
        with command as served, Clients(served.url, served.page) as clients:
            end = time.monotonic() + 120
            while len(clients.kept) < 25 and time.monotonic() < end:
                time.sleep(0.02)
            served.kill()
        assert len(clients.kept) >= 25, (clients.others, served.lines)
        kept |= clients.kept
        store = MonitorStore(database, new=False)
        assert missing(store, kept) == set()
        with store.reading() as connection:
            thumbs = set(connection.execute(select(THUMBS.c.request)).scalars())
            assert connection.execute(select(func.count()).select_from(REQUESTS)).scalar() == store.count()
        assert kept <= thumbs
        # What only waited in memory is lost, and that is little.
        assert len(missing(store, clients.answered)) <= 3 * CLIENTS
        store.close()
        assert kill or len(kept) < 200
