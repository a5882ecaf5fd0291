"""What the benchmarks of asking share: a server in a process of its own, rows in fresh processes, figures."""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONCURRENCY, DELAY = 64, 0.2
Row = tuple[str, float, int]
"""Name, seconds that the server takes for an answer, how many things are asked."""


def main(
    description: str, rows: Sequence[Row], ask: Callable[[str, int, str], dict[str, float]], columns: Sequence[str]
) -> None:
    """Measure each row from a fresh process, print a table, write the figures where a file was asked for.

    Args:
        description: of the command.
        rows: in order.
        ask: in the child: of the row's name, its number and the server's address; its figures, `calls` and `seconds`
            among them.
        columns: further figures to print, whole numbers.
    """
    arguments = _arguments(description)
    if arguments.child:
        print(json.dumps(ask(arguments.name, arguments.child, arguments.url)))
        return
    results = []
    more = "".join(f" {name:>9}" for name in columns)
    print(f"{'':8} {'calls':>8} {'seconds':>8} {'calls/s':>8} {'of ideal':>9} {'CPU s':>7} {'memory':>10}{more}")
    for name, delay, number in rows:
        if not re.search(arguments.rows, name):
            continue
        found = _row(name, number // (10 if arguments.few else 1), delay)
        results.append(found)
        ideal = f"{found['of_ideal']:9.1%}" if delay else " " * 9
        figures = "".join(f" {found[column]:9,.0f}" for column in columns)
        print(
            f"{name:8} {found['calls']:8,} {found['seconds']:8.1f} {found['per_second']:8.0f} {ideal} "
            f"{found['cpu_seconds']:7.1f} {found['memory_mib']:6.0f} MiB{figures}",
            flush=True,
        )
    if arguments.json:
        versions = {name: version(name) for name in ("openai", "aiohttp", "tenacity", "jinja2")}
        record = {"concurrency": CONCURRENCY, "cores": os.cpu_count(), "versions": versions, "rows": results}
        Path(arguments.json).write_text(json.dumps(record, indent=2) + "\n")


def _arguments(description: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description.split("\n", 1)[0])
    parser.add_argument("--few", action="store_true", help="a tenth of everything")
    parser.add_argument("--rows", default="", help="only rows whose name fits this expression")
    parser.add_argument("--json", help="write the figures to this file")
    for hidden in ("--name", "--url"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    parser.add_argument("--child", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def _row(name: str, number: int, delay: float) -> dict:
    with _server(delay) as url:
        command = [sys.executable, sys.argv[0], "--name", name, "--child", str(number), "--url", url]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    rate = found["calls"] / found["seconds"]
    ideal = rate * delay / CONCURRENCY if delay else None
    return {"row": name, "delay": delay, **found, "per_second": rate, "of_ideal": ideal}


@contextmanager
def _server(delay: float) -> Iterator[str]:
    command = [sys.executable, str(ROOT / "tests" / "support" / "servers.py"), "--delay", str(delay)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


@contextmanager
def timed() -> Iterator[dict[str, float]]:
    """Seconds, processor seconds and the high-water mark of resident memory; filled in at the end."""
    found: dict[str, float] = {}
    begin, cpu = time.perf_counter(), time.process_time()
    yield found
    found |= {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - cpu}
    # Bytes on a Mac, KiB elsewhere.
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found["memory_mib"] = most / (2**20 if sys.platform == "darwin" else 2**10)
