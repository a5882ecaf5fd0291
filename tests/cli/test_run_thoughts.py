"""Thoughts before answers, from a teacher on a server to a report: learned, shown with neighbours, taken off again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.bundle_teacher import answer, session
from support.house import House, training
from support.servers import Call, Reply, Server
from understudy.bundle_answers import read_answer
from understudy.data.sessions import example_of, row_of
from understudy.data.tasks import with_answer
from understudy.files import read_json, read_jsonl, write_jsonl
from understudy.run import Run
from understudy.sessions.knowledge import SessionKnowledge

KINDS = ("tent mat pen ink", "pen ink", "stove gas", "tent mat")
TRAIN, ASKED = ([session(number, KINDS[number % 4]) for number in part] for part in (range(24), range(24, 28)))
SEEN = "Pens and ink are for writing, see [1, 2]."
"""What the student on the server writes before its answer; a list of numbers in it is no bundle."""


def both(call: Call) -> Reply:
    """The teacher's words, and those of a student that thinks first."""
    if call.body["model"] == "student":
        return Reply(with_answer(SEEN, '{"bundles": [{"items": [3, 4], "intent": "writing"}]}'))
    return answer(call)


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(both) as served:
        yield served


@pytest.fixture
def shop(house: House, server: Server, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.chdir(house.folder)
    write_jsonl(house.folder / "sessions.jsonl", map(row_of, TRAIN))
    write_jsonl(house.folder / "asked.jsonl", map(row_of, ASKED))
    house.recipe |= {
        "data": {
            "source": "sessions.jsonl",
            "test_source": "asked.jsonl",
            "max_length": 1000,
            "max_answer_tokens": 16,
        },
        "teacher": None,
        "generate": {"steps": ["thoughts"], "teacher": {"model": "teacher", "base_url": server.base_url}},
        "knowledge": {"use": "sft_icl", "formats": ["thoughts"], "thoughts": "before", "tokens": 600},
        "distil": training(steps=2),
    }
    house.recipe["evaluate"] |= {"arms": ["informed"], "metrics": ["bundle_f1"], "speed": False}
    return house


def run_of(shop: House, command, *overrides: str) -> Run:
    done = command("run", str(shop.write_recipe()), *overrides)
    assert done.code == 0, done.err
    return Run(shop.run_folder())


def test_a_student_learns_thoughts_before_answers_and_as_rationales(shop: House, command) -> None:
    shop.recipe["tasks"] = {"kind": "rationale_answer", "rationales": "thoughts"}
    shop.recipe["evaluate"]["arms"] = ["informed", "explained"]
    run = run_of(shop, command)
    known = SessionKnowledge.read(run.stage("generate") / "sessions")
    assert len(known.thoughts) > 10
    done = {arm: read_json(run.stage(f"train-{arm}") / "done.json") for arm in ("informed", "explained")}
    assert 0 <= done["informed"]["best_bundle_f1"] <= 1
    # Neighbours come from training, one that a thought is known of.
    told = {thought.session for thought in known.thoughts}
    shown = list(read_jsonl(run.stage("predict-informed") / "shown.jsonl"))
    assert len(shown) == len(ASKED)
    assert any(row["neighbours"] for row in shown)
    assert all(told.issuperset(row["neighbours"]) and not row["lines"] for row in shown), "the thought is in its answer"
    table = read_json(run.folder / "scores.json")["overall"]["table"]
    assert {"informed", "explained"} <= table.keys()


def test_a_served_student_is_shown_thoughts_before_answers_and_its_own_is_taken_off(
    shop: House, command, server: Server
) -> None:
    shop.recipe["knowledge"] |= {"use": "icl", "endpoint": {"model": "student", "base_url": server.base_url}}
    run = run_of(shop, command)
    thought_on = {row.session: row.text for row in SessionKnowledge.read(run.stage("generate") / "sessions").thoughts}
    answers = {row.id: example_of(row).answers[0] for row in TRAIN}
    written = {with_answer(thought, answers[name]) for name, thought in thought_on.items()}
    asked = [call.body["messages"] for call in server.calls if call.body["model"] == "student"]
    assert len(asked) == len(ASKED)
    for turns in asked:
        assert [turn["role"] for turn in turns] == ["user", "assistant", "user"]
        assert turns[1]["content"] in written
    predictions = run.predictions("informed")
    assert {row.prediction for row in predictions} == {'{"bundles": [{"items": [3, 4], "intent": "writing"}]}'}
    assert all(len(read_answer(row.prediction or "") or ()) == 1 for row in predictions)


def test_knowledge_of_an_earlier_run_is_used_by_the_name_of_its_folder(shop: House, command, server: Server) -> None:
    shop.recipe["knowledge"] |= {"use": "icl", "endpoint": {"model": "student", "base_url": server.base_url}}
    first = run_of(shop, command).folder
    shop.recipe |= {"name": "second", "generate": None}
    shop.recipe["knowledge"]["folder"] = str(first)
    done = command("run", str(shop.write_recipe()))
    assert done.code == 0, done.err
    [second] = (folder for folder in (shop.folder / "runs").iterdir() if folder.name.startswith("second"))
    one, other = (list(read_jsonl(Run(run).stage("predict-informed") / "shown.jsonl")) for run in (first, second))
    assert one == other


def test_a_folder_without_knowledge_is_said_before_anything_is_done(shop: House, command, server: Server) -> None:
    shop.recipe["knowledge"]["folder"] = "nowhere"
    done = command("run", str(shop.write_recipe()))
    assert done.code == 1
    assert "error: nowhere holds no knowledge of sessions" in done.err
    assert not server.calls, "nobody was asked"


def test_formats_that_no_step_writes_are_refused(shop: House, command) -> None:
    shop.recipe["knowledge"]["formats"] = ["rules"]
    done = command("run", str(shop.write_recipe()))
    assert done.code == 1
    assert "knowledge.formats: generate.steps writes none of rules" in done.err
