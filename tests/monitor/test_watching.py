"""A watched gateway: shadow, canary, alerts and thumbs, with real models, a real server and a real webhook."""

from __future__ import annotations

import asyncio
import http.server
import json
import random
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.exchanges import exchange
from support.serving import causal_run
from understudy.monitor.config import AlertConfig, MonitorConfig, ShadowConfig
from understudy.monitor.live import open_watching
from understudy.monitor.observer import Monitor
from understudy.monitor.pointer import PointerFile
from understudy.monitor.reference import Reference
from understudy.monitor.serving import page_beside
from understudy.monitor.signals import Observation
from understudy.monitor.store import MonitorStore
from understudy.run import Run
from understudy.serve.answers import answer_with, example_of
from understudy.serve.exchange import Exchange, Thumb
from understudy.serve.opening import Plan
from understudy.web.listening import listen

ALL = MonitorConfig(shadow=ShadowConfig(share=1.0))


@contextmanager
def webhook(refusals: int = 0) -> Iterator[tuple[str, list[dict]]]:
    """A server that takes alerts, after it has refused the first of them."""
    told: list[dict] = []
    left = [refusals]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            refused = left[0] > 0
            left[0] -= 1
            self.send_response(503 if refused else 204)
            self.end_headers()
            if not refused:
                told.append(body)

        def log_message(self, *words: Any) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/alerts", told
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def get(url: str, body: dict | None = None, **headers: str) -> tuple[int, str]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": "application/json", **headers})
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_slow_or_broken_teacher_never_holds_up_an_answer(tmp_path: Path) -> None:
    asked = []

    def teacher(told: Exchange) -> str:
        asked.append(told.id)
        time.sleep(0.05)
        if len(asked) == 2:
            raise RuntimeError("down")
        return "an answer"

    config = MonitorConfig(shadow=ShadowConfig(share=1.0, waiting=5))
    monitor = Monitor(MonitorStore(tmp_path / "m.db"), config, teacher=teacher)
    begin = time.perf_counter()
    for number in range(200):
        monitor.finished(exchange(f"r{number}", f"question {number}"))
    assert time.perf_counter() - begin < 0.5
    monitor.drain()
    counts = {
        outcome: monitor.figures.shadow.labels(outcome)._value.get() for outcome in ("asked", "passed over", "failed")
    }
    assert counts["asked"] + counts["passed over"] == 200
    assert counts["failed"] == 1
    assert counts["passed over"] > 0
    assert monitor.store.count() == 200
    assert len(monitor.store.shadows()) == counts["asked"] - 1
    assert monitor.agreement.sequence.interval.n == counts["asked"] - 1
    monitor.close()


def test_the_interval_goes_on_after_a_restart(tmp_path: Path) -> None:
    config = MonitorConfig(shadow=ShadowConfig(share=0.5, unsure_share=0.9))
    said = []
    for restart in range(2):
        monitor = Monitor(MonitorStore(tmp_path / "m.db"), config, teacher=lambda told: "an answer", seed=restart)
        said.append(monitor.agreement.sequence.interval)
        for number in range(150):
            answer = "an answer" if number % 4 else "something else entirely"
            told = exchange(f"r{restart}-{number}", "q", answer, confidence=0.9 if number % 4 else 0.1)
            monitor.finished(told)
        monitor.drain()
        said.append(monitor.agreement.sequence.interval)
        monitor.close()
    assert said[1] == said[2]
    assert said[3].n > said[2].n
    # Three in four agree; the others were sampled nearly twice as often.
    assert said[3].lower < 0.75 < said[3].upper
    assert said[3].upper - said[3].lower < 0.3


def test_off_is_one_switch(tmp_path: Path) -> None:
    monitor = Monitor(MonitorStore(tmp_path / "m.db"), MonitorConfig(on=False), teacher=lambda told: "x")
    monitor.finished(exchange("a", "q"))
    monitor.thumbed(Thumb("up", "q", "a", id="a"))
    monitor.drain()
    assert monitor.store.count() == 0
    monitor.close()


def test_a_share_is_kept_and_failures_always(tmp_path: Path) -> None:
    monitor = Monitor(MonitorStore(tmp_path / "m.db"), MonitorConfig(sample=0.2), seed=1)
    for number in range(500):
        monitor.finished(exchange(f"r{number}", "q"))
    for number in range(20):
        monitor.finished(exchange(f"f{number}", "q", None, status=503, error="the engine is gone"))
    monitor.drain()
    assert 70 < monitor.store.count() - 20 < 135
    assert all(monitor.store.request(f"f{number}") for number in range(20))
    monitor.close()


def test_vectors_are_counted_and_no_question_is_made_of_them(tmp_path: Path) -> None:
    config = MonitorConfig(shadow={"share": 1.0})  # pyright: ignore[reportArgumentType]
    monitor = Monitor(MonitorStore(tmp_path / "m.db"), config, teacher=lambda told: "an answer")
    monitor.finished(exchange("v", "a text", None, endpoint="/v1/embeddings", completion_tokens=0))
    monitor.finished(exchange("w", "a text", None, endpoint="/v1/embeddings", status=503))
    monitor.finished(exchange("a", "a question"))
    monitor.drain()
    assert monitor.store.request("a")
    assert monitor.store.count() == 1
    assert monitor.figures.text().count(b"understudy_requests_total{") == 2
    monitor.close()


def usual(number: int, rng: random.Random) -> tuple[str, str]:
    band = rng.choice(("n78", "n41", "n1", "n28", "n77"))
    kind = rng.choice(("duplex mode", "uplink range", "downlink range", "widest channel", "region"))
    return f"What is the {kind} of NR band {band}{'?' * rng.randint(1, 2)}", f"It is {rng.choice(('TDD', 'FDD'))}."


def test_a_new_topic_raises_an_alarm_that_reaches_the_webhook(tmp_path: Path) -> None:
    rng = random.Random(0)
    reference = Reference([Observation(*usual(number, rng)) for number in range(300)])
    with webhook(refusals=1) as (url, told):
        config = MonitorConfig(alerts=AlertConfig(webhook=url))
        monitor = Monitor(MonitorStore(tmp_path / "m.db"), config, reference=reference)
        for number in range(200):
            monitor.finished(exchange(f"u{number}", *usual(number, rng)))
        monitor.drain()
        assert not told
        for number in range(60):
            monitor.finished(
                exchange(f"n{number}", f"Which recipe for bread needs {number} grams of rye flour?", "Bread.")
            )
        monitor.drain()
        levels = monitor.state()["drift"]
        monitor.close()
    assert {alert["rule"] for alert in told} & {"drift:distance", "drift:question_length", "drift:answer_length"}
    assert len({alert["rule"] for alert in told}) == len(told)  # each rule once an hour
    assert set(levels) >= {"distance", "mmd", "topics", "refusal"}
    assert "confidence" not in levels  # the reference has none
    store = MonitorStore(tmp_path / "m.db")
    with store.reading() as connection:
        alerts = list(connection.exec_driver_sql("select rule, told from alerts"))
    assert {rule for rule, sent in alerts if sent} == {alert["rule"] for alert in told}
    store.close()


def test_failures_time_and_agreement_have_bounds(tmp_path: Path) -> None:
    with webhook() as (url, told):
        alerts = AlertConfig(webhook=url, max_seconds=1.0, min_agreement=0.9)
        config = MonitorConfig(alerts=alerts, shadow=ShadowConfig(share=1.0, waiting=1000))
        monitor = Monitor(MonitorStore(tmp_path / "m.db"), config, teacher=lambda told: "something else entirely")
        for number in range(250):
            failed = number % 10 == 0
            answer, status = (None, 500) if failed else ("an answer", 200)
            monitor.finished(exchange(f"r{number}", "q", answer, status=status, seconds=1.5))
        monitor.drain()
        monitor.close()
    assert {alert["rule"] for alert in told} >= {"errors", "latency", "agreement"}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return causal_run(tmp_path_factory.mktemp("served"))


def test_a_gateway_is_watched(run: Run, tmp_path: Path) -> None:
    from support.serving import serve_for_a_test

    watching = open_watching(run, Plan(), None, str(tmp_path / "m.db"), ALL)
    assert watching.monitor is not None
    with (
        serve_for_a_test(watching.gateway) as url,
        page_beside(watching.monitor.store, listen("127.0.0.1", 0), watching.monitor.figures) as page,
    ):
        chat = {"model": "student", "messages": [{"role": "user", "content": "What is the NR band n78?"}]}
        status, answer = get(f"{url}/v1/chat/completions", chat)
        assert status == 200, answer
        watching.monitor.drain()
        id = json.loads(answer)["id"]
        kept, shadow = watching.monitor.store.request(id), watching.monitor.store.shadows()[0]
        assert kept is not None
        assert (kept.question, kept.answer) == (
            "What is the NR band n78?",
            json.loads(answer)["choices"][0]["message"]["content"],
        )
        assert (shadow.request, shadow.probability) == (id, 1.0)
        # The teacher's answer is what it says when it is asked itself.
        assert shadow.answer == teacher_answer(run, "What is the NR band n78?")
        status, text = get(f"{page}/metrics")
        assert "understudy_shadow_agreement" in text
        assert 'understudy_gateway_answers{state="under_way"} 0.0' in text
        assert 'understudy_requests_total{decision="",source="student",status="200"} 1.0' in text
        assert get(f"{page}/thumbs", {"id": id, "verdict": "down", "correction": "x"})[0] == 201
        assert get(f"{page}/thumbs", {"id": "none", "verdict": "down"})[0] == 404
        assert get(f"{page}/thumbs", {"id": id, "verdict": "sideways"})[0] == 422
        tiles = {tile["name"]: tile["value"] for tile in json.loads(get(f"{page}/data?hours=1")[1])["tiles"]}
        assert (tiles["requests"], tiles["thumbs up / down"], tiles["answers under way"]) == ("1", "0 / 1", "0")
        assert get(f"{page}/data?hours=0")[0] == 422
        assert get(f"{page}/healthz")[0] == 200
    watching.close()


def teacher_answer(run: Run, question: str) -> str:
    from understudy.serve.sides import open_side

    async def ask() -> str:
        side = open_side(run, "teacher")
        answer = (await answer_with(side, example_of(question))).answer
        await side.close()
        return answer

    return asyncio.run(ask())


def test_a_reader_needs_the_token_where_there_is_one(tmp_path: Path) -> None:
    import base64

    store = MonitorStore(tmp_path / "m.db")
    with page_beside(store, listen("127.0.0.1", 0), token="secret") as page:
        assert get(f"{page}/")[0] == 401
        assert get(f"{page}/metrics", Authorization="Bearer wrong")[0] == 401
        assert get(f"{page}/metrics", Authorization="Bearer secret")[0] == 200
        basic = base64.b64encode(b"anybody:secret").decode()
        assert get(f"{page}/", Authorization=f"Basic {basic}")[0] == 200
    store.close()


def test_a_candidate_is_tried_promoted_and_rolled_back_while_it_serves(run: Run, tmp_path: Path) -> None:
    from support.serving import serve_for_a_test

    other = causal_run(tmp_path / "other", name="other", seed=9)
    pointer = PointerFile(tmp_path / "serving.json")
    pointer.begin(str(run.folder))
    watching = open_watching(run, Plan(), pointer.path, str(tmp_path / "m.db"), ALL)
    deployment, monitor = watching.deployment, watching.monitor
    assert deployment is not None
    assert monitor is not None
    failures: list[int] = []
    end = threading.Event()

    def ask(url: str) -> None:
        while not end.is_set():
            chat = {"messages": [{"role": "user", "content": "What is a slice?"}]}
            failures.append(get(f"{url}/v1/chat/completions", chat)[0])

    with serve_for_a_test(watching.gateway) as url:
        client = threading.Thread(target=ask, args=(url,))
        client.start()
        pointer.attempt(str(other.folder), 0.5)
        deployment.look()
        until(lambda: len(monitor.store.shadows()) > 8)
        assert "candidate" not in json.loads(get(f"{url}/v1/models")[1])["data"][0]["id"]
        pointer.promote()
        deployment.look()
        assert watching.gateway.run.folder.name == other.folder.name
        pointer.roll_back()
        deployment.look()
        assert watching.gateway.run.folder.name == run.folder.name
        end.set()
        client.join()
    monitor.drain()
    rows = [row for row in monitor.store.shadows() if row.candidate]
    assert rows
    assert all(row.candidate_agreement is not None for row in rows)
    sources = {getattr(monitor.store.request(row.request), "source", None) for row in rows}
    assert sources == {"student", "candidate"}
    assert set(failures) == {200}
    watching.close()


def until(holds: Any, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_pointer_that_cannot_be_followed_changes_nothing(run: Run, tmp_path: Path) -> None:
    pointer = PointerFile(tmp_path / "serving.json")
    pointer.begin(str(run.folder))
    watching = open_watching(run, Plan(), pointer.path, None, ALL)
    assert watching.deployment is not None
    before = watching.gateway.sides
    pointer.attempt(str(tmp_path / "nowhere"), 0.5)
    assert watching.deployment.look() is False
    assert watching.gateway.sides is before
    watching.close()
    asyncio.run(watching.gateway.close())
