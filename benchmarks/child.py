"""What the benchmarks of losses and steps share: their options, and a row measured in a process of its own."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_MARK = "RESULT "


def options(description: str, *, repeats: int) -> argparse.ArgumentParser:
    """The options that all of them take."""
    parser = argparse.ArgumentParser(description=description.split("\n", 1)[0])
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--repeats", type=int, default=repeats, help=f"measured turns of each row (default {repeats})")
    parser.add_argument("--gpu", action="store_true", help="bfloat16 on a CUDA device")
    parser.add_argument("--json", help="also write the figures to this file")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    return parser


def measured(
    arguments: argparse.Namespace,
    row: str,
    *,
    more: Sequence[str] = (),
    environment: Mapping[str, str] | None = None,
) -> dict | str:
    """What this script prints of `row` when it is called with `--child`, or the reason why it printed nothing."""
    command = [sys.executable, sys.argv[0], "--child", row, *more]
    command += ["--threads", str(arguments.threads), "--repeats", str(arguments.repeats), *["--gpu"] * arguments.gpu]
    variables = os.environ | {"OMP_NUM_THREADS": str(arguments.threads)} | dict(environment or {})
    done = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    for line in done.stdout.splitlines():
        if line.startswith(_MARK):
            return json.loads(line.removeprefix(_MARK))
    return (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1]


def report(result: dict) -> None:
    """In the child: hand the figures to the parent."""
    print(_MARK + json.dumps(result))


def record(arguments: argparse.Namespace, results: Sequence[dict], **about: object) -> None:
    """Write the figures with the command that gave them, where a file was asked for; `about` is more to write."""
    if arguments.json:
        found = {"command": " ".join(sys.argv), "threads": arguments.threads, "rows": list(results), **about}
        Path(arguments.json).write_text(json.dumps(found, indent=2) + "\n")
