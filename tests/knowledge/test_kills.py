"""Killed in the middle, again and again, by a server that misbehaves: the texts end complete and are paid for once."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from support.asking import completer
from support.servers import Call, Reply, Server
from understudy.knowledge.pipeline import generate
from understudy.knowledge.store import read_step
from understudy.recipe.knowledge import GenerateConfig
from understudy.types import Example

HERE = Path(__file__).resolve().parents[1]
STEPS = ("explain", "critique", "revise", "counterfactual")
AT_ONCE = 16
READ, WRITTEN, INPUT_PRICE, OUTPUT_PRICE = 100, 20, 1.0, 10.0
COST = (READ * INPUT_PRICE + WRITTEN * OUTPUT_PRICE) / 1e6
"""What a call of the server below costs."""

RUN = f"""
import sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE / "knowledge")!r}]
from pathlib import Path
from test_kills import work
work(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4]))
"""


def examples(num: int) -> list[Example]:
    """Two choices, so that there is one counterfactual: four calls an example."""
    return [Example(f"e{n}", f"Is {n} even?", ("yes",), choices=("yes", "no")) for n in range(num)]


def work(url: str, folder: Path, num: int, max_cost: float) -> dict:
    """What the process does that is killed."""
    asked = completer(
        url,
        folder,
        account="run",
        concurrency=AT_ONCE,
        timeout=3.0,
        max_retries=20,
        input_price=INPUT_PRICE,
        output_price=OUTPUT_PRICE,
        max_cost=max_cost,
        max_tokens=WRITTEN,
    )
    config = GenerateConfig(steps=STEPS, max_tokens=dict.fromkeys(STEPS, WRITTEN))
    return generate(examples(num), config, asked, folder / "texts")


class Misbehaving:
    """Of a hundred new questions so many are met by: 4 × 429, 4 × 500, 2 × a reset, 1 × half a body, now and then
    silence for longer than the asker waits."""

    def __init__(self) -> None:
        self.chance = random.Random(5)
        # Answers that were charged for, by the endpoint's own books: whole ones, and those that broke off.
        self.charged = 0
        self.silent: set[str] = set()

    def __call__(self, call: Call) -> Reply:
        drawn = self.chance.randrange(100) if call.attempt == 0 else 99
        if drawn < 4:
            return Reply("slow down", status=429, headers={"Retry-After": "0.05"})
        if drawn < 8:
            return Reply("broken", status=500)
        if drawn < 10:
            return Reply(act="reset")
        self.charged += 1
        text = f"The number of call {call.number} decides, whatever others say of it.\nSecond line."
        if drawn == 10:
            return Reply(text, act="half")
        if drawn == 11 and call.number % 5 == 0:
            self.silent.add(call.key)
            return Reply(text, delay=4.0)
        return Reply(text, tokens=(READ, WRITTEN), delay=0.01)


def killed(server: Server, folder: Path, num: int, max_cost: float, after: float) -> None:
    """Start the process and kill it so many seconds after its first call."""
    before = len(server.calls)
    command = [sys.executable, "-c", RUN, server.base_url, str(folder), str(num), str(max_cost)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    while len(server.calls) == before and process.poll() is None:
        time.sleep(0.005)
    timer = threading.Timer(after, process.kill)
    timer.start()
    assert process.wait(120) == -signal.SIGKILL, "killed before its end"
    # The server may still be answering what it was asked.
    time.sleep(0.1)


def check(tmp_path: Path, num: int, kills: int, longest: float) -> None:
    """Kill at random moments, let it end, and look at the server's own books."""
    chance, server_side = random.Random(num), Misbehaving()
    # Enough for the work and for what kills and broken answers may cost on top, by the most they can.
    max_cost = 4 * num * COST * 3
    with Server(server_side) as server:
        for _ in range(kills):
            killed(server, tmp_path, num, max_cost, chance.uniform(0.05, longest))
        record = work(server.base_url, tmp_path, num, max_cost)
        assert (record.finished, record.left, record.stopped) == (num, 0, "")
        again = work(server.base_url, tmp_path, num, max_cost)
        calls = list(server.calls)

    # Complete: every example has its four texts, each built on the one that lies there.
    texts = {step: {row.id: row for row in read_step(tmp_path / "texts", step)} for step in STEPS}
    for step in STEPS:
        assert [row.id for row in read_step(tmp_path / "texts", step)] == [f"e{n}" for n in range(num)]
        assert all(row.kept for row in texts[step].values())
    revised = {call.prompt: call for call in calls if "whole new explanation" in call.prompt and call.answered}
    by_example = {prompt.split("Is ")[1].split(" even")[0]: prompt for prompt in revised}
    for number in range(0, num, 7):
        prompt = by_example[str(number)]
        assert f"Explanation: {texts['explain'][f'e{number}'].text}\n" in prompt
        assert f"Critique: {(texts['critique'][f'e{number}'].text or '').splitlines()[0]}\n" in prompt

    # Paid once: no question but the four of each example was ever put, so no text that others build on was lost; each
    # has its whole answer; and a second one only where a process died while the first was under way – no process has
    # more under way than it may – or had given up waiting for it.
    whole = Counter(call.key for call in calls if call.answered)
    assert len(whole) == len({call.key for call in calls}) == 4 * num
    twice = sum(often - 1 for key, often in whole.items() if key not in server_side.silent)
    assert twice <= kills * AT_ONCE
    assert again.steps == record.steps, "and nothing was asked the second time"

    # Within the budget: whatever the endpoint may have charged for.
    assert server_side.charged * COST <= max_cost + COST


def test_killed_twice_the_texts_are_complete_and_paid_for_once(tmp_path: Path) -> None:
    check(tmp_path, num=200, kills=2, longest=1.0)


@pytest.mark.slow
def test_two_thousand_examples_killed_five_times(tmp_path: Path) -> None:
    check(tmp_path, num=2_000, kills=5, longest=6.0)


def test_killed_in_a_small_budget_it_stops_at_the_budget(tmp_path: Path) -> None:
    num, max_cost = 200, 100 * COST
    server_side = Misbehaving()
    with Server(server_side) as server:
        killed(server, tmp_path, num, max_cost, 0.3)
        record = work(server.base_url, tmp_path, num, max_cost)
    assert record.stopped.startswith("budget: ")
    assert record.finished + record.left == num
    assert 0 < record.finished < 26
    assert server_side.charged * COST <= max_cost + COST
    # Calls under way at a kill stay on the books at the most they could have cost, so the budget may end early.
    assert server_side.charged > 20
