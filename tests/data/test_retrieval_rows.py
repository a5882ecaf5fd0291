"""Rows of queries and passages, and files of passages: what is read, and what is refused with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from understudy.data.corpus import corpus_of
from understudy.data.embedded.telecom import passages
from understudy.data.load import load_splits
from understudy.errors import DataError
from understudy.recipe import DataConfig
from understudy.types import Example


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path, **fields: Any) -> list[Example]:
    splits = load_splits(DataConfig(source=str(path), dev=0, test=0, **fields))
    return [*splits.train, *splits.unlabelled]


def test_the_columns_of_several_worlds_are_one_layout(tmp_path: Path) -> None:
    rows = [
        {"query": "who?", "positive": "the AMF", "negative": "the SMF"},
        {"query": "what?", "positive": ["the N2", "N2"], "negatives": ["N3", "N3", "N4"], "source": "book"},
        {"query": "which?", "positive": "a band", "negative_1": "a slice", "negative_2": "a cell"},
        {"query": "where?", "positive": "here"},
    ]
    first, second, third, fourth = sorted(read(write(tmp_path / "rows.jsonl", rows)), key=lambda row: row.id)
    assert (first.question, first.answers, first.choices) == ("who?", ("the AMF",), ("the AMF", "the SMF"))
    assert second.answers == ("the N2", "N2")
    assert second.choices == ("N2", "N3", "N4", "the N2")
    assert second.meta == {"source": "book"}
    assert third.choices == ("a band", "a cell", "a slice")
    assert fourth.choices == ()


def test_anchors_and_columns_of_one_s_own(tmp_path: Path) -> None:
    anchors = write(tmp_path / "anchors.jsonl", [{"anchor": "who?", "positive": "the AMF"}])
    assert read(anchors)[0].question == "who?"
    own = write(tmp_path / "own.jsonl", [{"frage": "who?", "stelle": "the AMF"}])
    [row] = read(own, format="retrieval", columns={"query": "frage", "positive": "stelle"})
    assert (row.question, row.answers) == ("who?", ("the AMF",))


def test_texts_alone_are_unlabelled(tmp_path: Path) -> None:
    gold = write(tmp_path / "gold.jsonl", [{"query": "who?", "positive": "the AMF"}])
    texts = write(tmp_path / "texts.jsonl", [{"text": "a note"}, {"query": "what?"}, {"passage": "the UPF"}])
    rows = read(gold, unlabelled_source=str(texts), format={"unlabelled": "retrieval"})
    assert [row.question for row in rows if not row.labelled] == ["a note", "what?", "the UPF"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"query": "who?", "positive": ""}, "positive"),
        ({"query": "", "positive": "the AMF"}, "query"),
        ({"query": "who?", "positive": "the AMF", "negative": "the AMF"}, "a negative is the positive passage too"),
        ({"query": "who?", "positive": "the AMF", "negatives": ["x", 3.5, None]}, "negatives\\[2\\]"),
        ({"query": "who?", "positive": {"a": 1}}, "positive"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    path = write(tmp_path / "rows.jsonl", [{"query": "ok?", "positive": "yes"}, row])
    with pytest.raises(DataError, match=message) as refused:
        read(path, format="retrieval")
    assert "rows.jsonl:2" in str(refused.value)


def test_a_question_with_an_answer_is_still_one(tmp_path: Path) -> None:
    """A column that is called passage is no passage to find where there is an answer."""
    [row] = read(write(tmp_path / "qa.jsonl", [{"query": "who?", "passage": "The AMF does.", "answer": "the AMF"}]))
    assert row.answers == ("the AMF",)


def test_a_corpus_out_of_a_file(tmp_path: Path) -> None:
    path = write(tmp_path / "corpus.jsonl", [{"passage": "one"}, {"passage": " two "}, {"passage": "one"}])
    assert corpus_of(str(path)) == ("one", "two")
    table = tmp_path / "corpus.csv"
    table.write_text("id,Document\n1,three\n", encoding="utf-8")
    assert corpus_of(str(table)) == ("three",)
    assert corpus_of("embedded:telecom-passages") == passages()
    assert corpus_of(None) == ()


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [
        ("absent.jsonl", None, "no such file"),
        ("corpus.jsonl", [{"title": "one"}], "no column of passages, but title"),
        ("corpus.jsonl", [{"passage": "one"}, {"passage": ""}], "corpus.jsonl:2"),
    ],
)
def test_a_corpus_that_is_none_is_refused(tmp_path: Path, name: str, rows: Any, message: str) -> None:
    path = tmp_path / name
    if rows:
        write(path, rows)
    with pytest.raises(DataError, match=message):
        corpus_of(str(path))


def test_the_embedded_set_asks_in_words_that_training_never_had() -> None:
    splits = load_splits(DataConfig(source="embedded:telecom-passages"))
    facts = {role: {row.meta["fact"][0] for row in rows} for role, rows in splits.by_role.items()}
    assert not facts["test"] & (facts["train"] | facts["unlabelled"])
    assert {row.meta["phrasing"] for row in splits.test} == {7, 8}
    corpus = set(passages())
    for row in (*splits.train, *splits.test):
        assert set(row.answers) | set(row.choices) <= corpus
    assert not any(row.answers or row.choices for row in splits.unlabelled)
