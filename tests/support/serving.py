"""Runs of tiny models that were never trained, as folders that can be served, and servers of them on real ports."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
import uvicorn

from support import tiny, tiny_embed, tiny_encoders, tiny_seq2seq, tiny_span
from understudy.evaluation.predict import predict
from understudy.files import write_json, write_jsonl
from understudy.models.generate import answer_examples
from understudy.models.load import load_example_tokenizer, load_model
from understudy.pipeline.stages.context import as_row
from understudy.pipeline.stages.evaluation import arm_model
from understudy.recipe import Recipe, parse_recipe
from understudy.run import Run
from understudy.serve.exchange import Exchange, Thumb
from understudy.serve.gateway import Gateway
from understudy.serve.opening import Plan, open_gateway
from understudy.serve.server import GatewayServer, Impatient
from understudy.serve.web.app import serve_app
from understudy.types import Example
from understudy.web.listening import hosts_of, listen, settings


def causal_run(folder: Path, *, seed: int = 3, **fields: Any) -> Run:
    """Student, teacher and undistilled student are three Llamas of random weights and one tokenizer."""
    tokens = tiny.tokenizer()
    seeds = {"teacher": 1, "start": 2, "student": seed}
    models = {name: tiny.llama(len(tokens), width=24, seed=seed) for name, seed in seeds.items()}
    return _run(folder, models, tokens, tiny.examples(), {"max_length": 128, "max_answer_tokens": 16}, fields)


def seq2seq_run(folder: Path) -> Run:
    """The same of encoder–decoders."""
    tokens = tiny_seq2seq.tokenizer("t5")
    names = ("teacher", "start", "student")
    models = {name: tiny_seq2seq.model("t5", len(tokens), seed=seed) for seed, name in enumerate(names)}
    return _run(folder, models, tokens, tiny.examples(), {"max_length": 128, "max_answer_tokens": 16}, {})


def span_run(folder: Path) -> Run:
    """The same of encoders that point at spans."""
    tokens = tiny_span.shared_tokenizer()
    names = ("teacher", "start", "student")
    models = {name: tiny_span.bert(len(tokens), seed=seed) for seed, name in enumerate(names)}
    return _run(folder, models, tokens, tiny_span.examples(), {"max_length": 48, "max_answer_tokens": 8}, {})


def encoder_run(folder: Path, kind: str) -> Run:
    """The same of encoders that compare options, classify texts or tag words."""
    tokens, data = tiny_encoders.shared_tokenizer(), tiny_encoders.DATA[kind]
    names = ("teacher", "start", "student")
    models = {name: tiny_encoders.bert(kind, seed=seed) for seed, name in enumerate(names)}
    rows = tiny_encoders.ROWS[kind]()
    if kind == "classify":
        for model in models.values():
            _tell_apart(model, tiny_encoders.reader(kind), rows)
    lengths = {"max_length": data.max_length, "max_answer_tokens": data.max_answer_tokens, "labels": list(data.labels)}
    return _run(folder, models, tokens, rows, lengths, {})


def embed_run(folder: Path, corpus: Path | None = None) -> Run:
    """The same of encoders that make vectors of queries and passages."""
    names = ("teacher", "start", "student")
    models = {name: tiny_embed.bert(seed=seed) for seed, name in enumerate(names)}
    data: dict[str, Any] = {"max_length": 24, "max_answer_tokens": 8, "corpus": str(corpus) if corpus else None}
    return _run(folder, models, tiny_embed.shared_tokenizer(), tiny_embed.rows(), data, {})


@torch.no_grad()
def _tell_apart(model: Any, tokenizer: Any, rows: Sequence[Example]) -> None:
    """Random weights give every text the same label: what they say of all texts is taken off, the rest made large."""
    answers = answer_examples(model, tokenizer, rows, batch_size=len(rows))
    means = torch.tensor([[logp for _, logp in answer.options] for answer in answers]).mean(0)
    model.classifier.bias -= means
    model.classifier.weight *= 20
    model.classifier.bias *= 20


def choices_run(folder: Path, *, kind: str | None = None) -> Run:
    """Causal models, and questions with two to four options; of the kind `scorer` they choose, else they write."""
    tokens = tiny.tokenizer()
    names = ("teacher", "start", "student")
    models = {name: tiny.llama(len(tokens), width=24, seed=seed) for seed, name in enumerate(names)}
    sections = (("teacher", "teacher"), ("student", "start"))
    fields = {section: {"model": str(folder / name), "kind": kind} for section, name in sections} if kind else {}
    lengths = {"max_length": 192, "max_answer_tokens": 16}
    return _run(folder, models, tokens, tiny_encoders.choices(), lengths, fields)


def _run(
    folder: Path, models: dict[str, Any], tokens: Any, rows: Sequence[Example], data: dict[str, Any], fields: Any
) -> Run:
    """A run folder as the pipeline leaves it, with weights that somebody else made and answers of its own."""
    for name in ("teacher", "start"):
        models[name].save_pretrained(folder / name)
        tokens.save_pretrained(folder / name)
    source = folder / "qa.jsonl"
    keys = ("id", "question", "answers", "context", "choices")
    write_jsonl(source, [{k: v for k, v in as_row(row).items() if k in keys} for row in rows])
    value: dict[str, Any] = {
        "name": "served",
        "data": {"source": str(source), **data},
        "teacher": {"model": str(folder / "teacher")},
        "student": {"model": str(folder / "start")},
        "evaluate": {"arms": ["distilled"], "batch_size": 8},
        "output": str(folder / "runs"),
        "device": "cpu",
    }
    recipe = parse_recipe(value | fields)
    run = Run.of(recipe)
    run.folder.mkdir(parents=True)
    run.prepare(recipe)
    weights = run.stage("train-distilled") / "model"
    models["student"].save_pretrained(weights)
    tokens.save_pretrained(weights)
    write_json(weights.parent / "done.json", {"name": "train-distilled", "seconds": 0, "notes": {}, "version": "x"})
    write_jsonl(run.folder / "data" / "test.jsonl", map(as_row, rows))
    _answer(run, recipe, rows)
    return run


def _answer(run: Run, recipe: Recipe, rows: Sequence[Example]) -> None:
    """What the stages that evaluate write: by the same functions, of the same weights."""
    for arm in ("distilled", "teacher", "base_student"):
        config, weights = arm_model(run, recipe, arm)
        model = load_model(config, torch.device("cpu"), weights=weights)
        tokenizer = load_example_tokenizer(config, recipe.data, weights=weights)
        answers = predict(model, tokenizer, rows, batch_size=8)
        write_jsonl(run.predictions_path(arm), [answer.to_json() for answer in answers])


class Notebook:
    """An observer that writes everything down."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []
        self.thumbs: list[Thumb] = []

    def finished(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)

    def thumbed(self, thumb: Thumb) -> None:
        self.thumbs.append(thumb)


class Served:
    """A gateway on a real port, in a thread of this process.

    Attributes:
        url: without `/v1`.
        port: of it.
        gateway: for looking inside.
        listener: where it listens.
        notebook: what observers were told.
    """

    def __init__(self, gateway: Gateway, notebook: Notebook, listener: socket.socket, server: uvicorn.Server) -> None:
        self.gateway, self.notebook, self.server, self.listener = gateway, notebook, server, listener
        self.port = listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"


@contextmanager
def serving(run: Run, plan: Plan | None = None, *, origins: Sequence[str] = ()) -> Iterator[Served]:
    """Serve a run."""
    notebook = Notebook()
    gateway = open_gateway(run, plan or Plan(), [notebook])
    app = serve_app(gateway, hosts=hosts_of("127.0.0.1", ""), origins=origins)
    listener = listen("127.0.0.1", 0)
    server = GatewayServer(settings(app, http=Impatient, timeout_graceful_shutdown=20), gateway)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Served(gateway, notebook, listener, server)
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


@contextmanager
def serve_for_a_test(gateway: Gateway) -> Iterator[str]:
    """Serve a gateway that somebody else has opened; gives its address without `/v1`."""
    listener = listen("127.0.0.1", 0)
    app = serve_app(gateway, hosts=hosts_of("127.0.0.1", ""))
    server = GatewayServer(settings(app, http=Impatient, timeout_graceful_shutdown=20), gateway)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        listener.close()
