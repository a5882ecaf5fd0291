"""The gateway before a model of this process, spoken to by OpenAI's own client over a real port."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from openai import (
    APIConnectionError,
    AuthenticationError,
    BadRequestError,
    InternalServerError,
    NotFoundError,
    OpenAI,
    RateLimitError,
)

from support.serving import Served, causal_run, seq2seq_run, serving, span_run
from support.speaking import client_of, post
from understudy.files import read_jsonl
from understudy.run import Run
from understudy.serve.gateway import Bounds
from understudy.serve.keys import KeyFile, KeyLimits
from understudy.serve.opening import Plan
from understudy.types import Example

ALL = ("student", "teacher", "undistilled")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return causal_run(tmp_path_factory.mktemp("causal"))


@pytest.fixture(scope="module")
def served(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    feedback = tmp_path_factory.mktemp("thumbs") / "feedback.jsonl"
    with serving(run, Plan(models=ALL, cascade=0.5, feedback=feedback)) as server:
        yield server


@pytest.fixture(scope="module")
def client(served: Served) -> Iterator[OpenAI]:
    with client_of(served) as opened:
        yield opened


def turns(question: str) -> list[Any]:
    return [{"role": "user", "content": question}]


# -- what is served is what was measured -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "arm"), [("student", "distilled"), ("teacher", "teacher"), ("undistilled", "base_student")]
)
def test_every_answer_is_that_of_the_predictions(client: OpenAI, run: Run, model: str, arm: str) -> None:
    rows = run.predictions(arm)
    assert len({row.prediction for row in rows}) > 3
    with ThreadPoolExecutor(6) as pool:  # Batches of other rows than the run's.
        answers = list(pool.map(lambda row: _answer(client, model, row.question or ""), rows))
    assert [text for text, _ in answers] == [row.prediction for row in rows]
    assert [usage.completion_tokens for _, usage in answers] == [row.tokens for row in rows]


def _answer(client: OpenAI, model: str, question: str) -> tuple[str, Any]:
    answer = client.chat.completions.create(model=model, messages=turns(question))
    return answer.choices[0].message.content or "", answer.usage


def test_streamed_is_the_same_text_with_the_same_counts(client: OpenAI, run: Run) -> None:
    row = run.predictions("distilled")[2]
    whole = client.chat.completions.create(model="student", messages=turns(row.question or ""))
    options: Any = {"include_usage": True}
    chunks = list(
        client.chat.completions.create(
            model="student", messages=turns(row.question or ""), stream=True, stream_options=options
        )
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == row.prediction
    assert len([chunk for chunk in chunks if chunk.choices]) > 3
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [c.choices[0].finish_reason for c in chunks if c.choices][-1] == whole.choices[0].finish_reason
    assert chunks[-1].usage == whole.usage


def test_logprobs_are_the_models_own(client: OpenAI, served: Served, run: Run) -> None:
    import torch

    question = run.predictions("distilled")[0].question or ""
    answer = client.chat.completions.create(model="student", messages=turns(question), logprobs=True, top_logprobs=4)
    assert answer.choices[0].logprobs is not None
    content = answer.choices[0].logprobs.content or []
    side: Any = served.gateway.sides["student"]
    ids = side.tokenizer.prompt_ids(Example("q", question))
    model = side.engine._model
    for token in content[:4]:
        with torch.no_grad():
            logp = model(torch.tensor([ids])).logits[0, -1].float().log_softmax(-1)
        best = logp.topk(4)
        assert token.logprob == pytest.approx(best.values[0].item(), abs=1e-4)
        assert [t.logprob for t in token.top_logprobs] == pytest.approx(best.values.tolist(), abs=1e-4)
        assert [t.token for t in token.top_logprobs] == [
            side.tokenizer.template.spelled([i]) for i in best.indices.tolist()
        ]
        ids = [*ids, int(best.indices[0])]
    extra: Any = answer.model_extra
    own = [token.logprob for token in content]
    import math

    assert extra["understudy"]["confidence"] == pytest.approx(math.exp(sum(own) / len(own)), abs=1e-5)


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(client: OpenAI, run: Run) -> None:
    row = next(row for row in run.predictions("distilled") if len(row.prediction or "") > 8)
    text = row.prediction or ""
    stop = text[4:6]
    expected = text[: text.index(stop)].rstrip()
    question = turns(row.question or "")
    answer = client.chat.completions.create(model="student", messages=question, stop=[stop])
    assert (answer.choices[0].message.content or "").rstrip() == expected
    assert answer.choices[0].finish_reason == "stop"
    pieces = client.chat.completions.create(model="student", messages=question, stop=stop, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces).rstrip() == expected


def test_a_seed_draws_again_what_it_drew(client: OpenAI) -> None:
    def drawn(seed: int, **fields: Any) -> list[str]:
        answer = client.chat.completions.create(
            model="student", messages=turns("Who selects a slice?"), temperature=1.5, n=4, seed=seed, **fields
        )
        return [choice.message.content or "" for choice in answer.choices]

    first = drawn(7)
    assert len(set(first)) > 1
    assert drawn(7) == first
    assert drawn(8) != first
    greedy = client.chat.completions.create(model="student", messages=turns("Who selects a slice?"))
    # A nucleus of the likeliest token alone is greedy, whatever the temperature.
    assert set(drawn(7, top_p=1e-6)) == {greedy.choices[0].message.content}


def test_longest_answer_and_several_prompts(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="student", messages=turns("Who charges?"), max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3
    several = client.completions.create(model="student", prompt=["The AMF", "The SMF"], max_tokens=4, n=2, logprobs=2)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    facts: Any = several.choices[0].logprobs
    assert "".join(facts.tokens) == several.choices[0].text
    assert several.usage is not None
    assert several.usage.completion_tokens == 16


def test_models_are_listed_and_unknown_ones_refused(client: OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["cascade", *ALL]
    with pytest.raises(NotFoundError, match="stu"):
        client.chat.completions.create(model="studnet", messages=turns("?"))


# -- other kinds -------------------------------------------------------------------------------------------------------


def test_an_encoder_decoder_answers_as_measured(tmp_path: Path) -> None:
    run = seq2seq_run(tmp_path)
    with serving(run) as served, client_of(served) as client:
        for row in run.predictions("distilled")[:4]:
            assert _answer(client, "student", row.question or "")[0] == row.prediction
        with pytest.raises(BadRequestError, match="encoder–decoder"):
            client.completions.create(model="student", prompt="text")


def test_a_student_that_points_answers_with_span_and_score(tmp_path: Path) -> None:
    run = span_run(tmp_path)
    with serving(run) as served, client_of(served) as client:
        for row in run.predictions("distilled")[:8]:
            body = {"question": row.question, "context": row.context}
            status, _, content = post(served, "/v1/answer", json.dumps(body).encode())
            answer = json.loads(content)
            assert status == 200
            assert answer["answer"] == ("" if row.prediction == "unanswerable" else row.prediction)
            assert 0 < answer["confidence"] <= 1
            if answer["answer"]:
                assert (row.context or "")[answer["start"] : answer["end"]] == answer["answer"]
        with pytest.raises(BadRequestError, match="/v1/answer"):
            client.chat.completions.create(model="student", messages=turns("?"))
        status, _, content = post(served, "/v1/answer", b'{"question": "What ends interface N1?"}')
        assert status == 400
        assert b"context" in content


# -- cascade -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("mode", ["hold", "first"])
def test_a_cascade_asks_the_teacher_where_the_student_is_unsure(run: Run, mode: Any, stream: bool) -> None:
    pairs = list(zip(run.predictions("distilled"), run.predictions("teacher"), strict=True))
    with serving(run, Plan(cascade=0, mode=mode)) as served, client_of(served) as client:
        rule: Any = served.gateway.cascade
        sure = sorted(_said(client, row.question or "", stream)[1]["confidence"] for row, _ in pairs[:8])
        assert {exchange.decision for exchange in served.notebook.exchanges} == {"kept"}
        threshold = (sure[3] + sure[4]) / 2
        served.gateway.cascade = replace(rule, threshold=threshold, early_threshold=threshold)
        served.notebook.exchanges.clear()
        for row, taught in pairs[:8]:
            text, extra = _said(client, row.question or "", stream)
            asked = extra["decision"] == "asked"
            assert asked == (extra["confidence"] < threshold)
            assert extra["source"] == ("teacher" if asked else "student")
            assert text == (taught if asked else row).prediction
        decisions = {exchange.decision for exchange in served.notebook.exchanges}
        assert decisions == {"asked", "kept"}
        told = next(exchange for exchange in served.notebook.exchanges if exchange.decision == "asked")
        assert told.threshold == threshold
        assert told.teacher_tokens > 0
        if mode == "hold" or not stream:
            whole = {row.question: row.prediction for row, _ in pairs}
            assert told.student_answer == whole[told.messages[0]["content"]]


def _said(client: OpenAI, question: str, stream: bool) -> tuple[str, dict[str, Any]]:
    create = client.chat.completions.create
    if not stream:
        answer = create(model="cascade", messages=turns(question))
        whole: Any = answer.model_extra
        return answer.choices[0].message.content or "", whole["understudy"]
    chunks = list(create(model="cascade", messages=turns(question), stream=True))
    first: Any = chunks[0].model_extra
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks), first["understudy"]


def test_a_teacher_that_is_down_leaves_the_students_answer_marked(run: Run) -> None:
    from understudy.serve.sides import Opening, Upstream

    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # Bound and not listening: whoever comes is turned away.
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        opening = Opening(upstream={"teacher": Upstream(address, "teacher", "")})
        with serving(run, Plan(cascade=1.0, opening=opening)) as served, client_of(served) as client:
            row = run.predictions("distilled")[0]
            raw = client.chat.completions.with_raw_response.create(model="cascade", messages=turns(row.question or ""))
            answer = raw.parse()
            extra: Any = answer.model_extra
            assert answer.choices[0].message.content == row.prediction
            assert raw.headers["x-understudy-decision"] == extra["understudy"]["decision"] == "unavailable"
            assert "cannot be reached" in extra["understudy"]["teacher"]
            assert extra["understudy"]["source"] == "student"


def test_a_server_behind_the_gateway_gives_the_same_answers(run: Run, served: Served) -> None:
    """Our own server stands behind another gateway, as a vLLM would: it is sent the run's token ids."""
    from understudy.serve.sides import Opening, Upstream

    opening = Opening(upstream={"student": Upstream(f"{served.url}/v1", "student", "")})
    with serving(run, Plan(opening=opening)) as gateway, client_of(gateway) as client:
        for row in run.predictions("distilled")[:4]:
            answer = client.chat.completions.create(
                model="student", messages=turns(row.question or ""), logprobs=True, top_logprobs=2
            )
            assert answer.choices[0].message.content == row.prediction
            assert answer.usage is not None
            assert answer.usage.completion_tokens == row.tokens
            chunks = client.chat.completions.create(model="student", messages=turns(row.question or ""), stream=True)
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == row.prediction
            assert answer.choices[0].logprobs is not None
            assert answer.choices[0].logprobs.content


# -- keys and limits ---------------------------------------------------------------------------------------------------


def test_keys_are_needed_hashed_limited_and_revoked(run: Run, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    secret, key = keys.add("alice", KeyLimits(requests_per_minute=3))
    other, _ = keys.add("bob", KeyLimits(tokens_per_minute=5))
    assert secret not in keys.path.read_text()
    assert keys.path.stat().st_mode & 0o077 == 0
    with serving(run, Plan(keys=keys.path)) as served:
        with client_of(served, "us-wrong") as client, pytest.raises(AuthenticationError, match="not known"):
            client.models.list()
        status, headers, _ = post(served, "/v1/chat/completions", b"{}")
        assert (status, headers["www-authenticate"]) == (401, "Bearer")
        with client_of(served, secret) as client:
            for _ in range(3):
                client.chat.completions.create(model="student", messages=turns("Who charges?"), max_tokens=2)
            with pytest.raises(RateLimitError) as refusal:
                client.chat.completions.create(model="student", messages=turns("Who charges?"))
            assert int(refusal.value.response.headers["retry-after"]) >= 1
            assert served.notebook.exchanges[-1].key == key.id
        with client_of(served, other) as client:
            client.chat.completions.create(model="student", messages=turns("Who charges?"))
            with pytest.raises(RateLimitError, match="tokens"):
                client.chat.completions.create(model="student", messages=turns("Who charges?"))
        keys.revoke("alice")
        with client_of(served, secret) as client, pytest.raises(AuthenticationError, match="revoked"):
            client.models.list()


def test_more_than_there_is_room_for_is_refused_and_the_rest_is_answered(run: Run) -> None:
    from understudy.serve.sides import Opening

    plan = Plan(most_waiting=4, opening=Opening(batch=2))
    with serving(run, plan) as served:

        def ask(number: int) -> int:
            body = {"model": "student", "messages": turns(f"question {number}")}
            status, headers, _ = post(served, "/v1/chat/completions", json.dumps(body).encode())
            assert status == 200 or int(headers["retry-after"]) >= 1
            return status

        with ThreadPoolExecutor(24) as pool:
            outcomes = list(pool.map(ask, range(72)))
        assert set(outcomes) == {200, 429}
        assert served.gateway.admission.under_way == 0
        assert ask(0) == 200


def test_a_client_that_leaves_ends_the_writing(run: Run) -> None:
    with serving(run, Plan(bounds=Bounds())) as served:
        body = {"model": "student", "messages": turns("Who charges?"), "max_tokens": 200, "temperature": 2, "n": 8}
        for stream in (True, False):
            connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
            content = json.dumps({**body, "stream": stream})
            connection.request("POST", "/v1/chat/completions", content, {"Content-Type": "application/json"})
            answer = None
            if stream:
                answer = connection.getresponse()
                answer.read(10)
            else:
                until(lambda: served.gateway.load["running"] > 0)
            assert connection.sock is not None
            connection.sock.shutdown(socket.SHUT_RDWR)
            connection.close()
            if answer is not None:
                answer.close()
            until(lambda: served.gateway.load == {"under_way": 0, "waiting": 0, "running": 0})
        until(lambda: len(served.notebook.exchanges) == 2)
        assert [exchange.status for exchange in served.notebook.exchanges] == [499, 499]
        assert all(exchange.completion_tokens < 8 * 200 for exchange in served.notebook.exchanges)


def until(true: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


# -- bad requests ------------------------------------------------------------------------------------------------------


def test_bad_bodies_are_told_what_is_wrong(served: Served) -> None:
    chat = "/v1/chat/completions"
    question = {"model": "student", "messages": turns("Who charges?")}
    cases = {
        b"{": "no JSON",
        b'{"messages": []}': "messages",
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}': "surrogate",
        b'{"messages": [{"role": "user", "content": "\xff"}]}': "UTF-8",
        json.dumps({**question, "temperature": 1e999}).encode(): "temperature",
        json.dumps({**question, "max_tokens": 100_000}).encode(): "do not fit",
        json.dumps({**question, "tools": [{}]}).encode(): "not supported",
        json.dumps({**question, "n": 9}).encode(): "9 answers",
        json.dumps({**question, "messages": turns("word " * 10_000)}).encode(): "tokens",
    }
    for body, words in cases.items():
        status, _, content = post(served, chat, body)
        assert status == 400, (body[:80], content)
        assert words in json.loads(content)["error"]["message"], content
    status, headers, content = post(served, chat, b"x" * 300_000)
    assert (status, headers["connection"]) == (413, "close")
    assert b"262,144" in content
    ids = json.dumps({"model": "student", "prompt": [5, 10**9]}).encode()
    assert post(served, "/v1/completions", ids)[0] == 400
    assert post(served, chat, b"{}", Origin="https://elsewhere.example")[0] == 403
    assert post(served, chat, b"{}", Host="elsewhere.example")[0] == 400


def test_a_slow_body_and_a_silent_connection_are_hung_up_on(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from understudy.serve import server

    monkeypatch.setattr(server, "SPEECHLESS", 0.5)
    with serving(run, Plan(bounds=Bounds(body_seconds=0.5))) as served:
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as slow:
            slow.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99\r\n\r\n{")
            assert b" 408 " in slow.recv(1000)
        with socket.create_connection(("127.0.0.1", served.port), timeout=20) as silent:
            silent.sendall(b"GET / HT")
            assert silent.recv(1000) == b""


def test_an_answer_that_takes_too_long_is_given_up(run: Run) -> None:
    with serving(run, Plan(bounds=Bounds(seconds=0.001))) as served:
        body = json.dumps({"model": "student", "messages": turns("Who charges?")}).encode()
        status, headers, content = post(served, "/v1/chat/completions", body)
        assert status == 504, content
        assert "retry-after" in headers
        assert served.notebook.exchanges[0].status == 504


def test_what_is_under_way_is_answered_before_the_server_goes(run: Run) -> None:
    with serving(run) as served, client_of(served) as client:
        with ThreadPoolExecutor(4) as pool:
            asked = [
                pool.submit(client.chat.completions.create, model="student", messages=turns(f"question {n}"))
                for n in range(4)
            ]
            until(lambda: served.gateway.admission.under_way > 0)
            under_way = served.gateway.admission.under_way
            served.server.handle_exit(15, None)
            # One that comes when the server already goes may be turned away, in so many words.
            ends = [answer.exception() or answer.result().choices[0].message.content for answer in asked]
            assert sum(isinstance(end, str) for end in ends) >= under_way
            assert all(isinstance(end, str | APIConnectionError | InternalServerError) for end in ends)
        until(lambda: not served.server.started or served.gateway.draining)
        assert served.gateway.draining

        def is_gone() -> bool:
            try:
                status = post(served, "/v1/chat/completions", b"{}")[0]
            except OSError:
                return True
            assert status >= 400
            return False

        until(is_gone)


# -- thumbs and the page -----------------------------------------------------------------------------------------------


def test_thumbs_become_rows_that_a_run_can_read(served: Served) -> None:
    from understudy.data.load import load_splits
    from understudy.recipe import DataConfig

    for verdict, correction in (("up", None), ("down", None), ("down", "CHF")):
        body = {"verdict": verdict, "question": f"Who charges ({verdict}, {correction})?", "answer": "the <b>CHF</b>"}
        body |= {"correction": correction} if correction else {}
        assert post(served, "/v1/feedback", json.dumps(body).encode())[0] == 200
    path = served.gateway.feedback
    assert path is not None
    rows, open_rows = read_jsonl(path), read_jsonl(path.with_name("feedback.unlabelled.jsonl"))
    assert [row["answers"] for row in rows] == [["the <b>CHF</b>"], ["CHF"]]
    assert [row["rejected"] for row in open_rows] == ["the <b>CHF</b>"]
    further = str(path.with_name("feedback.unlabelled.jsonl"))
    data = DataConfig(source=str(path), unlabelled_source=further, dev=0, test=0)
    splits = load_splits(data)
    assert len(splits.train) == 2
    assert len(splits.unlabelled) == 1
    assert [thumb.verdict for thumb in served.notebook.thumbs] == ["up", "down", "down"]


def test_health_openapi_and_page(served: Served) -> None:
    def get(path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=30)
        connection.request("GET", path)
        answer = connection.getresponse()
        assert "default-src 'none'" in (answer.headers["content-security-policy"] or "")
        content = answer.read()
        connection.close()
        return answer.status, content

    assert json.loads(get("/readyz")[1])["status"] == "ready"
    assert get("/healthz")[0] == 200
    paths = json.loads(get("/openapi.json")[1])["paths"]
    assert {"/v1/chat/completions", "/v1/completions", "/v1/answer", "/v1/models"} <= paths.keys()
    status, page = get("/")
    assert status == 200
    assert b"http://" not in page
    assert b"https://" not in page
    assert get("/static/page.js")[0] == get("/static/style.css")[0] == 200
    assert get("/static/..%2fapp.py")[0] == 404
