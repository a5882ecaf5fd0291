"""Ten minutes of more than a server can do: every request answered or refused, and memory flat."""

from __future__ import annotations

import http.client
import json
import os
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from support.serving import Served, causal_run, serving
from understudy.serve.opening import Plan
from understudy.serve.sides import Opening

MINUTES = float(os.environ.get("UNDERSTUDY_LOAD_MINUTES", "10"))


def resident() -> float:
    """Megabytes of this process."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def ask_without_end(served: Served, outcomes: Counter[str], end: float, number: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=60)
    turn = {"role": "user", "content": f"Which function terminates N{number}?"}
    body = json.dumps({"model": "student", "messages": [turn], "stream": number % 3 == 0})
    while time.monotonic() < end:
        try:
            connection.request("POST", "/v1/chat/completions", body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            content = answer.read()
        except (OSError, http.client.HTTPException) as error:
            outcomes[f"broken: {type(error).__name__}"] += 1
            connection.close()
            continue
        outcomes[str(answer.status)] += 1
        assert content
        if answer.status == 429:
            # Half as many clients as are refused would be polite; these come again sooner, so the load stays.
            time.sleep(0.05)
    connection.close()


def load(served: Served, seconds: float, clients: int) -> tuple[Counter[str], list[float]]:
    """Answers by status, and megabytes of the process every hundredth of the time."""
    outcomes: Counter[str] = Counter()
    end = time.monotonic() + seconds
    threads = [
        threading.Thread(target=ask_without_end, args=(served, outcomes, end, number)) for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    memory = []
    while time.monotonic() < end:
        time.sleep(seconds / 100)
        served.notebook.exchanges.clear()
        memory.append(resident())
    for thread in threads:
        thread.join()
    return outcomes, memory


@pytest.mark.slow
def test_ten_minutes_of_one_and_a_half_times_what_it_can_do(tmp_path: Path) -> None:
    plan = Plan(most_waiting=16, opening=Opening(batch=8))
    with serving(causal_run(tmp_path), plan) as served:
        load(served, 5, 4)  # What is allocated once is not counted.
        outcomes, memory = load(served, 60 * MINUTES, 24)
        assert outcomes.keys() == {"200", "429"}, outcomes
        assert outcomes["429"] > 0
        first, last = memory[: len(memory) // 4], memory[-len(memory) // 4 :]
        assert sum(last) / len(last) < sum(first) / len(first) + 20, (first[0], last[-1])
        assert served.gateway.admission.under_way == 0
