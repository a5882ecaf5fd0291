"""A real HTTP server around a real small model: it scores prompts as vLLM, SGLang or llama-cpp-python do, and may lie.

The model stands in this process; the protocol, the sockets and the numbers are real. A fault is one way in which
servers of the wild were seen to be wrong.
"""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

DIALECTS = ("vllm", "sglang", "echo", "none")
"""How prompts are scored; `none` writes text and gives log-probabilities of it, as `llama-server` does."""


class TeacherServer:
    """The server in threads: `with TeacherServer(model, template) as server: … server.base_url … server.asked`.

    Args:
        model: what it serves, in float32.
        template: the tokenizer that it decodes, and renders conversations, with.
        dialect: one of `DIALECTS`.
        temperature: at which its log-probabilities stand.
        processed: divide them by the temperature of the request.
        most: the most tokens that it gives at a place; more are refused.
        fewer: give so many, whatever was asked for.
        replicas: further models that answer in turn.
        noise: standard deviation of what is added to every logit, anew each time.
        extra: token put before every prompt.
        crash: a k at which it answers 500.
        ids: whether completions take token ids.
        key: the key that it wants; empty: none.
    """

    def __init__(
        self,
        model: Any,
        template: Any,
        *,
        dialect: str = "vllm",
        temperature: float = 1.0,
        processed: bool = False,
        most: int = 10_000,
        fewer: int | None = None,
        replicas: Sequence[Any] = (),
        noise: float = 0.0,
        extra: int | None = None,
        crash: int | None = None,
        ids: bool = True,
        key: str = "",
    ) -> None:
        self.models, self.template, self.dialect = [model, *replicas], template, dialect
        self.temperature, self.processed, self.most, self.fewer = temperature, processed, most, fewer
        self.noise, self.extra, self.crash, self.ids, self.key = noise, extra, crash, ids, key
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self._turn = itertools.cycle(self.models)
        self._lock = threading.Lock()
        self._generator = torch.Generator().manual_seed(0)

    def __enter__(self) -> TeacherServer:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self.base_url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(10)

    @property
    def scored(self) -> int:
        """How many prompts it was asked to score."""
        names = ("prompt_logprobs", "return_logprob", "echo")
        return sum(any(body.get(name) for name in names) for _, body in self.asked)

    def answer(self, path: str, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        """Status and body of an answer; one at a time, as the model computes them."""
        with self._lock:
            self.asked.append((path, body))
            self._model = next(self._turn)
            if path == "/v1/chat/completions":
                turns = [{"role": turn["role"], "content": turn["content"]} for turn in body["messages"]]
                return self._written(self.template.prompt_ids(turns), body, chat=True)
            if path == "/v1/completions":
                return self._completions(body)
            if path == "/generate" and self.dialect == "sglang":
                return self._generate(body)
            return 404, {"error": {"message": f"no {path} here", "code": 404}}

    def _completions(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        prompt = body["prompt"]
        if isinstance(prompt, list) and not self.ids:
            return 422, {"error": {"message": "prompt: a string is wanted", "code": 422}}
        # Special tokens in a text are those tokens, as with every server that takes rendered prompts.
        encode = self.template.tokenizer
        ids = prompt if isinstance(prompt, list) else encode(prompt, add_special_tokens=False)["input_ids"]
        if isinstance(prompt, str) and self.dialect == "echo" and self.template.tokenizer.bos_token_id is not None:
            ids = [self.template.tokenizer.bos_token_id, *ids]
        k = body.get("prompt_logprobs")
        if k is not None and self.dialect == "vllm":
            return self._vllm(ids, int(k), body)
        if body.get("echo") and self.dialect == "echo":
            return self._echo(ids, int(body["logprobs"]), body)
        return self._written(ids, body)

    def _logp(self, ids: Sequence[int], body: Mapping[str, Any]) -> torch.Tensor:
        """`[S, V]`: of the token behind each."""
        with torch.no_grad():
            logits = self._model(torch.tensor([list(ids)])).logits[0].float()
        if self.noise:
            logits = logits + self.noise * torch.randn(logits.shape, generator=self._generator)
        own = float(body.get("temperature", 1.0)) or 1.0
        return (logits / self.temperature / (own if self.processed else 1.0)).log_softmax(-1)

    def _refused(self, k: int) -> tuple[int, Mapping[str, Any]] | None:
        if k == self.crash:
            return 500, {"error": {"message": "CUDA error: an illegal memory access", "code": 500}}
        if k > self.most:
            message = f"Requested {k} logprobs, which is greater than max allowed: {self.most}"
            return 400, {"error": {"message": message, "type": "BadRequestError", "code": 400}}
        return None

    def _read(self, ids: Sequence[int]) -> list[int]:
        return list(ids) if self.extra is None else [self.extra, *ids]

    def _vllm(self, ids: Sequence[int], k: int, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        if refused := self._refused(k):
            return refused
        ids = self._read(ids)
        logp, stated = self._logp(ids, body), [None]
        for place in range(1, len(ids)):
            row = logp[place - 1]
            top = row.topk(min(self.fewer or k, len(row)))
            tokens = dict.fromkeys([ids[place], *top.indices.tolist()])
            stated.append(
                {  # pyright: ignore[reportArgumentType]
                    str(token): {
                        "logprob": float(row[token]),
                        "rank": int((row > row[token]).sum()) + 1,
                        "decoded_token": self.template.tokenizer.decode([token]),
                    }
                    for token in tokens
                }
            )
        status, answer = self._written(ids, {**body, "max_tokens": 1})
        answer["choices"][0]["prompt_logprobs"] = stated
        return status, answer

    def _generate(self, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        k = int(body["top_logprobs_num"])
        if refused := self._refused(k):
            return refused
        ids, start = self._read(body["input_ids"]), int(body["logprob_start_len"])
        logp = self._logp(ids, body["sampling_params"])
        own: list[Any] = [[None, ids[start], None]]
        top: list[Any] = [None]
        for place in range(start + 1, len(ids)):
            best = logp[place - 1].topk(min(k, logp.shape[1]))
            own.append([float(logp[place - 1][ids[place]]), ids[place], None])
            top.append([[value, token, None] for value, token in zip(*map(torch.Tensor.tolist, best), strict=True)])
        facts = {
            "prompt_tokens": len(ids),
            "completion_tokens": 1,
            "input_token_logprobs": own,
            "input_top_logprobs": top,
        }
        return 200, {"text": "x", "meta_info": facts}

    def _echo(self, ids: Sequence[int], k: int, body: Mapping[str, Any]) -> tuple[int, Mapping[str, Any]]:
        if refused := self._refused(k):
            return refused
        ids, decode = self._read(ids), self.template.tokenizer.decode
        logp = self._logp(ids, body)
        own: list[Any] = [None]
        top: list[Any] = [None]
        for place in range(1, len(ids)):
            best = logp[place - 1].topk(min(k, logp.shape[1]))
            own.append(float(logp[place - 1][ids[place]]))
            pairs = zip(*map(torch.Tensor.tolist, best), strict=True)
            top.append({decode([token]): value for value, token in pairs})
        facts = {"tokens": [decode([token]) for token in ids], "token_logprobs": own, "top_logprobs": top}
        status, answer = self._written(ids, {**body, "max_tokens": 1})
        answer["choices"][0]["logprobs"] = facts
        return status, answer

    def _written(self, ids: Sequence[int], body: Mapping[str, Any], *, chat: bool = False) -> tuple[int, Any]:
        """What the model goes on with, greedy or drawn; several draws of one token each come in one answer."""
        ids, drawn = self._read(ids) if chat else list(ids), float(body.get("temperature", 0.0))
        ends, longest = {self.template.end_id, *body.get("stop_token_ids", ())}, int(body.get("max_tokens", 16))
        number = int(body.get("n", 1))
        assert number == 1 or (longest == 1 and drawn)
        rows: list[list[int]] = [[] for _ in range(number)]
        told = []
        while len(rows[0]) < longest and not ends & {*rows[0]}:
            logp = self._logp([*ids, *rows[0]], {})[-1] * self.temperature
            best = logp.argmax()[None]
            if drawn:
                best = torch.multinomial((logp / drawn).softmax(-1), number, True, generator=self._generator)
            for row, token in zip(rows, best.tolist(), strict=True):
                row.append(token)
            told.append(float(logp.log_softmax(-1)[rows[0][-1]]))
        choices = [self._choice(place, row, ends, chat) for place, row in enumerate(rows)]
        if body.get("logprobs") and not body.get("echo"):
            choices[0]["logprobs"] = {"tokens": [""], "token_logprobs": told}
        usage = {"prompt_tokens": len(ids), "completion_tokens": sum(map(len, rows))}
        return 200, {"model": body.get("model"), "choices": choices, "usage": usage}

    def _choice(self, place: int, tokens: Sequence[int], ends: set[int], chat: bool) -> dict[str, Any]:
        text = self.template.tokenizer.decode(tokens, skip_special_tokens=True)
        written = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        return {"index": place, "finish_reason": "stop" if ends & {*tokens} else "length", **written}


def _handler(server: TeacherServer) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = 20  # A connection that says nothing more is closed, whatever becomes of a test.

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if server.key and self.headers.get("Authorization") != f"Bearer {server.key}":
                status, answer = 401, {"error": {"message": "wrong key", "code": 401}}
            else:
                status, answer = server.answer(self.path, body)
            payload = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    return Handler
