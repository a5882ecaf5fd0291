"""How fast the whole pipeline of explanations asks, and how much memory it takes for many examples.

```sh
python benchmarks/generate.py                   # throughput at 200 ms, the ceiling at 0 ms, memory at 1,000 and 100,000
python benchmarks/generate.py --few             # the same with a tenth of the examples, to try it out
```

Four steps – explanation, critique, revision, answer – over examples that a generator makes up as it goes; prompts,
filter, rows on disk and the cache of answers are all in it. The rows of memory have one step. The server
(`tests/support/servers.py`) runs in a process of its own; each row asks it from a fresh process. With 64 calls under
way and 200 ms an answer, 320 calls a second are the most there can be. Memory is the high-water mark of resident memory
of the
asking process.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from asking import CONCURRENCY, DELAY, main, timed

if TYPE_CHECKING:
    from understudy.types import Example

ROWS = [("200 ms", DELAY, 9_600), ("0 ms", 0.0, 5_000), ("memory", 0.0, 1_000), ("memory", 0.0, 100_000)]
STEPS = ("explain", "critique", "revise", "answer")


def examples(num: int) -> Iterator[Example]:
    """Multiple-choice questions, made up as they are drawn."""
    from understudy.types import Example

    for number in range(num):
        question = f"Of item {number}, which property is asked for? " + "word " * 30
        yield Example(f"e{number}", question, ("the first",), choices=("the first", "the second", "the third"))


def ask(name: str, num: int, url: str) -> dict[str, float]:
    """Have so many examples written about."""
    from understudy.completers.openai_completer import ApiCompleter
    from understudy.knowledge.pipeline import generate
    from understudy.recipe import EndpointConfig
    from understudy.recipe.knowledge import FilterConfig, GenerateConfig
    from understudy.types import Message, Request

    # The server gives every question back, which the filter would take for restating.
    steps = STEPS[:1] if name == "memory" else STEPS
    config = GenerateConfig(steps=steps, filter=FilterConfig(restates=None))
    with tempfile.TemporaryDirectory() as folder:
        endpoint = EndpointConfig(model="m", base_url=url, concurrency=CONCURRENCY, api_key_env="")
        asked = ApiCompleter(endpoint, folder)
        # The first call imports the client; what is measured is asking.
        next(asked.complete([Request("warm", (Message("user", "warm"),))]))
        with timed() as figures:
            record = generate(examples(num), config, asked, Path(folder) / "texts")
    calls = sum(step["kept"] for step in record["steps"].values())
    assert calls == len(steps) * num, record
    return {"examples": num, "calls": calls, **figures}


if __name__ == "__main__":
    main(__doc__ or "", ROWS, ask, ["examples"])
