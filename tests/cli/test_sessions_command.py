"""Knowledge of a session log from the command line: written, joined, and a teacher in context beside the baselines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.asking import completer
from support.bundle_teacher import RULES, answer, prompt_of, session
from support.house import House
from support.servers import Call, Reply, Server
from understudy.bundle_answers import Bundle, read_answer
from understudy.data.sessions import Session, example_of, row_of, session_of
from understudy.errors import ConfigError, DataError
from understudy.files import read_jsonl, write_jsonl
from understudy.knowledge.adaptive import lessons_of
from understudy.knowledge.session_answers import Asking, session_answers
from understudy.knowledge.session_sample import sampled
from understudy.recipe.knowledge import SessionsConfig
from understudy.run import Run
from understudy.sessions.knowledge import SessionKnowledge, Statement
from understudy.sessions.neighbours import Neighbours

KINDS = ("stove gas tent mat lamp", "tent mat pen ink", "stove gas lamp tent mat", "pen ink")


def sessions(count: int, start: int = 0, domain: str = "") -> list[Session]:
    rows = [session(number, KINDS[number % 4]) for number in range(start, start + count)]
    return [Session(f"{domain}{row.id}", row.items, row.bundles, domain) for row in rows]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(answer) as served:
        yield served


@pytest.fixture
def shop(house: House, server: Server, monkeypatch: pytest.MonkeyPatch) -> House:
    monkeypatch.chdir(house.folder)
    write_jsonl(house.folder / "sessions.jsonl", map(row_of, sessions(40)))
    write_jsonl(house.folder / "asked.jsonl", map(row_of, sessions(8, start=40)))
    house.recipe["data"] = {
        "source": "sessions.jsonl",
        "test_source": "asked.jsonl",
        "max_length": 400,
        "max_answer_tokens": 64,
    }
    house.recipe["teacher"] = None
    house.recipe["evaluate"] |= {"arms": ["sft"], "metrics": ["bundles"]}
    house.recipe["generate"] = {
        "steps": ["patterns", "rules", "thoughts"],
        "teacher": {"model": "m", "base_url": server.base_url},
        "sessions": {"support": 0.05, "validation_share": 0.4},
    }
    return house


def test_knowledge_is_written_in_quantities_and_joined_within_a_budget(shop: House, command) -> None:
    recipe = str(shop.write_recipe())
    written = {}
    for ratio in ("1.0", "0.5"):
        done = command("generate", recipe, f"generate.sessions.ratio={ratio}")
        assert done.code == 0, done.err
        for step in ("patterns", "rules.questions", "rules", "thoughts.questions", "thoughts"):
            assert step in done.out
        folder = max((shop.folder / "runs").iterdir(), key=lambda path: path.stat().st_mtime)
        written[ratio] = SessionKnowledge.read(Run(folder).stage("generate") / "sessions")
    whole, half = written["1.0"], written["0.5"]
    assert {statement.text for statement in whole.statements if statement.kind == "rule"} <= set(RULES.values())
    assert {thought.session for thought in half.thoughts} < {thought.session for thought in whole.thoughts}
    done = command("sessions", "knowledge", *map(str, (shop.folder / "runs").iterdir()), "--format", "rules")
    assert done.code == 0, done.err
    joined = SessionKnowledge.read(shop.folder / "knowledge")
    assert set(joined.statements) == {s for s in (*whole.statements, *half.statements) if s.kind == "rule"}
    done = command("sessions", "knowledge", str(folder), "--tokens", "120", "--out", "small")
    assert done.code == 0, done.err
    small = SessionKnowledge.read(shop.folder / "small")
    assert 0 < len(small.statements) + len(small.thoughts) < len(half.statements) + len(half.thoughts)
    done = command("sessions", "knowledge", str(folder), "--tokens", "300", "--tokenizer", str(shop.models / "student"))
    assert done.code == 0, done.err
    assert " tokens: knowledge" in done.out
    assert command("sessions", "knowledge", "nowhere").code == 1


def test_a_budget_that_holds_no_text_is_said_and_nothing_written(tmp_path: Path, command) -> None:
    SessionKnowledge((Statement("rule", "A tent goes with a mat."),)).write(tmp_path / "known")
    refused = {"--tokens=3": "of patterns, rules, thoughts within 3 tokens", "--format=thoughts": "of thoughts in"}
    for option, message in refused.items():
        done = command("sessions", "knowledge", str(tmp_path / "known"), option, "--out", str(tmp_path / "out"))
        assert done.code == 1
        assert f"there is no text {message}" in done.err
    assert not (tmp_path / "out").exists()


def test_a_teacher_in_context_stands_beside_the_baselines(shop: House, command, server: Server) -> None:
    recipe = str(shop.write_recipe())
    # Answers are kept: the adaptive loop's first ones of the plain or nearest method are not paid for again.
    for method, calls in (("plain", 8), ("nearest", 8), ("adaptive", 8 * 2)):
        server.calls.clear()
        done = command("sessions", "answer", recipe, "--method", method, "--out", f"{method}.jsonl")
        assert done.code == 0, done.err
        rows = list(read_jsonl(shop.folder / f"{method}.jsonl"))
        assert [row["id"] for row in rows] == [f"s{number}" for number in range(40, 48)]
        assert all(read_answer(row["prediction"]) for row in rows)
        assert len(server.calls) >= calls
    assert command("sessions", "baselines", recipe).code == 0
    done = command("compare", "adaptive.jsonl", "baselines/all_in_one.jsonl", "--metrics", "bundle_f1")
    assert done.code == 0, done.err


def test_a_teacher_that_can_answer_nothing_is_named_with_the_reason(shop: House, command, server: Server) -> None:
    server.script = lambda call: Reply("context length exceeded", status=400)
    plain = ("sessions", "answer", str(shop.write_recipe()), "generate.teacher.max_retries=0", "--method", "plain")
    done = command(*plain, "generate.teacher.model=short")
    assert done.code == 1
    assert "short answered none of 8 questions" in done.err
    assert not (shop.folder / "answers.jsonl").exists()
    server.script = lambda call: answer(call) if call.number % 2 else Reply("broken", status=500)
    done = command(*plain, "generate.teacher.model=broken")
    assert done.code == 1
    assert "answers did not come (server " in done.err
    assert "which may pass; the first: server: " in done.err
    assert not (shop.folder / "answers.jsonl").exists(), "half a file is none"


# What a test session may know -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["plain", "nearest", "adaptive"])
def test_the_truth_of_a_test_session_changes_no_question(method: str, server: Server) -> None:
    train, test = sessions(20), sessions(6, start=20)
    bodies = []
    for bundles in (None, (Bundle((1, 2), "nothing of the kind"),)):
        server.calls.clear()
        asked = [row if bundles is None else Session(row.id, row.items, bundles) for row in test]
        session_answers(method, train, asked, Asking(completer(server)))
        bodies.append(sorted(json.dumps(call.body["messages"]) for call in server.calls))
    assert bodies[0] == bodies[1]


def test_whatever_is_shown_comes_from_training_sessions(server: Server) -> None:
    train, test = sessions(20), sessions(6, start=20)
    session_answers("adaptive", train, test, Asking(completer(server)))
    titles = {item.title for row in test for item in row.items}
    for call in server.calls:
        *shown, _ = call.body["messages"]
        assert not any(title in turn["content"] for title in titles for turn in shown)
    corrections = [call for call in server.calls if prompt_of(call) == "adjust_bundles"]
    assert any(len(call.body["messages"]) > 1 for call in corrections)


def test_feedback_without_truth_mends_what_can_be_told() -> None:
    """A first answer of a single item and one from elsewhere is corrected; a wrong but sound one is left alone."""

    def script(call: Call) -> Reply:
        text = call.body["messages"][-1]["content"]
        if prompt_of(call) == "detect_bundles":
            return Reply('{"bundles": [{"items": [1]}, {"items": [2, 77]}]}' if "Norv tent 21" in text else "1, 3")
        if prompt_of(call) == "adjust_bundles" and "Not among the items: 77." in text:
            assert "- Bundle [1] has one item." in text
            return Reply('{"bundles": [{"items": [1, 2], "intent": "a night outside"}]}')
        return answer(call)

    test = [session(21, "tent mat lamp"), session(22, "tent mat lamp")]
    with Server(script) as server:
        first, second = session_answers("adaptive", sessions(4), test, Asking(completer(server)))
    assert json.loads(first)["bundles"][0]["items"] == [1, 2]
    assert json.loads(second)["bundles"][0]["items"] == [1, 3]


def test_a_lesson_shows_an_error_only_where_there_was_one() -> None:
    train = sessions(8)
    right = {row.id: example_of(row).answers[0] for row in train}
    lessons = lessons_of(train, Neighbours(train), wrong=right)
    assert all(not lesson.feedback and not lesson.first for lesson in lessons.values())
    lessons = lessons_of(train, Neighbours(train), wrong={**right, "s1": "1, 3"})
    wrong = [lesson for lesson in lessons.values() if lesson.session.id == "s1"]
    assert wrong
    assert all(lesson.first == "1, 3" and lesson.feedback for lesson in wrong)
    assert all(lesson.session.id != name for name, lesson in lessons.items())


# Which sessions are written about -------------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["random", "length", "diversity", "difficulty"])
def test_samples_of_a_recipe_are_nested_at_one_seed(sampler: str, tmp_path: Path) -> None:
    rows = [example_of(row) for row in sessions(40)]
    write_jsonl(tmp_path / "answers.jsonl", ({"id": row.id, "prediction": "1, 2"} for row in rows))
    more = {"sampler": sampler, "difficulty_from": str(tmp_path / "answers.jsonl")}
    parts = [[row.id for row in sampled(rows, SessionsConfig(ratio=ratio, **more), 3)] for ratio in (0.1, 0.3, 1)]
    assert [len(part) for part in parts] == [4, 12, 40]
    assert set(parts[0]) < set(parts[1]) < set(parts[2])
    assert parts[2] == [row.id for row in rows]


def test_a_file_of_answers_without_answers_makes_nothing_hard(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "a.jsonl", ({"id": f"s{number}", "answer": "1, 2"} for number in range(4)))
    config = SessionsConfig(sampler="difficulty", ratio=0.5, difficulty_from=str(tmp_path / "a.jsonl"))
    with pytest.raises(DataError, match=r"a.jsonl:1: prediction: absent"):
        sampled([example_of(row) for row in sessions(4)], config, 0)


def test_a_sample_of_what_is_no_session_or_without_figures_is_refused() -> None:
    rows = [example_of(row) for row in sessions(4)]
    with pytest.raises(ConfigError, match="difficulty needs a figure"):
        sampled(rows, SessionsConfig(sampler="difficulty", ratio=0.5), 0)
    with pytest.raises(DataError, match="no sessions of items"):
        sampled([*rows, type(rows[0])("q", "What?", ("x",))], SessionsConfig(), 0)
    assert [session_of(row).id for row in sampled(rows, SessionsConfig(ratio=0.01), 0)]
