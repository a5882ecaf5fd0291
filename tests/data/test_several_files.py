"""Rows of several files in one run, each knowing which it comes from."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from understudy.data.load import load_splits
from understudy.errors import DataError
from understudy.recipe import DataConfig, parse_recipe


def written(path: Path, rows: int, prefix: str, **fields: str) -> str:
    lines = [{"id": f"{n}", "question": f"{prefix} {n}?", "answer": f"{prefix} {n}", **fields} for n in range(rows)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    return str(path)


def test_each_row_has_the_name_of_its_file(tmp_path: Path) -> None:
    radio, core = (written(tmp_path / f"{name}.jsonl", 30, name) for name in ("radio", "core"))
    splits = load_splits(DataConfig(sources={"radio": radio, "core": core}))
    assert len(splits.rows) == 60
    for example in splits.rows:
        assert example.meta["source"] == example.question.split()[0]
    # Files that number their rows alike: the second's ids say whose they are.
    assert {example.id.partition(":")[0] for example in splits.rows if example.meta["source"] == "core"} == {"core"}
    assert [source["role"] for source in splits.notes["sources"]] == ["radio", "core"]


def test_a_row_stands_where_it_would_without_the_other_file(tmp_path: Path) -> None:
    """So that what a teacher said of one file's training rows serves a run on both."""
    radio, core = (written(tmp_path / f"{name}.jsonl", 60, name) for name in ("radio", "core"))
    alone = load_splits(DataConfig(source=radio))
    both = load_splits(DataConfig(sources={"radio": radio, "core": core}))
    assert {e.id for e in alone.train} == {e.id for e in both.train if e.meta["source"] == "radio"}


def test_files_may_have_layouts_and_columns_of_their_own(tmp_path: Path) -> None:
    radio = written(tmp_path / "radio.jsonl", 30, "radio")
    (tmp_path / "core.csv").write_text(
        "Frage,Antwort\n" + "".join(f"core {n}?,core {n}\n" for n in range(30)), encoding="utf-8"
    )
    config = DataConfig(
        sources={"radio": radio, "core": str(tmp_path / "core.csv")},
        columns={"core": {"question": "Frage", "answer": "Antwort"}},
        format={"core": "qa"},
    )
    assert len(load_splits(config).rows) == 60


def test_a_file_with_a_source_of_its_own_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "radio.jsonl", 30, "radio", source="3GPP")
    with pytest.raises(DataError, match="has a field 'source' of its own"):
        load_splits(DataConfig(sources={"radio": path}))


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"source": "a.jsonl", "sources": {"b": "b.jsonl"}}, "give one of the two"),
        ({"sources": {"test": "b.jsonl"}}, "test is a name that data has already"),
        ({"sources": {"b": "b.jsonl"}, "format": {"c": "qa"}}, "there is no source 'c'"),
    ],
)
def test_names_that_say_two_things_are_refused(section: dict, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        DataConfig.model_validate(section)


def test_a_recipe_without_them_keeps_its_name() -> None:
    assert parse_recipe({}).fingerprint() == "12d93ae4"
