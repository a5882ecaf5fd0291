"""The whole stream of questions against a real server, and what lies in the folder afterwards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.asking import completer
from support.servers import Call, Reply, Server
from understudy.completers.openai_completer import ApiCompleter
from understudy.errors import ConfigError, TeacherError
from understudy.knowledge.learned_texts import with_rationales
from understudy.knowledge.pipeline import generate
from understudy.knowledge.requests import messages_fingerprint
from understudy.knowledge.step import STEPS
from understudy.knowledge.step_counts import empty_steps
from understudy.knowledge.store import read_step
from understudy.recipe import EndpointConfig
from understudy.recipe.knowledge import GenerateConfig
from understudy.records import WritingNotes
from understudy.types import Completion, Example, Knowledge, Message, Request

FOUR = ("explain", "critique", "revise", "answer")
WORDS = "Rivers carry meltwater from distant glaciers towards warmer valleys"


def examples(num: int) -> list[Example]:
    return [Example(f"e{n}", f"question {n}?", ("yes",), choices=("yes", "no", "maybe", "Yes.")) for n in range(num)]


def kind(call: Call) -> str:
    """The step of a call, by what only its prompt says."""
    last = call.body["messages"][-1]["content"]
    marks = {"whole new explanation": "revise", "Begin with the most": "critique", "Suppose": "counterfactual"}
    marks |= {"Which option is right": "answer", "Explain in a few sentences why this is": "explain"}
    return next(name for mark, name in marks.items() if mark in last)


def about(call: Call) -> str:
    return call.prompt.split("?")[0].replace("question ", "e")


def reply(call: Call) -> Reply:
    return Reply(f"{WORDS}, says {kind(call)} of {about(call)}\nand a second line", tokens=(100, 20))


def rows(folder: Path, *steps: str) -> dict[tuple, Knowledge]:
    found = {}
    for row in (row for step in steps for row in read_step(folder, step)):
        assert (row.step, row.id, row.choice, row.sample) not in found, "no row twice"
        found[row.step, row.id, row.choice, row.sample] = row
    return found


def test_every_step_of_every_example_is_asked_once_in_the_words_of_the_steps_before(tmp_path: Path) -> None:
    config = GenerateConfig(steps=("explain", "critique", "revise", "counterfactual", "answer"))
    with Server(reply) as server:
        asked = completer(server, concurrency=16, input_price=1.0, output_price=10.0)
        record = generate(examples(20), config, asked, tmp_path)
    assert Counter(map(kind, server.calls)) == {
        "explain": 20,
        "critique": 20,
        "revise": 20,
        "counterfactual": 40,
        "answer": 20,
    }
    found = rows(tmp_path, *config.steps)
    assert {choice for step, _, choice, _ in found if step == "counterfactual"} == {1, 2}, "the 4th reads like the gold"
    by_prompt = {messages_fingerprint(Message(**turn) for turn in call.body["messages"]): call for call in server.calls}
    for (step, name, choice, _), row in found.items():
        call = by_prompt[row.provenance.prompt]  # pyright: ignore[reportOptionalMemberAccess]
        assert (kind(call), about(call)) == (step, name)
        last = call.body["messages"][-1]["content"]
        if step == "revise":
            assert f"Critique: {WORDS}, says critique of {name}\n\n" in last
        if step in ("critique", "revise"):
            assert f"says explain of {name}\nand a second line\n" in last
        if step == "answer":
            assert f"says revise of {name}\n" in last
        if step == "counterfactual":
            assert f"Suppose that the right answer is: {('yes', 'no', 'maybe')[choice]}\n" in last
        source = row.provenance
        assert source
        assert (source.teacher, source.input_tokens, source.output_tokens, source.cached) == ("m", 100, 20, False)
        assert source.cost == pytest.approx((100 * 1 + 20 * 10) / 1e6)
        assert source.seconds > 0
        assert source.parameters["max_tokens"] == call.body["max_tokens"] == STEPS[step].max_tokens
    pairs: dict[str, set[int]] = {}
    for (step, name, _, _), row in found.items():
        if step in ("critique", "revise") and row.provenance:
            pairs.setdefault(name, set()).add(row.provenance.parameters["pair"])
    assert all(len(drawn) == 1 for drawn in pairs.values())
    assert len(pairs) == 20
    assert record.finished == record.examples == 20
    assert (record.left, record.stopped) == (0, "")
    figures = record.steps["counterfactual"]
    assert {name: getattr(figures, name) for name in ("asked", "written", "kept", "cached")} == {
        "asked": 40, "written": 40, "kept": 40, "cached": 0
    }  # fmt: skip
    assert (figures.input_tokens, figures.output_tokens, figures.cost) == (4_000, 800, 0.012)
    assert (figures.rejected, figures.missing) == ({}, {})
    assert figures.seconds > 0
    assert WritingNotes.from_json(json.loads(json.dumps(record.to_json()))) == record
    assert [row.id for row in read_step(tmp_path, "explain")] == [f"e{n}" for n in range(20)], (
        "in the order of the examples"
    )


def test_no_step_waits_for_other_examples(tmp_path: Path) -> None:
    """The first explanation is late; nearly all of the others are through every step by then."""

    def script(call: Call) -> Reply:
        late = kind(call) == "explain" and about(call) == "e0"
        return Reply(f"{WORDS} late", delay=1.0) if late else reply(call)

    with Server(script) as server:
        stream = generate(examples(30), GenerateConfig(steps=FOUR), completer(server, concurrency=8), tmp_path)
        order = [(kind(call), about(call)) for call in server.calls]
    assert stream.finished == 30
    assert order.index(("critique", "e0")) > 60, "step by step it would be the 30th"
    assert order.index(("answer", "e1")) < order.index(("explain", "e20"))


def test_examples_are_drawn_as_there_is_room(tmp_path: Path) -> None:
    drawn = finished = most = 0

    def source() -> Iterator[Example]:
        nonlocal drawn
        for example in examples(300):
            drawn += 1
            yield example

    def progress(done: int, total: int, note: str) -> None:
        nonlocal finished, most
        finished, most = done, max(most, drawn - done)

    with Server(reply) as server:
        generate(source(), GenerateConfig(steps=FOUR), completer(server, concurrency=4), tmp_path, progress=progress)
    assert finished == 300
    assert most <= 60, f"{most} examples were open at once with 4 calls under way"


def test_what_is_there_is_not_asked_again_and_other_questions_are(tmp_path: Path) -> None:
    config = GenerateConfig(steps=FOUR)
    with Server(reply) as server:
        generate(examples(5), config, completer(server), tmp_path)
        assert len(server.calls) == 20
        record = generate(examples(8), config, completer(server), tmp_path)
        assert len(server.calls) == 32
        assert record.finished == 8
        before = rows(tmp_path, *FOUR)
        again = generate(examples(8), config, completer(server), tmp_path)
        assert (len(server.calls), again.steps) == (32, record.steps)
        assert rows(tmp_path, *FOUR) == before
        other = generate(examples(8), config.model_copy(update={"seed": 5}), completer(server), tmp_path / "other")
        assert other.finished == 8
        generate(examples(8), config.model_copy(update={"seed": 5}), completer(server), tmp_path)
    assert [folder.name[:7] for folder in tmp_path.glob("before-*")] == ["before-"]


def test_a_step_whose_text_did_not_come_leaves_a_row_and_the_reason(tmp_path: Path) -> None:
    def script(call: Call) -> Reply:
        if kind(call) == "explain":
            if about(call) == "e1":
                return Reply("too long", finish="length")
            if about(call) == "e2":
                return Reply("yes yes question 2")
        return reply(call)

    rowless = Example("e3", "question 3?", choices=("yes", "no"))
    given = [*examples(3), rowless]
    config = GenerateConfig(steps=("explain", "critique", "revise", "counterfactual"))
    with Server(script) as server:
        record = generate(given, config, completer(server), tmp_path)
    found = rows(tmp_path, *config.steps)
    why = {key[:2]: row.reasons for key, row in found.items() if not row.kept and row.step != "counterfactual"}
    assert why == {
        ("explain", "e1"): ("unfinished: the answer reached max_tokens",),
        ("explain", "e2"): ("restates: 1.00 of its words are the question's and the answer's",),
        ("explain", "e3"): ("no gold answer",),
        ("critique", "e1"): ("needs rationale: none was kept",),
        ("critique", "e2"): ("needs rationale: none was kept",),
        ("critique", "e3"): ("needs rationale: none was kept",),
        **{("revise", name): ("needs critique: none was kept",) for name in ("e1", "e2", "e3")},
    }
    assert found["explain", "e2", None, 0].text == "yes yes question 2", "rejected, and still there"
    assert found["counterfactual", "e3", None, 0].reasons == ("no gold answer",)
    assert record.steps["explain"].rejected == {"restates": 1}
    assert record.steps["explain"].missing == {"unfinished": 1, "no gold answer": 1}
    assert record.finished == 4
    texts = with_rationales(given, tmp_path, "revise")
    assert [each.rationale is not None for each in texts] == [True, False, False, False]
    assert [len(each.counterfactuals) for each in texts] == [2, 2, 2, 0]


def test_a_fault_that_passes_is_asked_about_again_another_time(tmp_path: Path) -> None:
    down = True

    def script(call: Call) -> Reply:
        return Reply("down", status=503) if down and about(call) == "e1" else reply(call)

    config = GenerateConfig(steps=FOUR)
    with Server(script) as server:
        record = generate(examples(3), config, completer(server, tmp_path, max_retries=1), tmp_path)
        assert (record.finished, record.left, record.stopped) == (2, 1, "")
        assert record.set_aside == {"server": 1}
        assert rows(tmp_path, *FOUR)["explain", "e1", None, 0].reasons[0].startswith("server: 503")
        down = False
        record = generate(examples(3), config, completer(server, tmp_path), tmp_path)
    assert (record.finished, record.left) == (3, 0)
    assert all(row.kept for row in rows(tmp_path, *FOUR).values())
    assert sum(call.answered for call in server.calls) == 12


BROKEN = {
    "html": Reply(raw=b"<html>sign in</html>"),
    "no choices": Reply(raw=b'{"choices": []}'),
    "null": Reply(None),
    "blank": Reply(" "),
    "refused": Reply("no such parameter", status=400),
    "brackets": Reply(raw=b"[" * 100_000),
    "error": Reply(raw=b'{"error": {"code": 503, "message": "overloaded"}}'),
}


@pytest.mark.parametrize("broken", list(BROKEN))
def test_where_nothing_came_of_a_step_all_of_it_is_asked_again(tmp_path: Path, broken: str) -> None:
    """Whatever the reason: if it was none of the questions', it may have been mended since."""
    config, down = GenerateConfig(steps=("explain", "counterfactual")), True

    def script(call: Call) -> Reply:
        return BROKEN[broken] if down and kind(call) == "counterfactual" else reply(call)

    with Server(script) as server:
        record = generate(examples(4), config, completer(server, tmp_path / "cache", max_retries=0), tmp_path)
        assert empty_steps(record.steps) == ["counterfactual"]
        assert (record.finished, record.left) == (0, 4)
        down, before = False, len(server.calls)
        record = generate(examples(4), config, completer(server, tmp_path / "cache"), tmp_path)
        assert (record.finished, record.left, empty_steps(record.steps)) == (4, 0, [])
        assert len(server.calls) == before + 8, "the explanations come from the cache"
    assert all(row.kept for row in rows(tmp_path, *config.steps).values())


def test_where_something_came_what_was_refused_is_not_asked_again(tmp_path: Path) -> None:
    def script(call: Call) -> Reply:
        return Reply("too long", status=400) if about(call) == "e1" else reply(call)

    config = GenerateConfig(steps=("explain",))
    with Server(script) as server:
        for _ in range(2):
            record = generate(examples(4), config, completer(server, tmp_path), tmp_path)
            assert (record.finished, record.left, empty_steps(record.steps)) == (4, 0, [])
            assert len(server.calls) == 4


@pytest.mark.parametrize("limit", [{"max_calls": 30}, {"max_total_tokens": 3_600}, {"max_cost": 0.009}])
def test_a_budget_stops_it_cleanly_and_more_of_it_goes_on(tmp_path: Path, limit: dict[str, Any]) -> None:
    """120 tokens a call, 0.0003 in money: each limit is 30 calls."""
    config = GenerateConfig(steps=FOUR)
    prices = {"input_price": 1.0, "output_price": 10.0, "max_tokens": 20, "concurrency": 4}

    def run(**limits: Any) -> dict[str, Any]:
        asked = completer(server, tmp_path, account="run", **prices, **limits)
        return generate(examples(20), config, asked, tmp_path / "texts")

    with Server(reply) as server:
        record = run(**limit)
        assert len(server.calls) == 30
        assert record.stopped.startswith("budget: ")
        assert record.finished + record.left == record.examples == 20
        assert 3 <= record.finished <= 7
        assert len(rows(tmp_path / "texts", *FOUR)) == 4 * record.finished
        assert run(**limit).finished <= 7
        assert len(server.calls) == 30, "the account is empty"
        whole = run()
    assert (whole.finished, whole.left, whole.stopped) == (20, 0, "")
    assert len(server.calls) == 80, "what was paid for is not asked again"


def test_a_refused_key_ends_it_and_what_was_finished_stays(tmp_path: Path) -> None:
    def script(call: Call) -> Reply:
        return Reply("no such key", status=401) if call.number >= 30 else reply(call)

    with Server(script) as server, pytest.raises(TeacherError, match="refuses the key"):
        generate(examples(50), GenerateConfig(steps=FOUR), completer(server, concurrency=2), tmp_path)
    assert len(rows(tmp_path, *FOUR)) >= 4 * 5


def test_several_answers_are_samples_and_near_duplicates_are_told(tmp_path: Path) -> None:
    config = GenerateConfig.model_validate(
        {
            "steps": ["explain", "answer"],
            "samples": 3,
            "temperatures": {"answer": 0.7},
            "filter": {"near_duplicate": 0.8},
        }
    )
    with Server(lambda call: Reply(WORDS if kind(call) == "explain" else "yes")) as server:
        record = generate(examples(4), config, completer(server), tmp_path)
        assert [call.body["temperature"] for call in server.calls if kind(call) == "answer"] == [0.7] * 12
        assert {call.body["temperature"] for call in server.calls if kind(call) == "explain"} == {0.0}
        more = generate(examples(6), config, completer(server), tmp_path)
    assert sorted(sample for step, _, _, sample in rows(tmp_path, *config.steps) if step == "answer")[:6] == [0] * 6
    assert record.steps["explain"].rejected == {"near-duplicate": 3}
    assert more.steps["explain"].rejected == {"near-duplicate": 5}, "what earlier runs kept is compared too"


def test_shots_are_put_as_earlier_turns(tmp_path: Path) -> None:
    from understudy.knowledge.demonstrations import demonstrate

    shown = [Example(f"d{n}", f"shown {n}?", ("left",), choices=("left", "right")) for n in range(3)]
    written = [Knowledge(each.id, "explain", f"People say {each.id}.") for each in shown]
    config = GenerateConfig(steps=("explain",), shots=2)
    with Server(lambda call: Reply(WORDS)) as server:
        generate(examples(2), config, completer(server), tmp_path, demonstrations=demonstrate(shown, written))
    roles = [turn["role"] for turn in server.calls[0].body["messages"]]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    first, second = (call.body["messages"][:-1] for call in server.calls)
    assert first == second
    assert first[2]["content"].startswith("People say d")
    [row, _] = rows(tmp_path, "explain").values()
    assert row.provenance
    assert row.provenance.parameters["shots"] == 2


OWN = """
from understudy.knowledge.step import Question, step

@step("{name}", needs=("explain",))
class Mine:
    def asks(self, example, known, draw):
        yield Question.of("Shorter {{{{ 7 * 7 }}}}: " + known.text("explain"){tail})

    def read(self, text):
        return text.upper()
"""


@pytest.fixture
def own() -> Iterator[Callable[[Path, str, str], GenerateConfig]]:
    before = dict(STEPS)

    def write(folder: Path, name: str, tail: str = "") -> GenerateConfig:
        path = folder / f"{name}.py"
        path.write_text(OWN.format(name=name, tail=tail), encoding="utf-8")
        return GenerateConfig(steps=("explain", name), own_steps=(str(path),))

    yield write
    STEPS.clear()
    STEPS.update(before)


def test_a_step_of_ones_own_is_asked_like_ours(tmp_path: Path, own: Any) -> None:
    with Server(lambda call: Reply(WORDS if "Explain" in call.prompt else f"said {call.prompt}")) as server:
        record = generate(examples(2), own(tmp_path, "shorter"), completer(server), tmp_path)
    assert record.steps["shorter"].kept == 2
    assert next(read_step(tmp_path, "shorter")).text == f"SAID SHORTER {{{{ 7 * 7 }}}}: {WORDS.upper()}"


def test_a_step_of_ones_own_that_fails_is_named(tmp_path: Path, own: Any) -> None:
    with Server(lambda call: Reply(WORDS)) as server, pytest.raises(ConfigError) as refused:
        generate(examples(2), own(tmp_path, "broken", " + 1"), completer(server), tmp_path)
    assert refused.value.message.startswith("step broken fails on example 'e0': TypeError: ")
    assert "broken.py" in refused.value.hint


def test_new_questions_are_held_to_their_schema(tmp_path: Path) -> None:
    good = {"question": "another?", "choices": ["x", "y"], "answer": "x"}

    def script(call: Call) -> Reply:
        return Reply("no json" if about(call) == "e1" else json.dumps(good))

    with Server(script) as server:
        generate(examples(2), GenerateConfig(steps=("new_questions",)), completer(server), tmp_path)
    first, second = rows(tmp_path, "new_questions").values()
    assert json.loads(first.text or "") == good
    assert second.reasons[0].startswith("unparseable: ")
    assert server.calls[0].body["response_format"]["type"] == "json_schema"


@pytest.mark.parametrize("tag", ["think", "thinking", "thought"])
def test_of_half_a_thought_the_rationale_is_what_stands_behind_it(tmp_path: Path, tag: str) -> None:
    """A server whose template opens the thought sends its second half; a thought that never ends is no rationale."""

    def script(call: Call) -> Reply:
        if about(call) == "e1":
            return Reply(f"<{tag}>\nOkay, the user asks {call.prompt}")
        return Reply(f"Okay, the user asks … No.\n</{tag}>\n\n{WORDS} and say {kind(call)}.")

    with Server(script) as server:
        record = generate(examples(2), GenerateConfig(steps=("explain",)), completer(server), tmp_path)
    first, second = rows(tmp_path, "explain").values()
    assert (first.text, first.kept) == (f"{WORDS} and say explain.", True)
    assert (second.text, second.kept) == (None, False)
    assert second.reasons == ("unfinished: a thought that was never closed",)
    assert record.steps["explain"].missing == {"unfinished": 1}


def test_prices_make_costs_and_their_absence_makes_none() -> None:
    from understudy.knowledge.requests import cost_of

    priced = EndpointConfig(model="m", input_price=3.0, output_price=15.0)
    assert cost_of(priced, 1_000_000, 0) == 3.0
    assert cost_of(priced, 200, 100) == pytest.approx(0.0021)
    assert cost_of(EndpointConfig(model="m"), 200, 100) is None
    assert cost_of(None, 200, 100) is None


class Plain:
    """A completer of somebody's own: no cache, no config; all answers at once and backwards."""

    name = "plain"

    def complete(self, requests: Iterator[Request]) -> Iterator[Completion]:
        for request in list(requests)[::-1]:
            yield Completion(request.id, f"{WORDS} {request.id}")


def test_any_completer_will_do(tmp_path: Path) -> None:
    record = generate(examples(5), GenerateConfig(steps=FOUR), Plain(), tmp_path)
    assert record.finished == 5
    assert [row.id for row in read_step(tmp_path, "answer")] == [f"e{n}" for n in range(5)]
    assert not isinstance(Plain(), ApiCompleter)
