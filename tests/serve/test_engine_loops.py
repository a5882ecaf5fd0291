"""One model, asked from the event loops of several threads at once: a gateway's and that of the watching beside it."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

from support.serving import causal_run
from understudy.serve.answers import answer_with, example_of
from understudy.serve.sides import Side, open_side

ASKERS, QUESTIONS = 4, 25


def ask_one_after_the_other(side: Side, number: int, answers: list[str]) -> None:
    with asyncio.Runner() as runner:
        for place in range(QUESTIONS):
            answers.append(runner.run(answer_with(side, example_of(f"Who ends N{number} {place}?", None, ()))).answer)


def test_each_asker_is_woken_in_its_own_loop(tmp_path: Path) -> None:
    """A piece that is put into another thread's loop is not seen there until something else happens."""
    side = open_side(causal_run(tmp_path), "student")
    answers: list[list[str]] = [[] for _ in range(ASKERS)]
    threads = [
        threading.Thread(target=ask_one_after_the_other, args=(side, number, answers[number]), daemon=True)
        for number in range(ASKERS)
    ]
    for thread in threads:
        thread.start()
    end = time.monotonic() + 60
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    assert [len(own) for own in answers] == [QUESTIONS] * ASKERS
    alone: list[str] = []
    ask_one_after_the_other(side, 0, alone)
    assert answers[0] == alone
    asyncio.run(side.close())
