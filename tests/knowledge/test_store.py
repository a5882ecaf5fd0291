"""Rows on disk: whole or not there, and never those of another question."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.data.tasks import WithRationales
from understudy.errors import DataError
from understudy.knowledge.learned_texts import coverage, with_rationales
from understudy.knowledge.step_counts import count
from understudy.knowledge.store import (
    FINISHED,
    KnowledgeStore,
    as_row,
    from_row,
    read_step,
    step_path,
    write_step,
)
from understudy.types import Example, Knowledge, Provenance

STEPS = ("explain", "counterfactual")


def rows_of(name: str) -> list[Knowledge]:
    source = Provenance("m", "abc", {"pair": 3}, 10, 20, 0.5, 0.25, cached=True)
    return [
        Knowledge(name, "explain", f"because {name}\n\u2028…", provenance=source),
        Knowledge(name, "counterfactual", "no", 0),
        Knowledge(name, "counterfactual", "never", 2, reasons=("short",)),
    ]


def filled(folder: Path, names: str) -> None:
    with KnowledgeStore(folder, STEPS, {"plan": 1}) as store:
        for name in names:
            store.write(name, rows_of(name))


@given(
    st.builds(
        Knowledge,
        st.text(),
        st.just("explain"),
        st.none() | st.text(),
        st.none() | st.integers(0, 9),
        st.integers(0, 9),
        st.lists(st.text()).map(tuple),
        st.none() | st.builds(Provenance, st.text(), st.text(), st.just({"a": [1]}), cost=st.none() | st.floats(0, 1)),
    )
)
def test_a_row_comes_back_as_it_went(row: Knowledge) -> None:
    assert from_row(as_row(row)) == row


def test_rows_are_read_in_the_order_they_were_written(tmp_path: Path) -> None:
    filled(tmp_path, "abc")
    assert list(read_step(tmp_path, "explain")) == [rows_of(name)[0] for name in "abc"]
    assert list(read_step(tmp_path, "counterfactual")) == [row for name in "abc" for row in rows_of(name)[1:]]
    assert list(read_step(tmp_path, "revise")) == []


@pytest.mark.parametrize("cut", range(1, 40, 3))
def test_a_torn_last_line_is_dropped_and_its_example_made_again(tmp_path: Path, cut: int) -> None:
    """Each file in turn loses its end, as a power cut may leave it."""
    for file in ("explain.jsonl", "counterfactual.jsonl", FINISHED):
        folder = tmp_path / file
        filled(folder, "abc")
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[:-cut])
        assert [row.id for row in read_step(folder, "explain")][:2] == ["a", "b"]
        with KnowledgeStore(folder, STEPS, {"plan": 1}) as store:
            assert set(store.finished) >= {"a"}
            assert "c" not in store.finished
            for name in "abc":
                if name not in store.finished:
                    store.write(name, rows_of(name))
        assert sorted(row.id for row in read_step(folder, "explain")) == ["a", "b", "c"]
        assert sorted(row.id for row in read_step(folder, "counterfactual")) == list("aabbcc")


def test_rows_of_an_example_that_is_not_finished_are_swept_out(tmp_path: Path) -> None:
    filled(tmp_path, "ab")
    with KnowledgeStore(tmp_path, STEPS, {"plan": 1}) as store:
        store.write("c", rows_of("c"), finished=False)
        assert [row.id for row in read_step(tmp_path, "explain")] == ["a", "b", "c"]
    with KnowledgeStore(tmp_path, STEPS, {"plan": 1}) as store:
        assert store.finished == {"a": 3, "b": 3}
    assert [row.id for row in read_step(tmp_path, "explain")] == ["a", "b"]


def test_a_broken_line_in_the_middle_is_named(tmp_path: Path) -> None:
    filled(tmp_path, "abc")
    lines = step_path(tmp_path, "explain").read_bytes().splitlines(keepends=True)
    step_path(tmp_path, "explain").write_bytes(lines[0] + lines[1][:9] + b"\n" + lines[2])
    with pytest.raises(DataError, match=r"explain\.jsonl:2: not valid JSON"):
        list(read_step(tmp_path, "explain"))
    step_path(tmp_path, "explain").write_bytes(b'{"id": "a"}\n')
    with pytest.raises(DataError, match=r"explain\.jsonl:1: no row of knowledge"):
        list(read_step(tmp_path, "explain"))
    for line in (b"[1]\n", b"null\n", b"{}\n"):
        step_path(tmp_path, "explain").write_bytes(line)
        with pytest.raises(DataError, match=r"explain\.jsonl:1: not valid JSON: no object with an id"):
            KnowledgeStore(tmp_path, STEPS, {"plan": 1})


def test_rows_of_other_questions_move_aside(tmp_path: Path) -> None:
    filled(tmp_path, "ab")
    with KnowledgeStore(tmp_path, STEPS, {"plan": 2}) as store:
        assert store.finished == {}
    assert list(read_step(tmp_path, "explain")) == []
    [before] = tmp_path.glob("before-*")
    assert [row.id for row in read_step(before, "explain")] == ["a", "b"]
    with KnowledgeStore(before, STEPS, {"plan": 1}) as store:
        assert set(store.finished) == {"a", "b"}


def test_examples_get_the_texts_that_were_kept(tmp_path: Path) -> None:
    examples = [Example(name, "q", ("y",), choices=("x", "y", "z")) for name in "abcd"]
    write_step(tmp_path, "explain", [Knowledge(name, "explain", f"old {name}") for name in "abc"])
    write_step(
        tmp_path,
        "revise",
        [
            Knowledge("a", "revise", "new a"),
            Knowledge("b", "revise", "new b", reasons=("restates",)),
            Knowledge("c", "revise", None, reasons=("needs critique: none was kept",)),
        ],
    )
    wrong = [("a", 0, "x!"), ("a", 2, "z!"), ("b", 2, "z!"), ("a", 1, "gold!")]
    write_step(tmp_path, "counterfactual", [Knowledge(name, "counterfactual", text, at) for name, at, text in wrong])
    found = with_rationales(examples, tmp_path, "revise")
    assert found == [
        WithRationales(examples[0], "new a", {0: "x!", 2: "z!"}),
        WithRationales(examples[1], None, {2: "z!"}),
        WithRationales(examples[2], None, {}),
        WithRationales(examples[3], None, {}),
    ]
    assert coverage(found) == {
        "examples": 4,
        "with_rationale": 1,
        "without_rationale": 3,
        "counterfactuals": 3,
        "with_all_counterfactuals": 1,
    }
    assert [each.rationale for each in with_rationales(examples, tmp_path, "explain")] == [
        "old a",
        "old b",
        "old c",
        None,
    ]


def test_counts_are_those_of_the_rows() -> None:
    paid = Provenance("m", input_tokens=10, output_tokens=5, cost=0.25, seconds=2.0)
    again = Provenance("m", input_tokens=1, output_tokens=2, cost=0.5, seconds=0.0, cached=True)
    rows = [
        Knowledge("a", "explain", "t", provenance=paid),
        Knowledge("b", "explain", "t", reasons=("restates: 95%", "short: 2 words"), provenance=again),
        Knowledge("c", "explain", None, reasons=("unfinished: the answer reached max_tokens",), provenance=paid),
        Knowledge("d", "explain", None, reasons=("no gold answer",)),
    ]
    assert count(rows).to_json() == {
        "asked": 3,
        "written": 2,
        "kept": 1,
        "input_tokens": 21,
        "output_tokens": 12,
        "cached": 1,
        "rejected": {"restates": 1, "short": 1},
        "missing": {"unfinished": 1, "no gold answer": 1},
        "cost": 1.0,
        "seconds": 4.0,
    }


def test_rationales_of_the_data_paraphrases_and_new_questions_come_to_their_examples(tmp_path):
    own = Example("a", "why?", ("so",), choices=("so", "no"), rationales=("Since it is.", "Since it was."))
    other = Example("b", "how?", ("thus",), context="Thus it goes.", meta={"answer_index": 0})
    asked = json.dumps({"question": " when? ", "choices": [], "answer": "now"})
    write_step(tmp_path, "explain", [Knowledge("a", "explain", "The teacher's.")])
    write_step(
        tmp_path,
        "paraphrase",
        [Knowledge("a", "paraphrase", "for what?"), Knowledge("a", "paraphrase", "bad", reasons=("x",))],
    )
    write_step(tmp_path, "new_questions", [Knowledge("b", "new_questions", asked)])
    first, second = with_rationales([own, other], tmp_path, "data", paraphrases=True, new_questions=True)
    assert (first.rationale, first.paraphrases, first.new_questions) == ("Since it is.", ("for what?",), ())
    assert (second.rationale, second.paraphrases) == (None, ())
    assert second.new_questions == (
        Example("b/new_questions", "when?", ("now",), context="Thus it goes.", origin="teacher"),
    )
    first, second = with_rationales([own, other], tmp_path, "explain")
    assert (first.rationale, first.paraphrases, second.new_questions) == ("The teacher's.", (), ())
    write_step(tmp_path, "new_questions", [Knowledge("b", "new_questions", "no JSON")])
    with pytest.raises(DataError, match="b: no question of the step new_questions"):
        with_rationales([other], tmp_path, "data", new_questions=True)
