"""`understudy generate` through a real process, against a real endpoint."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from support.house import House, Outcome
from support.servers import Call, Reply, Server
from understudy.files import read_jsonl

Command = Callable[..., Outcome]

OWN = '''
from understudy.knowledge.step import Question, step

@step("summary", needs=("explain",))
def summary(example, known, draw):
    """The explanation in one sentence."""
    yield Question.of(f"Say this in one sentence: {known.text('explain')}")
'''


@pytest.fixture(autouse=True)
def cache_of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another test, or whoever runs it, has asked before is not known here."""
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path / "cache"))


def reply(call: Call) -> Reply:
    about = call.prompt.split("?")[0][-30:]
    return Reply(f"Only this holds, whoever compares the alternatives of {about!r}.", tokens=(100, 20))


def choose(house: House, server: Server) -> None:
    """Questions with choices, and a teacher behind the endpoint."""
    rows = [
        {
            "id": f"q{n}",
            "question": f"Which comes after {n}?",
            "choices": [str(n + 1), "moon", "hat"],
            "answer": str(n + 1),
        }
        for n in range(20)
    ]
    (house.folder / "qa.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    house.recipe |= {
        "data": {"source": str(house.folder / "qa.jsonl"), "max_length": 96, "max_answer_tokens": 12},
        "teacher": None,
        "tasks": {"kind": "multitask", "rationales": "revise"},
        "evaluate": {**house.recipe["evaluate"], "arms": ["explained"]},
        "generate": {
            "steps": ["explain", "critique", "revise", "counterfactual"],
            "teacher": {"model": "m", "base_url": server.base_url, "input_price": 1.0, "output_price": 10.0},
        },
    }


def texts(house: House, step: str) -> list[dict]:
    return read_jsonl(house.run_folder() / "stages" / "generate" / f"{step}.jsonl")


def test_a_recipe_is_written_about_and_a_second_time_asks_nothing(house: House, command: Command) -> None:
    (house.folder / "own.py").write_text(OWN, encoding="utf-8")
    with Server(reply) as server:
        choose(house, server)
        house.recipe["generate"]["own_steps"] = [str(house.folder / "own.py")]
        house.recipe["generate"]["steps"].append("summary")
        recipe = str(house.write_recipe())
        done = house.call("generate", recipe)
        assert done.returncode == 0, done.stderr
        train = len(read_jsonl(house.run_folder() / "data" / "train.jsonl"))
        assert train > 10
        assert len(server.calls) == 6 * train
        assert command("generate", recipe).code == 0
        assert len(server.calls) == 6 * train
    for step, number in (("explain", 1), ("critique", 1), ("revise", 1), ("counterfactual", 2), ("summary", 1)):
        rows = texts(house, step)
        assert len(rows) == number * train
        assert all(row["text"] and not row["reasons"] for row in rows)
    assert {row["choice"] for row in texts(house, "counterfactual")} == {1, 2}
    [summary] = [call for call in server.calls if "one sentence" in call.prompt][:1]
    assert "Only this holds" in summary.prompt
    lines = [line.split() for line in done.stdout.splitlines()]
    assert ["step", "asked", "kept", "rejected", "no", "text", "tokens", "cost", "seconds"] in lines
    [shown] = [line for line in lines if line[:1] == ["counterfactual"]]
    assert shown[1:5] == [f"{2 * train}", f"{2 * train}", f"{2 * train * 120:,}", f"{2 * train * 0.0003:.4f}"]
    assert "stages/generate" in done.stdout


def test_a_budget_ends_it_with_one_line_and_what_was_written_is_shown(house: House, command: Command) -> None:
    with Server(reply) as server:
        choose(house, server)
        recipe = str(house.write_recipe())
        done = command("generate", recipe, "generate.teacher.max_cost=0.009", "generate.teacher.concurrency=1")
    assert done.code == 1
    # The estimate before a call is its bytes; what it did cost is 0.0003.
    assert 20 <= len(server.calls) <= 30
    assert "error: " in done.err
    assert "budget: " in done.err
    assert "left" in done.err
    assert "explain" in done.out


def train_rows(house: House) -> int:
    return len(read_jsonl(house.run_folder() / "data" / "train.jsonl"))


def breaking(house: House, server: Server) -> str:
    """The recipe with explanations only, and few tries."""
    choose(house, server)
    house.recipe["generate"] |= {"steps": ["explain"]}
    house.recipe["generate"]["teacher"] |= {"max_retries": 0}
    house.recipe["tasks"]["rationales"] = "explain"
    return str(house.write_recipe())


@pytest.mark.parametrize(
    "broken",
    [
        Reply(raw=b"<html>sign in</html>"),
        Reply(raw=b'{"choices": []}'),
        Reply(None),
        Reply("no such parameter", status=400),
        Reply("half", finish="wombat"),
    ],
    ids=["html", "no choices", "null", "refused", "unknown end"],
)
def test_a_step_of_which_nothing_was_kept_is_an_error_and_is_not_done(
    house: House, command: Command, broken: Reply
) -> None:
    with Server(lambda _: broken) as server:
        recipe = breaking(house, server)
        done = command("generate", recipe)
        assert done.code == 1
        number = train_rows(house)
        refused = "the endpoint refused the first 10 requests"
        words = refused if broken.status == 400 else f"nothing was kept of step explain, {number} times asked: "
        assert words in done.err
        assert not (house.run_folder() / "stages" / "generate" / "done.json").exists()
        server.script = reply
        again = command("generate", recipe)
    assert again.code == 0, again.err
    assert len(texts(house, "explain")) == number
    assert all(row["text"] for row in texts(house, "explain"))


def test_texts_that_are_all_rejected_are_an_error_too_and_are_not_asked_for_again(
    house: House, command: Command
) -> None:
    with Server(lambda call: Reply("one two")) as server:
        recipe = breaking(house, server)
        done = command("generate", recipe, "generate.filter.min_words=5")
        assert done.code == 1
        assert "nothing was kept of step explain" in done.err
        assert "short: 2 words, fewer than 5" in done.err
        assert "explain.jsonl" in done.err
        calls = len(server.calls)
        assert command("generate", recipe, "generate.filter.min_words=5").code == 1
        assert len(server.calls) == calls


class Engine:
    """Dies of the prompt that it gets first, whenever it gets it, until it is mended."""

    def __init__(self) -> None:
        self.dies = True
        self.deadly = ""

    def __call__(self, call: Call) -> Reply:
        self.deadly = self.deadly or call.prompt
        return Reply("the engine died", status=500) if self.dies and call.prompt == self.deadly else reply(call)


def test_an_example_that_always_fails_is_set_aside_and_asked_about_again_on_request(
    house: House, command: Command
) -> None:
    engine = Engine()
    with Server(engine) as server:
        recipe = breaking(house, server)
        done = command("generate", recipe)
        assert done.code == 0, done.err
        number = train_rows(house)
        assert f"The teacher gave no answer about 1 of {number} examples (server 1)" in done.out
        [row] = [row for row in texts(house, "explain") if row["text"] is None]
        assert row["reasons"] == ["server: 500: the engine died"]
        calls = len(server.calls)
        assert command("generate", recipe).code == 0
        assert len(server.calls) == calls, "it is set aside"
        assert "(server 1)" in command("generate", recipe, "--retry").out
        assert len(server.calls) == calls + 1
        engine.dies = False
        again = command("generate", recipe, "--retry")
        assert len(server.calls) == calls + 2
    assert again.code == 0, again.err
    assert "set aside" not in again.out
    assert all(row["text"] for row in texts(house, "explain"))
    assert len(texts(house, "explain")) == number


def test_a_run_goes_on_without_what_is_set_aside_and_says_so(house: House, command: Command) -> None:
    engine = Engine()
    with Server(engine) as server:
        recipe = breaking(house, server)
        done = command("run", recipe)
        assert done.code == 0, done.err
        assert f"no answer about 1 of {train_rows(house)} examples (server 1)" in done.err
        report = house.run_folder() / "report.html"
        assert "no answer about 1 of" in report.read_text(encoding="utf-8")
        engine.dies, calls = False, len(server.calls)
        again = command("run", recipe, "--retry")
        assert again.code == 0, again.err
        assert len(server.calls) == calls + 1
    assert "no answer about" not in again.err
    assert "no answer about" not in report.read_text(encoding="utf-8"), "what was made of the texts is made anew"


@pytest.mark.slow
def test_a_grid_asks_again_for_all_cells_that_share_the_texts(house: House, command: Command) -> None:
    engine = Engine()
    with Server(engine) as server:
        breaking(house, server)
        house.recipe["axes"] = {"distil.learning_rate": [0.01, 0.02]}
        recipe = str(house.write_recipe())
        done = command("run", recipe)
        assert done.code == 0, done.err
        reports = list(house.run_folder().glob("cells/*/report.html"))
        assert len(reports) == 2
        assert all("no answer about 1 of" in report.read_text(encoding="utf-8") for report in reports)
        engine.dies, calls = False, len(server.calls)
        again = command("run", recipe, "--retry")
        assert again.code == 0, again.err
        assert len(server.calls) == calls + 1
    assert not any("no answer about" in report.read_text(encoding="utf-8") for report in reports)


def test_a_teacher_that_fails_for_most_examples_stops_the_run(house: House, command: Command) -> None:
    def script(call: Call) -> Reply:
        return reply(call) if call.number < 5 else Reply("down", status=503)

    with Server(script) as server:
        recipe = breaking(house, server)
        done = command("generate", recipe)
        assert done.code == 1
        assert "no answer came for" in done.err
        server.script = reply
        assert command("generate", recipe).code == 0
    assert sum(call.answered for call in server.calls) == len(texts(house, "explain"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["generate.own_steps=[nowhere.py]"], "no such file: nowhere.py"),
        (["generate.steps=[explian]", "tasks.rationales=explian"], "there is no step 'explian'"),
        (["generate.steps=[revise]"], "revise needs critique before it"),
        (["generate.prompts=nowhere"], "generate.prompts: no such folder: nowhere"),
        (["generate.teacher.max_cost=1", "generate.teacher.input_price=null"], "cannot be kept without prices"),
        (["generate=null", "tasks=null", "evaluate.arms=[sft]", "teacher={model: x}"], "has no section `generate`"),
    ],
)
def test_what_cannot_be_kept_is_one_line(house: House, command: Command, change: list[str], message: str) -> None:
    with Server(reply) as server:
        choose(house, server)
        done = command("generate", str(house.write_recipe()), *change)
    assert done.code == 1
    assert message in done.err
    assert done.err.startswith("error: ")
    assert not (house.folder / "runs").exists(), "before anything is done"
    assert server.calls == []


def test_prompts_are_copied_to_be_edited(house: House, command: Command) -> None:
    mine = house.folder / "mine"
    assert command("generate", "--prompts-to", str(mine)).code == 0
    assert {path.name for path in mine.iterdir()} >= {"explain.jinja", "pairs.yaml"}
    (mine / "explain.jinja").write_text("WHY {{ question }}", encoding="utf-8")
    with Server(reply) as server:
        choose(house, server)
        asked = command(
            "generate",
            str(house.write_recipe()),
            f"generate.prompts={mine}",
            "generate.steps=[explain]",
            "tasks.rationales=explain",
        )
    assert asked.code == 0, asked.err
    assert {call.prompt.split()[0] for call in server.calls} == {"WHY"}
    again = command("generate", "--prompts-to", str(mine))
    assert (again.code, again.err.split(":")[0]) == (1, "error")


@pytest.mark.slow
def test_processes_that_train_together_wait_for_the_teacher_as_long_as_it_takes(house: House) -> None:
    """The first process asks; the others' patience with one another is shorter than the teacher takes."""
    impatient = Path(__file__).resolve().parents[1] / "support" / "impatient.py"
    with Server(lambda call: replace(reply(call), delay=0.6)) as server:
        choose(house, server)
        house.recipe["generate"] |= {"steps": ["explain"]}
        house.recipe["generate"]["teacher"] |= {"concurrency": 1}
        house.recipe["tasks"]["rationales"] = "explain"
        done = house.launch(str(impatient), "4", "generate", str(house.write_recipe()))
    assert done.returncode == 0, done.stderr
    assert len(server.calls) == len(texts(house, "explain")) == train_rows(house)


def test_help_loads_no_torch() -> None:
    code = "import sys, understudy.cli, understudy.knowledge.pipeline; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
