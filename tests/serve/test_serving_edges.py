"""What only happens at the edges: pages of other sites, clients that do not read, a signal, when a cascade speaks."""

from __future__ import annotations

import asyncio
import http.client
import json
import signal
import socket
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from support.commands import ServeProcess
from support.serving import causal_run, serving
from support.speaking import post
from understudy.confidence import NUM_EARLY
from understudy.run import Run
from understudy.serve.cascade import Cascade, Mode, Verdict, cascaded
from understudy.serve.gateway import Bounds
from understudy.serve.opening import Plan
from understudy.serve.work import Piece, Token, Work

CHAT = "/v1/chat/completions"
QUESTION: dict[str, Any] = {"model": "student", "messages": [{"role": "user", "content": "Who charges?"}]}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return causal_run(tmp_path_factory.mktemp("edges"))


def until(true: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- pages of other sites ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opened", [False, True])
def test_a_page_of_another_site_may_ask_only_where_it_is_named(run: Run, opened: bool) -> None:
    shop, other = "https://shop.example", "https://other.example"
    body = json.dumps({**QUESTION, "max_tokens": 2}).encode()
    with serving(run, origins=[shop] if opened else []) as served:
        for origin in (shop, other):
            allowed = opened and origin == shop
            connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
            asked = {"Origin": origin, "Access-Control-Request-Method": "POST"}
            connection.request("OPTIONS", CHAT, headers={**asked, "Access-Control-Request-Headers": "authorization"})
            answer = connection.getresponse()
            answer.read()
            connection.close()
            assert (answer.headers["access-control-allow-origin"] == origin) == allowed
            status, headers, _ = post(served, CHAT, body, Origin=origin)
            assert status == (200 if allowed else 403)
            assert (headers.get("access-control-allow-origin") == origin) == allowed


# -- limits ------------------------------------------------------------------------------------------------------------


def test_no_answer_is_longer_than_the_server_writes(run: Run) -> None:
    """Asked for by name it is refused; where nothing is asked for, the limit stands in for the usual length."""
    long = {**QUESTION, "max_tokens": 5}
    plain: dict[str, Any] = {"model": "student", "prompt": "The AMF"}
    with serving(run, Plan(bounds=Bounds(max_tokens=4))) as served:
        for path, body in ((CHAT, long), ("/v1/completions", {**plain, "max_tokens": 5})):
            status, _, content = post(served, path, json.dumps(body).encode())
            assert (status, json.loads(content)["error"]["code"]) == (400, "too_many_tokens")
        for path, body in ((CHAT, QUESTION), ("/v1/completions", plain)):
            status, _, content = post(served, path, json.dumps(body).encode())
            assert (status, json.loads(content)["usage"]["completion_tokens"]) == (200, 4)


# -- clients that do not read ------------------------------------------------------------------------------------------


def test_whoever_does_not_read_the_answer_is_hung_up_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from understudy.serve.web import app

    monkeypatch.setattr(app, "SLOW_READER", 0.5)
    body = {
        **QUESTION,
        "stream": True,
        "n": 8,
        "max_tokens": 150,
        "temperature": 2,
        "logprobs": True,
        "top_logprobs": 20,
    }
    content = json.dumps(body).encode()
    with serving(run, Plan(bounds=Bounds(seconds=4))) as served, socket.socket() as slow:
        # Little room on the way, or the whole answer would be sent off before anybody reads it.
        served.listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        slow.settimeout(30)
        slow.connect(("127.0.0.1", served.port))
        kind = f"Content-Type: application/json\r\nContent-Length: {len(content)}"
        slow.sendall(f"POST {CHAT} HTTP/1.1\r\nHost: 127.0.0.1\r\n{kind}\r\n\r\n".encode() + content)
        until(lambda: len(served.notebook.exchanges) == 1)
        assert served.notebook.exchanges[0].status in (499, 504)
        assert served.gateway.admission.under_way == 0
        received = b""
        while piece := slow.recv(65_536):
            received += piece
        assert received.startswith(b"HTTP/1.1 200")
        assert b"[DONE]" not in received
        # And the next client is served.
        assert post(served, CHAT, json.dumps({**QUESTION, "max_tokens": 2}).encode())[0] == 200


# -- the end -----------------------------------------------------------------------------------------------------------


def test_a_signal_lets_what_is_under_way_end_and_the_process_ends_with_0(run: Run) -> None:
    served = ServeProcess(run.folder, "--drain", 60)

    def ask() -> int:
        body = json.dumps({**QUESTION, "n": 8, "max_tokens": 150, "temperature": 2}).encode()
        request = urllib.request.Request(f"{served.url}{CHAT}", body, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert len(json.load(answer)["choices"]) == 8
            return answer.status

    def under_way() -> int:
        with urllib.request.urlopen(f"{served.url}/readyz", timeout=60) as answer:
            return json.load(answer)["under_way"]

    try:
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(ask)
            until(lambda: under_way() > 0 or asked.done())
            served.process.send_signal(signal.SIGTERM)
            assert asked.result(60) == 200
        assert served.process.wait(60) == 0
    finally:
        served.kill()


def test_a_second_signal_does_not_wait(run: Run) -> None:
    body = json.dumps({**QUESTION, "n": 8, "max_tokens": 200, "temperature": 2}).encode()
    with serving(run) as served, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(post, served, CHAT, body)
        until(lambda: served.gateway.admission.under_way > 0 or asked.done())
        for _ in range(2):
            served.server.handle_exit(signal.SIGTERM, None)
        # Hung up on, told that the server goes, or answered in the very moment.
        fault = asked.exception(60)
        assert isinstance(fault, OSError | http.client.HTTPException) if fault else asked.result()[0] in (200, 503)
        assert served.server.force_exit


# -- when a cascade speaks ---------------------------------------------------------------------------------------------


class Scripted:
    """An engine that writes one token a piece and notes how many were asked for."""

    def __init__(self, text: str, logp: float) -> None:
        self.text, self.logp, self.asked = text, logp, 0

    async def write(self, work: Work) -> AsyncIterator[Piece]:
        """See `Engine`."""
        for place, letter in enumerate(self.text):
            self.asked += 1
            finish = "stop" if place == len(self.text) - 1 else None
            yield Piece(letter, (Token(letter, self.logp),), finish, 5, place + 1)

    async def close(self) -> None:
        """Nothing."""


@pytest.mark.parametrize("sure", [True, False])
@pytest.mark.parametrize(("mode", "waits_for"), [("hold", 12), ("first", NUM_EARLY)])
def test_the_first_token_comes_when_the_docs_say(mode: Mode, waits_for: int, sure: bool) -> None:
    """The table of `--decide` in docs/serving.md: so many tokens of each are written before the first is sent."""
    student, teacher = Scripted("abcdefghijkl", -0.1 if sure else -3.0), Scripted("ABCDEF", -0.1)
    work = Work((1, 2), streams=True)

    async def listen() -> list[tuple[str, int, int]]:
        pieces = cascaded(Cascade(0.5, 0.5, mode), student, work, teacher, work, Verdict("student"), "teacher")
        return [(piece.text, student.asked, teacher.asked) async for piece in pieces]

    heard = asyncio.run(listen())
    assert heard[0] == (("a", waits_for, 0) if sure else ("A", waits_for, 1))
    assert "".join(text for text, _, _ in heard) == (student.text if sure else teacher.text)
    # From there on each token is sent as it comes.
    tail = heard[waits_for:] if sure else heard
    assert [(text, asked) for text, *asked in tail] == [
        (letter, [place, 0] if sure else [waits_for, place])
        for place, letter in (
            enumerate(student.text[waits_for:], waits_for + 1) if sure else enumerate(teacher.text, 1)
        )
    ]
