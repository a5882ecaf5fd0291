"""An endpoint that answers, and one that misbehaves: every request ends answered, or with a reason."""

from __future__ import annotations

import email.utils
import itertools
import json
import logging
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from support.asking import KEY_VARIABLE, by_id, completer, question, questions
from support.servers import Call, Reply, Server, echo
from understudy.completers import openai_completer
from understudy.completers.openai_completer import ApiCompleter
from understudy.errors import ConfigError, TeacherError
from understudy.recipe import EndpointConfig

ROOT = Path(__file__).resolve().parents[2]
NUMBER = {"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]}
FAULTS = {
    "rate": Reply("slow down", status=429, headers={"Retry-After": "0.05"}),
    "server": Reply("oops", status=500),
    "conflict": Reply("busy", status=409),
    "hang": Reply(act="hang"),
    "reset": Reply(act="reset"),
    "half": Reply("a long answer that stops half way", act="half"),
    "html": Reply(raw=b"<html><body>502 Bad Gateway</body></html>", headers={"Content-Type": "text/html"}),
    "empty": Reply(raw=b'{"choices": []}'),
    "null": Reply(None),
    "odd": Reply(raw=b'[1, {"choices": "none"}]'),
    "blank": Reply(raw=b""),
}


def asking() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "completions"]


def test_every_fault_passes_and_every_answer_is_its_own() -> None:
    names = list(FAULTS)

    def script(call: Call) -> Reply:
        fault = names[int(call.prompt[1:]) % len(names)]
        return FAULTS[fault] if call.attempt == 0 else echo(call)

    with Server(script) as server:
        asked = completer(server, timeout=2.0, concurrency=16)
        found = by_id(asked.complete(questions(66)))
    assert {name: found[name].text for name in found} == {f"q{n}": f"answer to q{n}" for n in range(66)}
    assert len(server.calls) == 132
    assert asked.usage.calls == 132
    assert asked.usage.retries == 66
    kinds = {"rate limit": 6, "server": 12, "timeout": 6, "connection": 12, "unreadable": 30}
    assert dict(asked.usage.faults) == kinds
    assert not asked.usage.missing


def test_an_answer_sent_twice_is_never_taken_for_the_next_one() -> None:
    with Server(lambda call: Reply(f"answer to {call.prompt}", act="twice")) as server:
        found = by_id(completer(server, concurrency=3).complete(questions(60)))
    assert all(completion.text == f"answer to {name}" for name, completion in found.items())
    assert len(found) == 60


@pytest.mark.parametrize(
    ("reply", "kind", "calls"),
    [
        (FAULTS["rate"], "rate limit", 3),
        (FAULTS["server"], "server", 3),
        (FAULTS["hang"], "timeout", 3),
        (FAULTS["reset"], "connection", 3),
        (FAULTS["half"], "connection", 3),
        (FAULTS["html"], "unreadable", 3),
        (FAULTS["blank"], "unreadable", 3),
        (FAULTS["empty"], "unreadable", 3),
        (FAULTS["null"], "unreadable", 3),
        (FAULTS["odd"], "unreadable", 3),
        (Reply("  \n"), "empty", 3),
        (Reply("cut", finish="length"), "unfinished", 1),
        (Reply("", finish="content_filter"), "refused", 1),
        (Reply("too long", status=400), "request", 1),
        (Reply("come back tomorrow", status=429, headers={"Retry-After": "86400"}), "rate limit", 1),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_that_stays_becomes_a_reason(reply: Reply, kind: str, calls: int) -> None:
    with Server(lambda _: reply) as server:
        asked = completer(server, max_retries=2, timeout=1.0 if reply.act == "hang" else 60.0)
        (completion,) = asked.complete([question("q")])
    assert completion.text is None
    assert completion.value is None
    assert completion.reason.startswith(f"{kind}: ")
    assert len(server.calls) == calls
    assert dict(asked.usage.missing) == {kind: 1}
    assert (completion.input_tokens, completion.output_tokens) == (asked.usage.input_tokens, asked.usage.output_tokens)


def test_nobody_there_is_a_reason_and_costs_nothing() -> None:
    with Server() as server:
        gone = server.base_url
    asked = completer(gone, max_retries=1, max_calls=1)
    first, second = asked.complete(questions(2))
    assert first.reason.startswith("connection: ")
    assert second.reason.startswith("connection: ")


def test_a_broken_answer_is_asked_again_with_the_complaint() -> None:
    def script(call: Call) -> Reply:
        texts = ['{"number": "seven"}', '{"number": 7', '```json\n{"number": 7}\n```']
        return Reply(texts[call.number])

    with Server(script) as server:
        asked = completer(server)
        (completion,) = asked.complete([question("q", schema=NUMBER)])
    assert completion.value == {"number": 7}
    assert (completion.input_tokens, completion.output_tokens) == (21, 9)
    sent = [call.body["messages"] for call in server.calls]
    assert [len(turns) for turns in sent] == [1, 3, 3]
    assert sent[1][1] == {"role": "assistant", "content": '{"number": "seven"}'}
    assert "'seven' is not of type 'integer'" in sent[1][2]["content"]
    assert server.calls[0].body["response_format"]["json_schema"]["schema"] == NUMBER


@pytest.mark.parametrize(
    "text",
    [
        '{"number": 7',
        '{"number": "7"}',
        "7",
        "{}",
        '{"number": NaN}',
        "seven",
        "[" * 5_000,
        '{"number": 7} {"number": 8}',
    ],
)
def test_an_answer_that_stays_broken_is_missing(text: str) -> None:
    with Server(lambda _: Reply(text)) as server:
        asked = completer(server)
        (completion,) = asked.complete([question("q", schema=NUMBER)])
    assert completion.reason.startswith("unparseable: ")
    assert completion.value is None
    assert (completion.input_tokens, completion.output_tokens) == (21, 9), "paid all the same"
    assert len(server.calls) == 1 + openai_completer.MAX_BROKEN_RETRIES
    assert asked.usage.faults["unparseable"] == 3


def test_a_schema_that_is_none_is_named() -> None:
    with Server(lambda _: Reply("{}")) as server, pytest.raises(ConfigError, match="no JSON schema"):
        list(completer(server).complete([question("q", schema={"type": "nothing"})]))


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_honoured_for_all(form: str) -> None:
    arrived: list[float] = []

    def script(call: Call) -> Reply:
        arrived.append(time.time())
        if call.number:
            return echo(call)
        date = email.utils.format_datetime(email.utils.localtime().fromtimestamp(time.time() + 2).astimezone())
        return Reply(status=429, headers={"Retry-After": "1" if form == "seconds" else date})

    with Server(script) as server:
        found = by_id(completer(server, concurrency=1).complete(questions(2)))
    assert len(found) == 2
    # A date has whole seconds, so of two seconds at least one is left.
    assert arrived[1] - arrived[0] >= 0.99


def test_a_wrong_key_stops_at_once_and_is_never_shown(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "sk-very-secret-0123456789"
    monkeypatch.setenv(KEY_VARIABLE, secret)
    caplog.set_level(logging.DEBUG)
    with Server(lambda call: Reply(f"wrong key {call.headers['authorization']}", status=401)) as server:
        asked = completer(server)
        with pytest.raises(TeacherError) as caught:
            list(asked.complete(questions(100)))
    assert server.calls[0].headers["authorization"] == f"Bearer {secret}"
    assert KEY_VARIABLE in caught.value.hint
    assert "\n" not in caught.value.message
    shown = [str(caught.value), repr(asked), str(vars(asked)), caplog.text, str(asked.usage)]
    assert not any(secret in text for text in shown)
    assert len(server.calls) <= asked.config.concurrency
    assert not asking()


def test_without_a_key_none_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-endpoint")
    monkeypatch.setenv("OPENAI_ORG_ID", "another")
    with Server() as server:
        list(completer(server).complete([question("q")]))
    assert "authorization" not in server.calls[0].headers
    assert "openai-organization" not in server.calls[0].headers
    assert "sk-of" not in str(server.calls[0].headers)


@pytest.mark.parametrize("status", [403, 404, 405])
def test_what_no_request_can_mend_ends_the_run(status: int) -> None:
    with Server(lambda _: Reply("no such model", status=status)) as server, pytest.raises(TeacherError) as caught:
        list(completer(server).complete(questions(5)))
    assert "no such model" in caught.value.message


def test_an_empty_purse_ends_the_run() -> None:
    raw = b'{"error": {"message": "insufficient_quota: pay first", "code": "insufficient_quota"}}'
    with Server(lambda _: Reply(raw=raw, status=429)) as server, pytest.raises(TeacherError, match="nothing left"):
        list(completer(server).complete(questions(5)))


def test_one_refused_request_is_one_missing_answer() -> None:
    def script(call: Call) -> Reply:
        return Reply("context too long", status=400) if call.prompt in ("q0", "q7") else echo(call)

    with Server(script) as server:
        found = by_id(completer(server).complete(questions(30)))
    assert {name for name, completion in found.items() if completion.reason} == {"q0", "q7"}
    assert found["q7"].reason == "request: 400: context too long"


def test_nothing_but_refusals_end_the_run() -> None:
    with Server(lambda _: Reply("what?", status=400)) as server, pytest.raises(TeacherError, match="first 10 requests"):
        list(completer(server).complete(questions(1000)))
    assert len(server.calls) < 30


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("response_format", "unknown field response_format"),
        ("temperature", "Unsupported value: 'temperature' does not support 0"),
        ("max_tokens", "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
    ],
)
def test_an_endpoint_that_does_not_know_a_parameter_is_asked_without(parameter: str, words: str) -> None:
    def script(call: Call) -> Reply:
        return Reply(words, status=400) if parameter in call.body else Reply('{"number": 1}')

    with Server(script) as server:
        asked = completer(server, max_retries=0)
        found = by_id(asked.complete(questions(40, schema=NUMBER)))
    assert all(completion.value == {"number": 1} for completion in found.values())
    assert len(server.calls) <= 40 + asked.config.concurrency
    assert parameter in asked.usage.notes[0]
    if parameter == "max_tokens":
        assert server.calls[-1].body["max_completion_tokens"] == 1024


def test_at_most_so_many_at_once() -> None:
    with Server(lambda call: Reply(call.prompt, delay=0.02)) as server:
        list(completer(server, concurrency=5).complete(questions(50)))
    assert server.most_at_once == 5


def test_requests_are_drawn_as_they_are_needed_and_closing_ends_all() -> None:
    drawn = itertools.count()
    with Server() as server:
        source = (question(f"q{next(drawn)}") for _ in itertools.count())
        completions = completer(server, concurrency=4).complete(source)
        taken = [next(completions) for _ in range(50)]
        completions.close()  # pyright: ignore
        assert not asking()
        assert len({completion.id for completion in taken}) == 50
        assert next(drawn) <= 50 + 8
        assert len(server.calls) <= 50 + 8


def test_what_is_ready_does_not_wait_for_a_slow_source() -> None:
    drawn_before_the_first = 0
    with Server() as server:
        asked = completer(server, concurrency=500)
        list(asked.complete([question("warm up")]))

        def source():
            nonlocal drawn_before_the_first
            while not given and drawn_before_the_first < 900:
                drawn_before_the_first += 1
                time.sleep(0.01)
                yield question(f"q{drawn_before_the_first}")

        given: list[str] = []
        given.extend(completion.id for completion in itertools.islice(asked.complete(source()), 1))
    assert given == ["q1"]
    assert drawn_before_the_first < 900, "the window holds 1,000"


def test_a_fault_of_the_source_is_raised_and_ends_all() -> None:
    def source():
        yield from questions(3)
        raise KeyError("mine")

    with Server() as server, pytest.raises(KeyError, match="mine"):
        list(completer(server).complete(source()))
    assert not asking()


def test_identical_requests_are_sent_once() -> None:
    with Server(lambda call: Reply(call.prompt, delay=0.05)) as server:
        asked = completer(server)
        found = by_id(asked.complete(question("same", name=str(number)) for number in range(20)))
        other = by_id(asked.complete(question("same", name=str(n), sample=n) for n in range(3)))
    assert {completion.text for completion in found.values()} == {"same"}
    assert len(found) == 20
    assert len(server.calls) == 3, "one for twenty alike, two for samples 1 and 2"
    assert [completion.cached for completion in found.values()].count(False) == 1
    assert other["0"].cached
    assert asked.usage.shared + asked.usage.cached == 20


def test_what_was_answered_is_not_asked_again(tmp_path: Path) -> None:
    def script(call: Call) -> Reply:
        return Reply("cut", finish="length") if call.prompt == "q3" else echo(call)

    with Server(script) as server, Server(script) as moved:
        first = by_id(completer(server, tmp_path).complete(questions(5)))
        again = by_id(completer(moved, tmp_path).complete(questions(6)))
    assert [call.prompt for call in moved.calls] == ["q3", "q5"], "the one without an answer, and the new one"
    assert again["q1"].cached
    assert again["q1"].seconds == 0.0
    assert (again["q1"].text, again["q1"].input_tokens) == (first["q1"].text, 7)
    assert not again["q5"].cached


def test_any_text_goes_there_and_back() -> None:
    odd = ["\ud800 half a pair", "{{ braces }} {% if %}", 'quote " and \\ backslash', "nul \0", "漢字 🙂"]
    with Server(lambda call: Reply(raw=Reply(call.prompt).payload("m"))) as server:
        found = by_id(completer(server).complete(question(text, name=str(n)) for n, text in enumerate(odd)))
        half = Reply(raw=json.dumps({"choices": [{"message": {"content": "\udc00 x"}}]}).encode())
        server.script = lambda _: half
        (broken,) = completer(server).complete([question("q")])
    assert [found[str(n)].text for n in range(1, 5)] == odd[1:]
    assert found["0"].text == "? half a pair"
    assert broken.text == "? x"


@pytest.mark.parametrize("address", [None, "localhost:8000", "ftp://x", ""])
def test_an_address_that_is_none_is_named(address: str | None) -> None:
    with pytest.raises(ConfigError, match="no address"):
        ApiCompleter(EndpointConfig(model="m", base_url=address))


def test_passwords_in_an_address_are_not_shown() -> None:
    asked = ApiCompleter(EndpointConfig(model="m", base_url="http://user:secret@localhost:1/v1"))
    assert "secret" not in repr(asked)


def test_ctrl_c_ends_it_and_keeps_what_was_answered(tmp_path: Path) -> None:
    code = f"""
import signal, sys
sys.path.insert(0, {str(ROOT / "tests")!r})
signal.signal(signal.SIGINT, signal.default_int_handler)
from pathlib import Path
from support.asking import completer, questions
number = 0
try:
    for completion in completer(sys.argv[1], Path(sys.argv[2]), concurrency=4).complete(questions(1000)):
        number += 1
        if number == 20:
            signal.raise_signal(signal.SIGINT)
except KeyboardInterrupt:
    print(number)
"""
    with Server() as server:
        done = subprocess.run(
            [sys.executable, "-c", code, server.base_url, str(tmp_path)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "20\n", "")
        before = len(server.calls)
        assert before <= 20 + 8
        found = by_id(completer(server, tmp_path).complete(questions(20)))
    assert sum(completion.cached for completion in found.values()) >= 12
    assert len(server.calls) - before == sum(not completion.cached for completion in found.values())
