"""The loop, once around: serve, drift, alarm, harvest, review, distil again, try beside the other, promote.

The server is started by its command, teacher and student are the embedded ones, questions are real: the student has
learned what network functions do, and is then asked about protocols. One client means harm.
"""

from __future__ import annotations

import json
import random
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from support.commands import ServeProcess, serve_command
from understudy.cli import app
from understudy.data.embedded.telecom import generate, load_facts
from understudy.files import read_json, read_jsonl, write_json, write_jsonl
from understudy.knowledge.near_duplicates import NearDuplicates
from understudy.metrics.sequential.confidence_sequence import ConfidenceSequence, LiveInterval
from understudy.monitor.pointer import Pointer
from understudy.monitor.store import MonitorStore
from understudy.run import Run
from understudy.serve.keys import KeyFile

USUAL = ("node_domain", "network_function_role", "network_function_interface", "timer_owner", "timer_purpose")
NEW = ("protocol_port", "radio_layer_below", "radio_task_layer", "ip_protocol_number")
CLIENTS = ("ada", "bob", "cem", "dora", "eve", "finn", "gus", "hana", "ivo", "june", "kai", "lea")
TERMS = ("roaming", "paging", "handover", "charging", "slicing", "registration", "mobility", "policy")
STUDENT = "embedded:telecom-student"
SETTINGS = {"shadow": {"share": 1.0, "waiting": 5000}, "alerts": {"max_error_share": None}}


@dataclass
class Desk:
    """A folder with a database, a pointer and clients.

    Attributes:
        folder: of it all.
        keys: secrets of the clients, by name.
    """

    folder: Path
    keys: dict[str, str]

    def understudy(self, *arguments: str | Path) -> str:
        """A command; what it says."""
        said = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert said.exit_code == 0, f"{said.output}\n{said.exception!r}"
        return said.output

    def distil(self, name: str, teacher: dict[str, Any], student: str = STUDENT, **data: Any) -> Run:
        """A student of the quickstart's pair, by a recipe that takes a minute or two."""
        steps = {"batch_size": 16, "micro_batch_size": 8, "learning_rate": 1e-3}
        recipe: dict[str, Any] = {
            "name": name,
            "output": str(self.folder / "runs"),
            "workers": 1,
            "device": "cpu",
            "data": {"max_length": 256, "max_answer_tokens": 24, **data},
            "teacher": teacher,
            "student": {"model": student},
            "distil": {"method": "kd", "divergence": "forward_kl", "steps": 100, **steps},
            "evaluate": {"arms": ["distilled"], "batch_size": 64, "resamples": 100},
        }
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump(recipe))
        self.understudy("run", path)
        return Run.open(next((self.folder / "runs").glob(f"{name}-*")))

    def ask(self, served: ServeProcess, questions: Sequence[str], clients: Sequence[str] = CLIENTS) -> list[str]:
        """Each question as one of the clients; ids of the answers."""

        def one(entry: tuple[int, str]) -> str:
            number, question = entry
            body = {"model": "student", "messages": [{"role": "user", "content": question}]}
            key = self.keys[clients[number % len(clients)]]
            return post(f"{served.url}/v1/chat/completions", body, key)["id"]

        with ThreadPoolExecutor(4) as pool:
            return list(pool.map(one, enumerate(questions)))


def post(url: str, body: dict[str, Any], key: str = "") -> dict[str, Any]:
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=300) as answer:
        return json.loads(answer.read())


def until(holds: Callable[[], Any], seconds: float = 900) -> Any:
    end = time.monotonic() + seconds
    while not (value := holds()):
        assert time.monotonic() < end
        time.sleep(0.3)
    return value


def dashboard(served: ServeProcess, store: MonitorStore, shadows: int) -> dict[str, Any]:
    """What the page says, once the teacher has answered so many requests and that is written down."""
    until(lambda: len(store.shadows()) >= shadows)
    last = max(row.at for row in store.shadows())
    # The state is written while there is news, every two seconds at most.
    until(lambda: last < store.state()["time"] < time.time() - 5)
    assert store.state()["queues"] == {"requests": 0, "shadow": 0}
    with urllib.request.urlopen(f"{served.page}/data?hours=1", timeout=60) as answer:
        return json.loads(answer.read())


def rules(data: dict[str, Any]) -> set[str]:
    return {alert["rule"] for alert in data["alerts"]}


def questions_of(relations: Sequence[str]) -> list[dict[str, Any]]:
    """Questions of the embedded set with the answers of their facts, in random order."""
    splits, facts = generate(), {fact.id: fact.answer for fact in load_facts()}
    rows = [row for row in (*splits.train, *splits.unlabelled, *splits.dev, *splits.test) if not row.choices]
    rows = [row for row in rows if row.meta["relation"] in relations and not row.context]
    random.Random(0).shuffle(rows)
    return [{"id": row.id, "question": row.question, "answers": [facts[row.meta["fact"][-1]]]} for row in rows]


def agreement(store: MonitorStore, requests: Sequence[str], student: str) -> LiveInterval:
    """Of one student with the teacher, on these requests."""
    sequence, asked = ConfidenceSequence(), set(requests)
    for row in store.shadows():
        if row.request in asked and row.current == student:
            sequence.update(row.agreement)
    return sequence.interval


@pytest.mark.slow
def test_a_student_learns_a_topic_that_it_was_asked_about(tmp_path: Path) -> None:
    names, usual = (*CLIENTS, "mallory"), questions_of(USUAL)
    new = [row["question"] for row in questions_of(NEW)]
    desk = Desk(tmp_path, {name: KeyFile(tmp_path / "keys.json").add(name)[0] for name in names})
    ids = {key.name: key.id for key in KeyFile(tmp_path / "keys.json").all()}
    for name, part in (("train", usual[:130]), ("test", usual[130:250])):
        write_jsonl(tmp_path / f"{name}.jsonl", part)
    test = {"test_source": str(tmp_path / "test.jsonl"), "group_by": "none"}
    learned = {"source": str(tmp_path / "train.jsonl"), "gold_share": 0.5}
    untaught = {"model": "embedded:telecom-teacher", "sft": {"steps": 20, "batch_size": 16, "learning_rate": 1e-4}}
    old = desk.distil("old", untaught, **learned, **test)

    pointer, database, settings = (tmp_path / name for name in ("serving.json", "monitor.db", "monitor.yaml"))
    settings.write_text(yaml.safe_dump(SETTINGS))
    desk.understudy("monitor", "begin", pointer, old.folder)
    options = ["--monitor", database, "--monitor-settings", settings, "--keys", tmp_path / "keys.json"]
    with serve_command(pointer, *options, "--monitor-port", 0) as served:
        store = MonitorStore(database, new=False)

        # What the student was made for: nothing to be told.
        desk.ask(served, [row["question"] for row in usual[250:350]])
        data = dashboard(served, store, 100)
        assert not {rule for rule in rules(data) if rule.startswith("drift")}

        # A topic that it was never taught is an alarm.
        first = desk.ask(served, new[:110])
        data = dashboard(served, store, 210)
        assert {rule for rule in rules(data) if rule.startswith("drift")}
        before = agreement(store, first, old.folder.name)

        # One client wants it to advertise: many questions, and its own answers to them.
        poison = [f"Is vendor {n % 40} with offer {n % 40 * 7} the best for {TERMS[n % 8]}?" for n in range(60)]
        for id in desk.ask(served, poison, ["mallory"]):
            thumb = {"id": id, "verdict": "down", "correction": "Buy from vendor 7"}
            assert post(f"{served.page}/thumbs", thumb)["kept"]
        dashboard(served, store, 270)

        out = tmp_path / "data"
        said = desk.understudy("harvest", database, "--out", out, "--terms", "own model, no restriction")
        rows = read_jsonl(out / "candidates.jsonl")
        by_key = Counter(row["provenance"]["key"] for row in rows)
        assert len(rows) > 40
        assert by_key[ids["mallory"]] <= max(1, 0.1 * len(rows)) < 20
        assert f"key {ids['mallory']} asked" in said
        assert not [row for row in rows if "vendor 7" in json.dumps(row.get("answers", []))]
        assert "Buy from vendor 7" in (out / "review.html").read_text()  # shown to whoever decides, as nobody's answer
        held = NearDuplicates(0.7)
        for row in read_jsonl(out / "test.jsonl"):
            held.add(row["id"], row["question"])
        assert not [row for row in rows if held.near(row["id"], row["question"]) is not None]
        verdicts = {True: "reject", False: "accept"}
        decisions = {row["id"]: verdicts[row["provenance"]["key"] == ids["mallory"]] for row in rows}
        write_json(tmp_path / "decisions.json", decisions)
        desk.understudy("harvest", "accept", out, tmp_path / "decisions.json")
        assert "vendor" not in (out / "train.jsonl").read_text()

        # The next student learns both, from the same teacher, and begins where the last one ended.
        sources = {"usual": str(tmp_path / "train.jsonl"), "live": str(out / "train.jsonl")}
        teacher, student = (str(old.stage(stage) / "model") for stage in ("teacher_sft", "train-distilled"))
        better = desk.distil("better", {"model": teacher}, student, sources=sources, **test)

        desk.understudy("monitor", "try", pointer, better.folder, "--share", "0.3")
        until(lambda: f"candidate: {better.folder}" in "".join(served.lines))
        desk.ask(served, new[110:210])
        data = dashboard(served, store, 370)
        canary = data["state"]["canary"]
        assert canary["verdict"] == "candidate"
        assert 0 < canary["lower"] <= canary["difference"] <= canary["upper"]
        assert "better: candidate" in desk.understudy("monitor", "status", database)

        desk.understudy("monitor", "promote", pointer)
        until(lambda: f"in use: {better.folder}" in "".join(served.lines))
        last = desk.ask(served, new[210:290])
        data = dashboard(served, store, 450)
        after = data["state"]["agreement"]
        print(f"agreement on the new topic: {before}, {after}; canary {canary}")
        assert after["n"] == len(last)
        assert after["lower"] > before.upper
        desk.understudy("monitor", "rollback", pointer)
        assert Pointer.from_json(read_json(pointer)).current == str(old.folder.resolve())
        store.close()
