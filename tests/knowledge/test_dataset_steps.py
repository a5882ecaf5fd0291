"""Steps whose scope is the data set: in one plan with others, killed, interrupted, out of budget, of a user's own."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from support.asking import completer
from support.bundle_teacher import answer, session
from support.servers import Call, Reply, Server
from understudy.completers.nobody import Nobody
from understudy.data.sessions import example_of
from understudy.errors import ConfigError, TeacherError
from understudy.knowledge.pipeline import generate
from understudy.knowledge.requests import messages_fingerprint
from understudy.knowledge.step import STEPS
from understudy.knowledge.store import read_step
from understudy.recipe.knowledge import GenerateConfig, SessionsConfig
from understudy.sessions.knowledge import SessionKnowledge
from understudy.types import Example, Knowledge, Message

HERE = Path(__file__).resolve().parents[1]
AT_ONCE = 8
OWN = '''
from understudy.knowledge.step import Learned, Question, step

@step("common", scope="dataset", needs=("explain",))
def common(data):
    """What the explanations have in common, and which is the longest."""
    texts = [row.text for row in data.texts("explain")]
    yield from map(Learned, data.ask({"all": Question.of("In common? " + " | ".join(sorted(texts)))}).values())
    longest = max(data.texts("explain"), key=lambda row: (len(row.text), row.id))
    yield Learned(longest.text, id=longest.id, details={"letters": len(longest.text)})

@step("apply_it", needs=("common",))
def apply_it(example, known, draw):
    """An example by what all have in common."""
    yield Question.of(f"{example.question} Keep in mind: {known.text('common')}")

@step("count_rows", scope="dataset")
def count_rows(data):
    """A step that asks nobody."""
    yield Learned(f"There are {len(data.examples)} rows.")

@step("broken", scope="dataset")
def broken(data):
    yield Learned(str(1 / 0))

@step("nosy", scope="dataset")
def nosy(data):
    data.texts("explain")
    return ()

@step("empty_question", scope="dataset")
def empty_question(data):
    data.ask({"a": Question()})
    return ()
'''


@pytest.fixture
def own(tmp_path: Path) -> tuple[str, ...]:
    path = tmp_path / "own_dataset_steps.py"
    path.write_text(OWN, encoding="utf-8")
    yield (str(path),)  # pyright: ignore
    for name in [name for name, step in STEPS.items() if step.origin == str(path)]:
        del STEPS[name]


def examples(count: int = 6) -> list[Example]:
    return [Example(f"e{n}", f"Is {n} even?", ("yes",), choices=("yes", "no")) for n in range(count)]


def reply(call: Call) -> Reply:
    text = call.body["messages"][-1]["content"]
    return Reply(f"Since it has {len(text)} letters.", tokens=(10, 5))


def rows(folder: Path, step: str) -> list[Knowledge]:
    return list(read_step(folder, step))


# In one plan ----------------------------------------------------------------------------------------------------------


def test_it_waits_for_all_examples_and_steps_behind_it_read_what_it_wrote(tmp_path: Path, own: tuple[str, ...]) -> None:
    config = GenerateConfig(steps=("explain", "common", "apply_it", "count_rows"), own_steps=own)
    with Server(reply) as server:
        notes = generate(examples(), config, completer(server), tmp_path / "out")
        calls = list(server.calls)
    assert (notes.examples, notes.finished, notes.left) == (6, 6, 0)
    assert list(notes.steps) == ["explain", "common.questions", "common", "apply_it", "count_rows"]
    assert [notes.steps[name].asked for name in notes.steps] == [6, 1, 0, 6, 0]
    assert [notes.steps[name].kept for name in notes.steps] == [6, 1, 2, 6, 1]
    contents = [call.body["messages"][-1]["content"] for call in calls]
    place = next(number for number, text in enumerate(contents) if text.startswith("In common?"))
    assert (place, len(calls)) == (6, 13), "behind all explanations, before whatever builds on it"
    common = rows(tmp_path / "out", "common")
    assert common[0].id == "common"
    assert common[1].details == {"letters": len(common[1].text or "")}
    minded = Counter(text.partition("Keep in mind: ")[2] for text in contents[7:])
    assert minded == {common[0].text: 5, common[1].text: 1}, "what all have in common, or what is of the example itself"
    (asked,) = rows(tmp_path / "out", "common.questions")
    assert asked.provenance
    assert asked.provenance.prompt == messages_fingerprint(Message(**turn) for turn in calls[place].body["messages"])
    assert len(calls[place].body["messages"]) == 1, "no system turn, no demonstrations"
    assert rows(tmp_path / "out", "count_rows")[0].text == "There are 6 rows."


def test_done_it_is_not_done_again_and_other_examples_do_it_anew(tmp_path: Path, own: tuple[str, ...]) -> None:
    config = GenerateConfig(steps=("explain", "common"), own_steps=own)
    with Server(reply) as server:
        first = generate(examples(), config, completer(server), tmp_path / "out")
        asked = len(server.calls)
        assert generate(examples(), config, completer(server), tmp_path / "out") == first
        assert len(server.calls) == asked
        more = generate(examples(7), config, completer(server), tmp_path / "out")
    assert more.steps["common.questions"].asked == 1
    assert "Since" in (rows(tmp_path / "out", "common")[0].text or "")
    assert len(rows(tmp_path / "out", "explain")) == 7
    assert list((tmp_path / "out").glob("before-*/common.jsonl")), "what was written of fewer examples is kept beside"


def test_an_example_set_aside_does_not_hold_it_up_but_it_is_done_again(tmp_path: Path, own: tuple[str, ...]) -> None:
    failing = {"on": True}

    def script(call: Call) -> Reply:
        broken = failing["on"] and "Is 3 even?" in call.prompt
        return Reply("no", status=500) if broken else reply(call)

    config = GenerateConfig(steps=("explain", "common"), own_steps=own)
    with Server(script) as server:
        notes = generate(examples(), config, completer(server, max_retries=0), tmp_path / "out")
        assert (notes.left, notes.steps["common"].kept) == (1, 2)
        failing["on"] = False
        again = generate(examples(), config, completer(server, max_retries=0), tmp_path / "out")
    assert (again.left, again.finished) == (0, 6)
    assert again.steps["common.questions"].asked == 2, "by other words, so another question; the first one stays"
    assert len(rows(tmp_path / "out", "common")) == 2


def test_a_question_that_did_not_come_is_asked_again(tmp_path: Path) -> None:
    failing = {"on": True}

    def script(call: Call) -> Reply:
        text = call.body["messages"][-1]["content"]
        return Reply("no", status=500) if failing["on"] and "Norv pen 3" in text else answer(call)

    sessions = [example_of(session(number, "pen ink")) for number in range(6)]
    config = GenerateConfig(steps=("thoughts",))
    with Server(script) as server:
        notes = generate(sessions, config, completer(server, max_retries=0), tmp_path)
        assert (notes.left, notes.finished, notes.set_aside) == (1, 5, {"server": 1})
        assert {row.id for row in rows(tmp_path, "thoughts") if not row.kept} == {"s3"}
        failing["on"], asked = False, len(server.calls)
        again = generate(sessions, config, completer(server, max_retries=0), tmp_path)
        assert len(server.calls) == asked + 1
    assert (again.left, again.steps["thoughts"].kept) == (0, 6)
    assert len(SessionKnowledge.read(tmp_path / "sessions").thoughts) == 6


def test_a_teachers_budget_ends_it_and_a_larger_one_goes_on(tmp_path: Path) -> None:
    sessions = [example_of(session(number, "pen ink")) for number in range(9)]
    config = GenerateConfig(steps=("thoughts",))
    with Server(answer) as server:
        notes = generate(sessions, config, completer(server, max_calls=4, concurrency=1), tmp_path)
        assert notes.stopped.startswith("budget: ")
        assert (notes.left, notes.finished) == (9, 0)
        assert len(rows(tmp_path, "thoughts.questions")) == 4
        again = generate(sessions, config, completer(server, concurrency=1), tmp_path)
        assert len(server.calls) == 9, "what was answered is not asked again, cache or none"
    assert (again.left, again.stopped, again.steps["thoughts"].kept) == (0, "", 9)


def test_a_teacher_that_answers_nothing_stops_it_and_what_was_written_stays(tmp_path: Path) -> None:
    def script(call: Call) -> Reply:
        return answer(call) if call.number < 3 else Reply("wrong key", status=401)

    sessions = [example_of(session(number, "pen ink")) for number in range(9)]
    with Server(script) as server, pytest.raises(TeacherError):
        generate(sessions, GenerateConfig(steps=("thoughts",)), completer(server, concurrency=1), tmp_path)
    assert len(rows(tmp_path, "thoughts.questions")) == 3
    assert rows(tmp_path, "thoughts") == []


@pytest.mark.parametrize(
    ("step", "message", "hint"),
    [
        ("broken", "step broken fails on the data set: ZeroDivisionError", "own_dataset_steps.py"),
        ("nosy", "step nosy reads the texts of explain and does not wait for it", "after=('explain',)"),
        ("empty_question", "question 'a' has no messages", "Question.of"),
    ],
)
def test_faults_of_a_users_step_are_one_line(
    tmp_path: Path, own: tuple[str, ...], step: str, message: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        generate(examples(), GenerateConfig(steps=(step,), own_steps=own), Nobody(), tmp_path / "out")
    assert message in refused.value.message
    assert hint in (refused.value.hint or "")


# Killed ---------------------------------------------------------------------------------------------------------------

RUN = f"""
import sys
sys.path[:0] = [{str(HERE)!r}, {str(HERE / "knowledge")!r}]
from pathlib import Path
from test_dataset_steps import work
work(sys.argv[1], Path(sys.argv[2]))
"""
KINDS = ("stove gas tent mat lamp", "tent mat pen ink", "stove gas lamp tent mat", "pen ink")


def work(url: str, folder: Path) -> dict:
    """What the process does that is killed; without a cache, so that the folder alone knows what was answered."""
    sessions = [example_of(session(number, KINDS[number % 4])) for number in range(24)]
    config = GenerateConfig(steps=("rules", "thoughts", "adaptive"), sessions=SessionsConfig(validation_share=0.4))
    return generate(sessions, config, completer(url, concurrency=AT_ONCE), folder)  # pyright: ignore


def test_killed_again_and_again_it_ends_as_if_it_had_not_been(tmp_path: Path) -> None:
    chance = random.Random(3)
    with Server(lambda call: Reply(answer(call).text, delay=0.01, tokens=(7, 3))) as server:
        whole = work(server.base_url, tmp_path / "whole")
        needed = Counter(call.key for call in server.calls)
        assert set(needed.values()) == {1}, "no question twice"
        server.calls.clear()
        for _ in range(2):
            _kill(server, tmp_path / "killed", chance.uniform(0.1, 0.6))
        record = work(server.base_url, tmp_path / "killed")
        again = Counter(call.key for call in server.calls)
    assert set(again) == set(needed)
    assert again.total() - needed.total() <= 2 * AT_ONCE, "twice only what was under way"
    assert record.steps["rules"] == whole.steps["rules"]  # pyright: ignore
    for step in ("rules", "thoughts", "adaptive"):
        assert rows(tmp_path / "killed", step) == rows(tmp_path / "whole", step)
    for name in ("statements.jsonl", "thoughts.jsonl"):
        assert (tmp_path / "killed/sessions" / name).read_bytes() == (tmp_path / "whole/sessions" / name).read_bytes()


def _kill(server: Server, folder: Path, after: float) -> None:
    before = len(server.calls)
    process = subprocess.Popen([sys.executable, "-c", RUN, server.base_url, str(folder)], stdout=subprocess.DEVNULL)
    while len(server.calls) == before and process.poll() is None:
        time.sleep(0.005)
    timer = threading.Timer(after, process.kill)
    timer.start()
    assert process.wait(120) == -signal.SIGKILL, "killed before its end"
    time.sleep(0.1)
