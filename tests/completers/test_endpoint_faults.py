"""What is no answer though its status is 200, where servers send a question on, and whose key they give back."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from support.asking import KEY_VARIABLE, by_id, completer, question, questions
from support.servers import Call, Reply, Server, echo
from understudy.errors import TeacherError

SECRET = "sk-very-secret-0123456789-abcdefghij"
CHOICE = {"index": 0, "message": {"role": "assistant", "content": "half an"}, "finish_reason": "stop"}


def body(document: Any) -> Reply:
    return Reply(raw=json.dumps(document).encode())


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        ({"error": {"code": 429, "message": "slow down"}}, "rate limit: 429: slow down"),
        ({"error": {"code": "429", "message": "slow down"}}, "rate limit: 429: slow down"),
        ({"error": {"type": "rate_limit_error", "message": "later"}}, "rate limit: 429: rate_limit_error: later"),
        ({"error": {"code": 502, "message": "no provider"}, "choices": []}, "server: 502: no provider"),
        ({"error": {"message": "overloaded"}, "choices": [CHOICE]}, "server: 500: overloaded"),
        ({"choices": [{**CHOICE, "error": {"code": 503, "message": "gone"}}]}, "server: 503: gone"),
        ({"error": "the engine is dead"}, "server: 500: the engine is dead"),
        ({"object": "error", "message": "too long", "type": "BadRequestError", "code": 400}, "request: 400: "),
        ({"detail": "busy"}, "server: 500: busy"),
    ],
)
def test_an_error_under_status_200_is_what_its_code_says(document: Any, reason: str) -> None:
    with Server(lambda _: body(document)) as server:
        asked = completer(server, max_retries=1)
        (completion,) = asked.complete([question("q")])
    assert completion.text is None
    assert completion.reason.startswith(reason)
    assert len(server.calls) == (1 if reason.startswith("request") else 2)


def test_an_error_under_status_200_waits_as_its_header_says() -> None:
    arrived: list[float] = []

    def script(call: Call) -> Reply:
        arrived.append(time.monotonic())
        refusal = json.dumps({"error": {"code": 429, "message": "slow down"}}).encode()
        return echo(call) if call.number else Reply(raw=refusal, headers={"Retry-After": "1"})

    with Server(script) as server:
        (completion,) = completer(server).complete([question("q")])
    assert completion.text == "answer to q"
    assert arrived[1] - arrived[0] >= 0.99


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"code": 401, "message": "no such key"}, "refuses the key: 401: no such key"),
        ({"type": "invalid_api_key", "message": "no such key"}, "refuses the key: 401"),
        ({"code": "model_not_found", "message": "no m"}, "refuses to answer: 404: model_not_found: no m"),
        ({"code": "insufficient_quota", "message": "You exceeded it"}, "nothing left to spend"),
    ],
)
def test_an_error_under_status_200_that_no_request_can_mend_ends_the_run(error: Any, words: str) -> None:
    with Server(lambda _: body({"error": error})) as server, pytest.raises(TeacherError, match=words):
        list(completer(server).complete(questions(5)))


def test_a_quota_named_by_its_code_alone_ends_the_run() -> None:
    raw = json.dumps({"error": {"message": "You exceeded your plan", "code": "insufficient_quota"}}).encode()
    with Server(lambda _: Reply(raw=raw, status=429)) as server, pytest.raises(TeacherError, match="nothing left"):
        list(completer(server).complete([question("q")]))
    assert len(server.calls) == 1


def test_a_parameter_refused_under_status_200_is_left_out() -> None:
    def script(call: Call) -> Reply:
        refusal = {"error": {"code": 400, "message": "unknown field temperature"}}
        return body(refusal) if "temperature" in call.body else echo(call)

    with Server(script) as server:
        (completion,) = completer(server).complete([question("q")])
    assert completion.text == "answer to q"


@pytest.mark.parametrize(
    ("finish", "reason", "calls"),
    [
        ("error", "server: ", 2),
        ("abort", "server: ", 2),
        ("wombat", "unfinished: the answer ended for a reason that is not known: 'wombat'", 2),
        ("tool_calls", "unfinished: ", 2),
        ("max_tokens", "unfinished: the answer reached max_tokens", 1),
        ("SAFETY", "refused: ", 1),
    ],
)
def test_an_answer_that_did_not_end_as_answers_do_is_none(tmp_path: Path, finish: str, reason: str, calls: int) -> None:
    with Server(lambda _: Reply("half an answ", finish=finish)) as server:
        (completion,) = completer(server, tmp_path, max_retries=1).complete([question("q")])
        assert completion.text is None
        assert completion.reason.startswith(reason)
        assert (completion.input_tokens, completion.output_tokens) == (7 * calls, 3 * calls), "it was paid for"
        assert len(server.calls) == calls
        server.script = echo
        (again,) = completer(server, tmp_path).complete([question("q")])
    assert again.text == "answer to q"
    assert not again.cached, "half an answer is not kept"


@pytest.mark.parametrize("finish", [None, "stop", "STOP", "eos_token", "end_turn"])
def test_an_answer_that_ended_is_taken(finish: str | None) -> None:
    with Server(lambda _: Reply("whole", finish=finish)) as server:
        (completion,) = completer(server).complete([question("q")])
    assert completion.text == "whole"


def test_a_text_in_parts_is_one_text() -> None:
    parts = [
        {"type": "thinking", "thinking": "hm"},
        {"type": "text", "text": "It is "},
        {"type": "text", "text": "so."},
    ]
    with Server(lambda _: Reply(parts)) as server:
        (completion,) = completer(server).complete([question("q")])
    assert completion.text == "It is so."


def test_parts_without_a_text_are_no_answer() -> None:
    with Server(lambda _: Reply([{"type": "image_url", "image_url": {"url": "x"}}])) as server:
        (completion,) = completer(server, max_retries=0).complete([question("q")])
    assert completion.reason.startswith("unreadable: ")


@pytest.mark.parametrize(
    "raw",
    [
        b"9" * 5_000,
        b'{"usage": {"prompt_tokens": ' + b"9" * 5_000 + b"}}",
        b"[" * 100_000,
        b'{"choices": ' + b"[" * 100_000,
        b"<html>",
        b"\xff\xfe\x00",
    ],
    ids=["digits", "digits inside", "brackets", "brackets inside", "html", "bytes"],
)
@pytest.mark.parametrize("status", [200, 500])
def test_a_body_that_cannot_be_read_is_asked_again(raw: bytes, status: int) -> None:
    def script(call: Call) -> Reply:
        return Reply(raw=raw, status=status) if call.attempt == 0 else echo(call)

    with Server(script) as server:
        (completion,) = completer(server).complete([question("q")])
    assert completion.text == "answer to q"
    assert len(server.calls) == 2


@pytest.mark.parametrize("text", ['{"answer": 1e400}', '{"answer": 1, "answer": 2}', '{"answer": ' + "9" * 5_000 + "}"])
def test_a_value_that_is_no_json_is_asked_for_again(text: str) -> None:
    with Server(lambda call: Reply(text if call.number == 0 else '{"answer": 1e10}')) as server:
        (completion,) = completer(server).complete([question("q", schema={"type": "object"})])
    assert completion.value == {"answer": 1e10}
    assert len(server.calls) == 2


# -- redirects -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_key_never_goes_to_another_host(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    with Server() as other:
        place = f"{other.base_url}/chat/completions?key={SECRET}"
        with Server(lambda _: Reply(status=status, headers={"Location": place})) as server:
            with pytest.raises(TeacherError, match="redirects elsewhere") as caught:
                list(completer(server).complete(questions(6)))
            assert len(server.calls) <= 6
    assert other.calls == []
    assert other.base_url in caught.value.message
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("places", [["/v1/chat/completions"], ["/a", "/b"], [f"/{n}" for n in range(100)]])
def test_a_circle_of_redirects_stops_at_once(places: list[str]) -> None:
    def script(call: Call) -> Reply:
        here = places.index(call.path) if call.path in places else -1
        return Reply(status=307, headers={"Location": places[(here + 1) % len(places)]})

    with Server(script) as server:
        with pytest.raises(TeacherError, match="redirects in a circle"):
            list(completer(server, concurrency=2).complete(questions(6)))
        assert len(server.calls) <= 8


def test_a_redirect_within_the_host_is_followed_once_for_all() -> None:
    def script(call: Call) -> Reply:
        moved = call.path.endswith("/")
        return echo(call) if moved else Reply(status=307, headers={"Location": f"{call.path}/"})

    with Server(script) as server:
        found = by_id(completer(server, concurrency=1).complete(questions(4)))
    assert [found[f"q{n}"].text for n in range(4)] == [f"answer to q{n}" for n in range(4)]
    assert len(server.calls) == 5


# -- whose key is given back -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        f"wrong key {SECRET}",
        f"{'x' * 280} {SECRET}",
        f"wrong key {SECRET[:20]}",
        f"wrong key ***{SECRET[-12:]}",
        f'{{"authorization": "Bearer {SECRET}"}}',
    ],
)
@pytest.mark.parametrize("status", [200, 400, 401, 403, 500])
def test_a_key_is_never_repeated(monkeypatch: pytest.MonkeyPatch, words: str, status: int) -> None:
    """Nor its beginning, nor its end: not in an error, not in a reason, not in a note."""
    monkeypatch.setenv(KEY_VARIABLE, SECRET)
    raw = words.encode() if status == 200 else json.dumps({"error": {"message": words}}).encode()
    texts = []
    with Server(lambda _: Reply(raw=raw, status=status)) as server:
        asked = completer(server, max_retries=0)
        try:
            texts += [completion.reason for completion in asked.complete([question("q")])]
        except TeacherError as error:
            texts.append(str(error))
    texts.append(str(asked.usage))
    assert all(SECRET[:8] not in text and SECRET[-8:] not in text for text in texts)


def test_a_key_that_is_not_ours_is_not_repeated_either(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY_VARIABLE, "EMPTY")
    words = "Incorrect API key provided: sk-proj-0123456789abcdef. token=tok0123456789abcdef is upstream's"
    with Server(lambda _: Reply(words, status=401)) as server, pytest.raises(TeacherError) as caught:
        list(completer(server).complete([question("q")]))
    assert "Incorrect API key provided: ***" in caught.value.message
    assert "0123456789" not in caught.value.message
