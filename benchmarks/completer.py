"""How fast the completer asks, and how much memory it takes to ask for long.

```sh
python benchmarks/completer.py                  # throughput at 200 ms, the ceiling at 0 ms, memory at 1,000 and 100,000
python benchmarks/completer.py --few            # the same with a tenth of the calls, to try it out
```

The server (`tests/support/servers.py`) runs in a process of its own and gives every question back; each row asks it
from a fresh process. With 64 requests under way and 200 ms an answer, 320 calls a second are the most there can be.
Memory is
the high-water mark of resident memory of the asking process; with the cache in use, as always.
"""

from __future__ import annotations

import tempfile

from asking import CONCURRENCY, DELAY, main, timed

ROWS = [("200 ms", DELAY, 9_600), ("0 ms", 0.0, 20_000), ("memory", 0.0, 1_000), ("memory", 0.0, 100_000)]


def ask(name: str, calls: int, url: str) -> dict[str, float]:
    """Ask so many questions."""
    from understudy.completers.openai_completer import ApiCompleter
    from understudy.recipe import EndpointConfig
    from understudy.types import Message, Request

    requests = (Request(str(n), (Message("user", f"question {n} " + "word " * 50),)) for n in range(calls))
    with tempfile.TemporaryDirectory() as folder:
        config = EndpointConfig(model="m", base_url=url, concurrency=CONCURRENCY, api_key_env="")
        asked = ApiCompleter(config, folder)
        # The first call imports the client; what is measured is asking.
        next(asked.complete([Request("warm", (Message("user", "warm"),))]))
        with timed() as figures:
            answered = sum(completion.text is not None for completion in asked.complete(requests))
    assert answered == calls, asked.usage
    return {"calls": calls, **figures, "retries": asked.usage.retries}


if __name__ == "__main__":
    main(__doc__ or "", ROWS, ask, ["retries"])
