"""Exchanges as a gateway tells them, and a monitor that is killed."""

from __future__ import annotations

import sys
import time
from typing import Any

from understudy.serve.exchange import Exchange


def exchange(id: str, question: str, answer: str | None = "an answer", **fields: Any) -> Exchange:
    """A finished request of now."""
    told = {"time": time.time(), "endpoint": "/v1/chat/completions", "key": None, "model": "student"}
    told |= {"source": "student", "seconds": 0.5, "completion_tokens": 12, "prompt_tokens": 30}
    turns = ({"role": "user", "content": question},)
    return Exchange(id=id, messages=turns, answer=answer, **{**told, **fields})


def write_until_killed(database: str) -> None:
    """Write requests to a database, and say of each that it is written, for ever."""
    from understudy.monitor.store import MonitorStore

    store, number = MonitorStore(database), 0
    while True:
        store.write([exchange(f"r{number}", f"question {number}")])
        print(f"r{number}", flush=True)
        number += 1


if __name__ == "__main__":
    write_until_killed(sys.argv[1])
