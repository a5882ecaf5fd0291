"""Throughput and p95 of a served student at 1, 8 and 32 clients: the bare engine, and the gateway before it.

    python benchmarks/serve.py RUN [--json FILE]
    python benchmarks/serve.py RUN --upstream http://127.0.0.1:8811/v1 --upstream-model NAME

Without --upstream, *bare* is the engine of this process without a server, so `gateway / bare` has all that HTTP costs,
the client too. With --url URL --model M a further server with the same weights (`transformers serve`) is measured
beside, as it is asked: `gateway / other` compares like with like. With --upstream, *bare* is the server alone, asked
with the same token ids by the gateway's own client. Prompts are those of the run's predictions; each client asks again
as soon as it has its answer.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from understudy.run import Run
from understudy.serve.answers import Manner, work_of, written
from understudy.serve.sides import STUDENT, Opening, Upstream, arm_of, open_side
from understudy.types import Example

Ask = Callable[[int], Awaitable[int]]
CLIENTS = (1, 8, 32)


async def measured(ask: Ask, clients: int, seconds: float) -> dict[str, float]:
    """Requests and tokens a second, and the 50th and 95th percentile of a request in milliseconds."""
    await asyncio.gather(*(ask(number) for number in range(min(clients, 4))))
    begin, spans, tokens, numbers = time.perf_counter(), [], 0, iter(range(10**9))

    async def client() -> None:
        nonlocal tokens
        while time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            written_tokens = await ask(next(numbers))
            tokens += written_tokens  # Not in one line: what is added to would be read before the answer is there.
            spans.append(time.perf_counter() - start)

    await asyncio.gather(*(client() for _ in range(clients)))
    took, ordered = time.perf_counter() - begin, sorted(spans)
    place = lambda share: 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]  # noqa: E731
    return {
        "clients": clients,
        "requests_per_second": len(spans) / took,
        "tokens_per_second": tokens / took,
        "p50_ms": place(0.50),
        "p95_ms": place(0.95),
    }


def questions(run: Run, longest: int) -> list[Example]:
    """Those of the run, without what only a text to read would answer."""
    rows = run.predictions(arm_of(run, STUDENT))
    return [Example(row.id, row.question or "") for row in rows if not row.context and not row.choices][:longest]


def bare(side: Any, rows: list[Example], max_tokens: int) -> Ask:
    """The engine without a gateway."""
    works = [work_of(side, row, Manner(max_tokens=max_tokens)) for row in rows]

    async def ask(number: int) -> int:
        _, _, last = await written(side, works[number % len(works)])
        return last.completion_tokens

    return ask


def over_http(client: aiohttp.ClientSession, url: str, model: str, rows: list[Example], max_tokens: int) -> Ask:
    """A chat server, asked by a client that costs little: it shares the machine with what is measured."""

    async def ask(number: int) -> int:
        question = {"role": "user", "content": rows[number % len(rows)].question}
        body = {"model": model, "messages": [question], "max_tokens": max_tokens, "temperature": 0}
        async with client.post(f"{url}/chat/completions", json=body) as answer:
            content = await answer.json()
            if answer.status != 200:
                raise SystemExit(f"{url} answered {answer.status}: {content}")
        return content["usage"]["completion_tokens"]

    return ask


def started(arguments: list[str]) -> tuple[subprocess.Popen[str], str]:
    """The gateway in a process of its own, and its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "understudy", "serve", *arguments, "--port", str(port), "--queue", "1024"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    while line := process.stdout.readline():
        if line.startswith("serving "):
            return process, f"http://127.0.0.1:{port}/v1"
    raise SystemExit("the gateway did not start")


async def run_all(options: argparse.Namespace) -> dict[str, Any]:
    run = Run.open(options.run)
    rows = questions(run, 200)
    upstream = Upstream(options.upstream, options.upstream_model, "") if options.upstream else None
    opening = Opening(batch=options.batch, upstream={STUDENT: upstream} if upstream else {})
    results: dict[str, Any] = {"machine": platform.platform(), "seconds": options.seconds, "rows": []}

    async def all_clients(name: str, ask: Ask) -> None:
        for clients in options.clients:
            row = {"what": name, **await measured(ask, clients, options.seconds)}
            results["rows"].append(row)
            figures = f"{row['requests_per_second']:8.1f} req/s {row['tokens_per_second']:9.1f} tok/s"
            print(f"{name:10} {clients:3} clients {figures} p95 {row['p95_ms']:8.1f} ms", flush=True)

    side = open_side(run, STUDENT, opening)
    await all_clients("bare", bare(side, rows, options.max_tokens))
    await side.close()
    arguments = [str(options.run), "--batch", str(options.batch)]
    arguments += ["--upstream", options.upstream, "--upstream-model", options.upstream_model] if upstream else []
    process, address = started(arguments)
    try:
        async with _client() as client:
            await all_clients("gateway", over_http(client, address, STUDENT, rows, options.max_tokens))
    finally:
        process.terminate()
        process.wait()
    if options.url:
        async with _client() as client:
            await all_clients("other", over_http(client, options.url, options.model, rows, options.max_tokens))
    speed = {(row["what"], row["clients"]): row["requests_per_second"] for row in results["rows"]}
    results["gateway_over_bare"] = {n: speed["gateway", n] / speed["bare", n] for n in options.clients}
    print("gateway / bare:", {n: round(value, 3) for n, value in results["gateway_over_bare"].items()})
    if options.url:
        results["gateway_over_other"] = {n: speed["gateway", n] / speed["other", n] for n in options.clients}
        print("gateway / other:", {n: round(value, 3) for n, value in results["gateway_over_other"].items()})
    return results


def _client() -> aiohttp.ClientSession:
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120), connector=aiohttp.TCPConnector(limit=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--seconds", type=float, default=20, help="for each number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--upstream")
    parser.add_argument("--upstream-model")
    parser.add_argument("--url", help="a further server with the same weights")
    parser.add_argument("--model", help="its name there")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    results = asyncio.run(run_all(options))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
