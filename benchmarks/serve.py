"""Servers of one causal model side by side: the same text at temperature 0, throughput and p95 at 1, 8, 32 clients.

    python benchmarks/serve.py MODEL [--servers bare ours transformers] [--keep docs/results/serve_benchmark.json]
    python benchmarks/serve.py MODEL --servers vllm gateway --vllm http://127.0.0.1:8811/v1 --vllm-model NAME --keep …

`bare` is `transformers` alone, without a server: what waits goes through `generate` in padded batches. `ours` is
`understudy serve` with the model in its process, `transformers` is `transformers serve`, `continuous` the same with
continuous batching, `vllm` a vLLM that runs already, `gateway` is `understudy serve` before that vLLM. All but `vllm`
are started here, compute in 32 bits and are ended again. They are measured by turns, so that a machine that becomes
slower is slower for all; each client asks again as soon as it has its answer. What was kept of other servers of the
same model and settings stays in the file, so that both commands fill one table.

First each is asked the same questions by OpenAI's own client, streamed and whole. Its text must be that of `generate`,
one question at a time; where it is not, the text is counted by how far apart the two best logits lie where it parts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import openai
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from understudy.data.load import load_splits
from understudy.files import write_json, write_jsonl
from understudy.pipeline.stages.context import as_row
from understudy.recipe import DataConfig, parse_recipe
from understudy.run import Run

Ask = Callable[[int], Awaitable[int]]
CLIENTS = (1, 8, 32)
TOLERANCE = 1e-3
"""Two logits that lie nearer may change places where sums are taken in another order."""
LABELS = {
    "bare": "`generate` of transformers, no server",
    "ours": "`understudy serve`, in process",
    "transformers": "`transformers serve`",
    "continuous": "`transformers serve --continuous-batching`",
    "vllm": "vLLM alone",
    "gateway": "`understudy serve` before that vLLM",
}
RATIOS = (
    ("ours", "bare", 0.9),
    ("ours", "transformers", None),
    ("ours", "continuous", None),
    ("gateway", "vllm", 0.95),
)
"""Which server is compared with which, and what was aimed at."""


# -- what is asked -----------------------------------------------------------------------------------------------------


@dataclass
class Bare:
    """The model in this process, asked without a server; what waits is the next batch.

    Attributes:
        model: in 32 bits.
        words: its tokenizer.
        batch: rows at once.
        longest: tokens of an answer.
    """

    model: Any
    words: Any
    batch: int
    longest: int
    waiting: list[tuple[list[int], asyncio.Future[int]]] = field(default_factory=list)
    busy: bool = False

    def ids(self, question: str) -> list[int]:
        """A question in the chat template."""
        turns = [{"role": "user", "content": question}]
        return self.words.apply_chat_template(turns, add_generation_prompt=True, return_dict=True)["input_ids"]

    @torch.no_grad()
    def generate(self, rows: Sequence[Sequence[int]], **more: Any) -> Any:
        """`transformers`' own, greedily."""
        width, pad = max(map(len, rows)), self.words.pad_token_id or self.words.eos_token_id
        ids = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
        mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        options = {"max_new_tokens": self.longest, "do_sample": False, "pad_token_id": pad} | more
        return self.model.generate(input_ids=ids, attention_mask=mask, **options)

    async def ask(self, row: list[int]) -> int:
        """Tokens of the answer, once it is there."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.waiting.append((row, future))
        if not self.busy:
            self.busy = True
            self.task = asyncio.create_task(self.work())
        return await future

    async def work(self) -> None:
        """Answer what waits, batch by batch."""
        # One turn of the loop, so that clients that ask in the same moment are in the same batch.
        await asyncio.sleep(0)
        while self.waiting:
            taken, self.waiting = self.waiting[: self.batch], self.waiting[self.batch :]
            out = await asyncio.to_thread(self.generate, [row for row, _ in taken])
            width = max(len(row) for row, _ in taken)
            for (_, future), row in zip(taken, out[:, width:].tolist(), strict=True):
                ends = [place for place, token in enumerate(row) if token == self.words.eos_token_id]
                future.set_result(min([*ends, len(row) - 1]) + 1)
            await asyncio.sleep(0)
        self.busy = False

    def reference(self, question: str) -> Reference:
        """What `generate` answers to one question alone, token by token."""
        row = self.ids(question)
        out = self.generate([row], return_dict_in_generate=True, output_logits=True)
        ids = out.sequences[0, len(row) :].tolist()
        best = [logits[0].float().topk(2).values.tolist() for logits in out.logits]
        text = self.words.decode(ids, skip_special_tokens=True)
        ends = [len(self.words.decode(ids[: n + 1], skip_special_tokens=True)) for n in range(len(ids))]
        return Reference(question, len(row), text, ends, [first - second for first, second in best])


@dataclass(frozen=True)
class Reference:
    """The text that all servers should give.

    Attributes:
        question: it answers.
        prompt_tokens: of the question in the chat template.
        text: of the answer.
        ends: characters of the text behind each token.
        margins: by which the best logit of each place lies above the second.
    """

    question: str
    prompt_tokens: int
    text: str
    ends: list[int]
    margins: list[float]

    def parting(self, text: str) -> float | None:
        """The margin where another text parts from this one; None where it does not."""
        # What stands before the first word is left out by some servers and kept by others.
        shift = len(self.text) - len(self.text.lstrip())
        ours, theirs = _plain(self.text), _plain(text)
        if ours == theirs:
            return None
        place = next(
            (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
        )
        token = next((n for n, end in enumerate(self.ends) if end > place + shift), len(self.ends) - 1)
        return self.margins[token]


def _plain(text: str) -> str:
    """Without the blanks around it, and without half of a character where an answer was cut."""
    return text.strip().rstrip("\N{REPLACEMENT CHARACTER}").rstrip()


@dataclass(frozen=True)
class Server:
    """A server that can be asked.

    Attributes:
        name: see `LABELS`.
        url: with `/v1`; empty of `bare`.
        model: its name there.
    """

    name: str
    url: str
    model: str

    def same_text(self, references: Sequence[Reference], longest: int) -> dict[str, Any]:
        """By OpenAI's client, how many texts are those of `generate`, and how many are the same whole and streamed.

        Raises:
            SystemExit: it read another prompt.
        """
        margins, streams = [], 0
        with openai.OpenAI(base_url=self.url, api_key="none", max_retries=0, timeout=600) as client:
            for reference in references:
                asked: Any = {
                    "model": self.model,
                    "messages": [{"role": "user", "content": reference.question}],
                    "max_tokens": longest,
                    "temperature": 0,
                }
                answer = client.chat.completions.create(**asked)
                text = answer.choices[0].message.content or ""
                if answer.usage is None or answer.usage.prompt_tokens != reference.prompt_tokens:
                    raise SystemExit(f"{self.name} read {answer.usage}, not {reference.prompt_tokens} tokens")
                chunks = client.chat.completions.create(**asked, stream=True)
                streamed = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
                streams += _plain(streamed) == _plain(text)
                margins.append(reference.parting(text))
        parted = [margin for margin in margins if margin is not None]
        near = sum(margin <= TOLERANCE for margin in parted)
        row = {"server": self.name, "answers": len(margins), "equal": len(margins) - len(parted), "near": near}
        row["streams"] = streams
        return row | {"apart": len(parted) - near} | ({"margin": max(parted)} if parted else {})


def over_http(client: aiohttp.ClientSession, server: Server, questions: Sequence[str], longest: int) -> Ask:
    """A chat server, asked by a client that costs little: it shares the machine with what is measured."""

    async def ask(number: int) -> int:
        question = {"role": "user", "content": questions[number % len(questions)]}
        body = {"model": server.model, "messages": [question], "max_tokens": longest, "temperature": 0}
        async with client.post(f"{server.url}/chat/completions", json=body) as answer:
            content = await answer.json()
            if answer.status != 200:
                raise SystemExit(f"{server.name} answered {answer.status}: {content}")
        return content["usage"]["completion_tokens"]

    return ask


# -- measuring ---------------------------------------------------------------------------------------------------------


@dataclass
class Cell:
    """What one server did for so many clients.

    Attributes:
        spans: seconds of each request.
        tokens: written.
        seconds: of the clock.
    """

    spans: list[float] = field(default_factory=list)
    tokens: int = 0
    seconds: float = 0.0

    def figures(self) -> dict[str, float]:
        """Requests and tokens a second, and percentiles of a request."""
        ordered = sorted(self.spans)
        place = lambda share: 1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))]  # noqa: E731
        return {
            "requests": len(ordered),
            "requests_per_second": len(ordered) / self.seconds,
            "tokens_per_second": self.tokens / self.seconds,
            "p50_ms": place(0.50),
            "p95_ms": place(0.95),
        }


async def measure(cell: Cell, ask: Ask, clients: int, seconds: float) -> None:
    """Ask without a pause for so many seconds; requests under way at the end are waited for and counted."""
    await asyncio.gather(*(ask(number) for number in range(min(clients, 4))))
    begin, numbers = time.perf_counter(), iter(range(10**9))

    async def client() -> None:
        while time.perf_counter() - begin < seconds:
            start = time.perf_counter()
            written = await ask(next(numbers))
            cell.tokens += written  # Not in one line: what is added to would be read before the answer is there.
            cell.spans.append(time.perf_counter() - start)

    await asyncio.gather(*(client() for _ in range(clients)))
    cell.seconds += time.perf_counter() - begin


async def measured(
    servers: Sequence[Server], bare: Bare, questions: Sequence[str], options: argparse.Namespace
) -> list[dict[str, Any]]:
    """Each server at each number of clients, by turns."""
    cells = {(server.name, clients): Cell() for server in servers for clients in options.clients}
    prompts = [bare.ids(question) for question in questions]
    limits = aiohttp.ClientTimeout(total=600)
    for turn in range(options.turns):
        for clients in options.clients:
            for server in servers if turn % 2 == 0 else reversed(servers):
                async with aiohttp.ClientSession(timeout=limits, connector=aiohttp.TCPConnector(limit=0)) as client:
                    ask = over_http(client, server, questions, options.max_tokens)
                    if server.name == "bare":
                        ask = lambda number: bare.ask(prompts[number % len(prompts)])  # noqa: E731
                    cell = cells[server.name, clients]
                    await measure(cell, ask, clients, options.seconds / options.turns)
                found = cell.figures()
                print(
                    f"turn {turn + 1} {server.name:12} {clients:3} clients {found['requests_per_second']:7.2f} req/s "
                    f"{found['tokens_per_second']:8.1f} tok/s p95 {found['p95_ms']:9.1f} ms",
                    flush=True,
                )
    return [{"server": name, "clients": n, **cell.figures()} for (name, n), cell in cells.items()]


# -- servers -----------------------------------------------------------------------------------------------------------


def run_of(model: Path, folder: Path, questions: Sequence[str], options: argparse.Namespace) -> Run:
    """A run folder whose student is the model as it is."""
    recipe = parse_recipe(
        {
            "name": "benchmark",
            "data": {"source": "embedded:telecom", "max_length": 256, "max_answer_tokens": options.max_tokens},
            "teacher": None,
            "student": {"model": str(model), "dtype": "float32"},
            "evaluate": {"arms": ["sft"]},
            "output": str(folder / "runs"),
            "device": "cpu",
        }
    )
    run = Run.of(recipe)
    run.folder.mkdir(parents=True)
    run.prepare(recipe)
    stage = run.stage("train-sft")
    stage.mkdir(parents=True)
    (stage / "model").symlink_to(model.resolve())
    write_json(stage / "done.json", {"name": "train-sft", "seconds": 0, "notes": {}, "version": version_of()})
    write_jsonl(run.folder / "data" / "test.jsonl", map(as_row, load_splits(data_of(options)).test[:1]))
    return run


def data_of(options: argparse.Namespace) -> DataConfig:
    return DataConfig(source="embedded:telecom", max_length=256, max_answer_tokens=options.max_tokens)


def version_of() -> str:
    return version("understudy-distil")


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@contextlib.contextmanager
def started(command: Sequence[str], url: str, seconds: float = 300) -> Iterator[None]:
    """A server in a process of its own, from when it answers until the block ends."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"}
    log = tempfile.TemporaryFile("w+")  # noqa: SIM115
    process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, text=True, env=environment)
    try:
        end = time.monotonic() + seconds
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > end:
                log.seek(0)
                raise SystemExit(f"{' '.join(command[:4])} … did not start:\n{log.read()[-2000:]}")
            time.sleep(0.5)
        yield
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill()
        log.close()


def _answers(url: str) -> bool:
    """Whether a server is there, whatever it says; the models are loaded before any of them listens."""
    try:
        urllib.request.urlopen(f"{url.removesuffix('/v1')}/health", timeout=5).close()
    except urllib.error.HTTPError as answer:
        answer.close()
    except OSError:
        return False
    return True


@contextlib.contextmanager
def opened(model: Path, run: Run, options: argparse.Namespace) -> Iterator[list[Server]]:
    """All servers that are wanted."""
    with contextlib.ExitStack() as stack:
        servers = []
        for name in options.servers:
            port = free_port()
            url, asked = f"http://127.0.0.1:{port}/v1", "student"
            if name == "bare":
                url = ""
            elif name == "vllm":
                url, asked = options.vllm, options.vllm_model
            elif name in ("ours", "gateway"):
                command = [sys.executable, "-m", "understudy", "serve", str(run.folder), "--port", str(port)]
                command += ["--queue", "1024", "--batch", str(options.batch), "--timeout", "600"]
                if name == "gateway":
                    command += ["--upstream", options.vllm, "--upstream-model", options.vllm_model]
                stack.enter_context(started(command, url))
            else:
                asked = str(model.resolve())
                command = [sys.executable, "-m", "transformers.cli.transformers", "serve", asked, "--port", str(port)]
                command += ["--host", "127.0.0.1", "--device", "cpu", "--dtype", "float32"]
                if name == "continuous":
                    blocks = ["--cb-num-blocks", "256", "--cb-max-batch-tokens", "1024"]
                    command += ["--continuous-batching", *blocks]
                stack.enter_context(started(command, url))
            servers.append(Server(name, url, asked))
        yield servers


# -- what is kept ------------------------------------------------------------------------------------------------------


def tables(speeds: Sequence[Mapping[str, Any]], texts: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The figures as the tables of docs/results.md: `servers`, `ratios` and `texts`."""
    order = list(LABELS)
    found = {(row["server"], row["clients"]): row for row in speeds}
    counts = sorted({clients for _, clients in found})
    named = [name for name in order if any((name, n) in found for n in counts)]
    columns: list[dict[str, Any]] = [{"title": "", "cell": ["{server}"]}]
    ratio_columns = [{"title": "requests a second", "cell": ["{pair}"]}]
    for n in counts:
        at = f"{n} client{'s' if n > 1 else ''}"
        columns += [
            {"title": f"{at}: requests a second", "cell": [f"{{r{n}:.2f}}", ""]},
            {"title": "tokens a second", "cell": [f"{{t{n}:.0f}}", ""]},
            {"title": "p95", "cell": [f"{{p{n}:,.0f}} ms", ""]},
        ]
        ratio_columns.append({"title": at, "cell": [f"{{q{n}:.2f}}", ""]})
    rows = []
    for name in named:
        row: dict[str, Any] = {"server": LABELS[name]}
        for n in counts:
            if cell := found.get((name, n)):
                per_second = {f"r{n}": cell["requests_per_second"], f"t{n}": cell["tokens_per_second"]}
                row |= per_second | {f"p{n}": cell["p95_ms"]}
        rows.append(row)
    ratios = []
    for name, other, aim in RATIOS:
        pairs = [(n, found.get((name, n)), found.get((other, n))) for n in counts]
        quotients = {f"q{n}": a["requests_per_second"] / b["requests_per_second"] for n, a, b in pairs if a and b}
        if quotients:
            row = {"pair": f"{LABELS[name]} ÷ {LABELS[other]}"} | ({"aim": aim} if aim else {})
            ratios.append(row | quotients)
    ratio_columns.append({"title": "aim", "cell": ["{aim:.2f}", "–"]})
    text_columns = [
        {"title": "", "cell": ["{label}"]},
        {"title": "answers", "cell": ["{answers:,}"]},
        {"title": "the text of `generate`", "cell": ["{equal:,}"]},
        {"title": f"part where two logits lie within {TOLERANCE:g}", "cell": ["{near:,}"]},
        {"title": "part elsewhere", "cell": ["{apart:,}"]},
        {"title": "widest margin of both", "cell": ["{margin:.2g}", "–"]},
        {"title": "the same streamed", "cell": ["{streams:,}"]},
    ]
    labelled = [
        {"label": LABELS[row["server"]], **{name: value for name, value in row.items() if name != "server"}}
        for row in sorted(texts, key=lambda r: order.index(r["server"]))
    ]
    return {
        "servers": {"columns": columns, "rows": rows},
        "ratios": {"columns": ratio_columns, "rows": ratios},
        "texts": {"columns": text_columns, "rows": labelled},
    }


def keep(
    path: Path, about: Mapping[str, Any], speeds: Sequence[Mapping[str, Any]], texts: Sequence[Mapping[str, Any]]
) -> None:
    """Write the figures; those of other servers that were kept under the same settings stay."""
    old = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    new = {row["server"] for row in speeds}
    if old and old.get("settings") == about["settings"]:
        speeds = [*(row for row in old["speeds"] if row["server"] not in new), *speeds]
        texts = [*(row for row in old["texts"] if row["server"] not in new), *texts]
    made_by = (
        "python benchmarks/serve.py MODEL --keep FILE, and with --servers vllm gateway --vllm URL --vllm-model NAME"
    )
    record = {"made_by": made_by, **about, "speeds": list(speeds), "texts": list(texts)}
    write_json(path, record | {"tables": tables(speeds, texts)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, help="folder of a causal model with a chat template")
    parser.add_argument("--servers", nargs="+", choices=LABELS, default=["bare", "ours", "transformers"])
    parser.add_argument("--vllm", metavar="URL", help="of a vLLM that serves this model, with /v1")
    parser.add_argument("--vllm-model", metavar="NAME", help="its name there")
    parser.add_argument("--seconds", type=float, default=60, help="of each server at each number of clients")
    parser.add_argument(
        "--turns", type=int, default=2, help="so often each is measured, a part of the seconds each time"
    )
    parser.add_argument("--clients", type=int, nargs="+", default=list(CLIENTS))
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--batch", type=int, default=16, help="of bare and ours")
    parser.add_argument("--texts", type=int, default=20, help="questions whose answers are compared")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="write the figures and their tables as JSON")
    options = parser.parse_args()
    # By the way of an exception, so that the servers that were started are ended too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if {"vllm", "gateway"} & set(options.servers) and not (options.vllm and options.vllm_model):
        parser.error("vllm and gateway need --vllm and --vllm-model")
    rows = [row for row in load_splits(data_of(options)).test if not row.context and not row.choices]
    questions = list(dict.fromkeys(row.question for row in rows))[:64]
    words = AutoTokenizer.from_pretrained(options.model)
    model = AutoModelForCausalLM.from_pretrained(options.model, dtype=torch.float32).eval()
    bare = Bare(model, words, options.batch, options.max_tokens)
    references = [bare.reference(question) for question in questions[: options.texts]]
    with tempfile.TemporaryDirectory() as place:
        run = run_of(options.model, Path(place), questions, options)
        with opened(options.model, run, options) as servers:
            texts = []
            for server in servers:
                if server.url:
                    texts.append(server.same_text(references, options.max_tokens))
                    print(json.dumps(texts[-1]), flush=True)
            speeds = asyncio.run(measured(servers, bare, questions, options))
    settings = {
        "model": options.model.resolve().name,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        **{name: getattr(options, name) for name in ("seconds", "turns", "clients", "max_tokens", "batch")},
        "texts": options.texts,
    }
    packages = {name: version(name) for name in ("torch", "transformers", "openai", "aiohttp")}
    machine = {"cores": os.cpu_count(), "threads": torch.get_num_threads(), "system": platform.system()}
    about = {"date": time.strftime("%Y-%m-%d"), "settings": settings, "machine": machine, "packages": packages}
    for row in tables(speeds, texts)["ratios"]["rows"]:
        print(json.dumps(row, ensure_ascii=False))
    if options.keep:
        keep(options.keep, about, speeds, texts)


if __name__ == "__main__":
    main()
