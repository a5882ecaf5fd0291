"""How fast the whole pipeline of explanations asks, and how much memory it takes for many examples.

```sh
python benchmarks/generate.py                   # throughput at 200 ms, the ceiling at 0 ms, memory at 1,000 and 100,000
python benchmarks/generate.py --few             # the same with a tenth of the examples, to try it out
```

Four steps – explanation, critique, revision, answer – over examples that a generator makes up as it goes; prompts,
filter, rows on disk and the cache of answers are all in it. The server (`tests/servers.py`) runs in a process of its
own; each row asks it from a fresh process. With 64 calls under way and 200 ms an answer, 320 calls a second are the
most there can be. Memory is the high-water mark of resident memory of the asking process.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from understudy.types import Example

ROOT = Path(__file__).resolve().parents[1]
CONCURRENCY, DELAY = 64, 0.2
STEPS = ("explain", "critique", "revise", "answer")


def main() -> None:
    arguments = _arguments()
    if arguments.child:
        print(json.dumps(_generate(arguments.child, arguments.url)))
        return
    share = 10 if arguments.few else 1
    rows = [("200 ms", DELAY, 2_400 // share), ("0 ms", 0.0, 5_000 // share)]
    rows += [("memory", 0.0, 1_000 // share), ("memory", 0.0, 100_000 // share)]
    results = []
    print(
        f"{'':8} {'examples':>9} {'calls':>8} {'seconds':>8} {'calls/s':>8} {'of ideal':>9} {'CPU s':>7} {'memory':>10}"
    )
    for name, delay, examples in rows:
        if not re.search(arguments.rows, name):
            continue
        found = {"row": name, "delay": delay, **_row(examples, delay)}
        found["of_ideal"] = found["per_second"] * delay / CONCURRENCY if delay else None
        results.append(found)
        ideal = f"{found['of_ideal']:9.1%}" if delay else " " * 9
        print(
            f"{name:8} {examples:9,} {found['calls']:8,} {found['seconds']:8.1f} {found['per_second']:8.0f} {ideal} "
            f"{found['cpu_seconds']:7.1f} {found['memory_mib']:6.0f} MiB",
            flush=True,
        )
    if arguments.json:
        versions = {name: version(name) for name in ("openai", "aiohttp", "jinja2")}
        record = {"concurrency": CONCURRENCY, "cores": os.cpu_count(), "versions": versions, "rows": results}
        Path(arguments.json).write_text(json.dumps(record, indent=2) + "\n")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--few", action="store_true", help="a tenth of the examples")
    parser.add_argument("--rows", default="", help="only rows whose name fits this expression")
    parser.add_argument("--json", help="write the figures to this file")
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--url", help=argparse.SUPPRESS)
    return parser.parse_args()


def _row(examples: int, delay: float) -> dict[str, float]:
    with _server(delay) as url:
        command = [sys.executable, __file__, "--child", str(examples), "--url", url]
        return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@contextmanager
def _server(delay: float) -> Iterator[str]:
    command = [sys.executable, str(ROOT / "tests" / "servers.py"), "--delay", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def _examples(num: int) -> Iterator[Example]:
    from understudy.types import Example

    for number in range(num):
        question = f"Of item {number}, which property is asked for? " + "word " * 30
        yield Example(f"e{number}", question, ("the first",), choices=("the first", "the second", "the third"))


def _generate(num: int, url: str) -> dict[str, float]:
    from understudy.knowledge.pipeline import generate
    from understudy.recipe import EndpointConfig
    from understudy.recipe.knowledge import FilterConfig, GenerateConfig
    from understudy.teachers.api import ApiCompleter
    from understudy.types import Message, Request

    # The server gives every question back, which the filter would take for restating.
    config = GenerateConfig(steps=STEPS, filter=FilterConfig(restates=None))
    with tempfile.TemporaryDirectory() as folder:
        endpoint = EndpointConfig(model="m", base_url=url, concurrency=CONCURRENCY, api_key_env="")
        asked = ApiCompleter(endpoint, folder)
        # The first call imports the client; what is measured is asking.
        next(asked.complete([Request("warm", (Message("user", "warm"),))]))
        begin, cpu = time.perf_counter(), time.process_time()
        record = generate(_examples(num), config, asked, Path(folder) / "texts")
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu
    calls = sum(step["kept"] for step in record["steps"].values())
    assert calls == len(STEPS) * num, record
    # Bytes on a Mac, KiB elsewhere.
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)
    return {
        "examples": num,
        "calls": calls,
        "seconds": seconds,
        "per_second": calls / seconds,
        "cpu_seconds": cpu_seconds,
        "memory_mib": memory,
    }


if __name__ == "__main__":
    main()
