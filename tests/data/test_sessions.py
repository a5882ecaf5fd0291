"""Sessions of items: logs, rows of their own, the published folder; what makes one bad; how they are split."""

import csv
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from understudy.bundle_answers import Bundle, read_answer
from understudy.data.load import load_splits, read_examples
from understudy.data.session_split import cut_sessions
from understudy.data.sessions import Item, Session, example_of, session_of
from understudy.errors import DataError
from understudy.recipe import DataConfig

LOG = [
    ("s1", "A", "1", "charging"),
    ("s1", "B", "1", "charging"),
    ("s1", "C", "", ""),
    ("s2", "C", "x", "music"),
    ("s2", "D", "x", ""),
    ("s2", "E", "y", "video"),
    ("s2", "D", "y", "video"),
]
CATALOGUE = [
    ("A", "USB charger", "power"),
    ("B", "USB cable", "cables"),
    ("C", "Lamp  (12 W)", ""),
    ("D", "Amplifier", "audio"),
    ("E", "Television", "video"),
]


def table(path: Path, header: str, rows: list[tuple[str, ...]]) -> str:
    with path.open("w", encoding="utf-8", newline="") as handle:
        csv.writer(handle).writerows([header.split(","), *rows])
    return str(path)


@pytest.fixture
def catalogue(tmp_path: Path) -> str:
    return table(tmp_path / "catalogue.csv", "item,title,category", CATALOGUE)


def log(tmp_path: Path, rows: list[tuple[str, ...]], header: str = "session,item,bundle,intent") -> str:
    return table(tmp_path / "log.csv", header, rows)


def fault_of(source: str, **settings: Any) -> str:
    with pytest.raises(DataError) as caught:
        load_splits(DataConfig(source=source, dev=0, test=0, **settings))
    return caught.value.message


def test_a_log_becomes_numbered_items_and_their_bundles(tmp_path: Path, catalogue: str) -> None:
    config = DataConfig(source=log(tmp_path, LOG), catalogue=catalogue)
    first, second = read_examples(config, config.source).examples
    assert first.question.startswith(
        "Items of a session:\n1. USB charger (power)\n2. USB cable (cables)\n3. Lamp (12 W)\nWhich of these"
    )
    assert json.loads(first.answers[0]) == {"bundles": [{"items": [1, 2], "intent": "charging"}]}
    assert second.id == "s2"
    assert read_answer(second.answers[0]) == (Bundle((1, 2), "music"), Bundle((2, 3), "video"))
    assert session_of(second) == Session(
        "s2",
        (Item("C", "Lamp (12 W)"), Item("D", "Amplifier", "audio"), Item("E", "Television", "video")),
        (Bundle((1, 2), "music"), Bundle((2, 3), "video")),
    )


def test_the_same_log_out_of_parquet_jsonl_and_sessions_reads_alike(tmp_path: Path, catalogue: str) -> None:
    names = ("session", "item", "bundle", "intent")
    records = [dict(zip(names, row, strict=True)) for row in LOG]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), tmp_path / "log.parquet")
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in records))
    whole = [
        {"session": "s1", "items": ["A", "B", "C"], "bundles": [{"items": ["B", "A"], "intent": "charging"}]},
        {
            "session": "s2",
            "items": ["C", {"item": "D", "title": "Amplifier"}, "E"],
            "bundles": [{"items": ["C", "D"], "intent": "music"}, {"items": ["E", "D"], "intent": "video"}],
        },
    ]
    (tmp_path / "sessions.json").write_text(json.dumps(whole))
    sources = [log(tmp_path, LOG), *(str(tmp_path / name) for name in ("log.parquet", "log.jsonl", "sessions.json"))]
    readings = [read_examples(DataConfig(source=name, catalogue=catalogue), name) for name in sources]
    assert [reading.format for reading in readings] == ["session_log"] * 3 + ["session"]
    assert all(reading.examples == readings[0].examples for reading in readings)


def test_columns_are_named_or_guessed_and_a_log_may_hold_the_titles(tmp_path: Path) -> None:
    rows = [("7", "A", "1", "Charger"), ("7", "B", "1", "Cable")]
    guessed = read_examples(DataConfig(), log(tmp_path, rows, "session_id,asin,bundle_id,title"))
    named = DataConfig(columns={"session": "wer", "item": "was", "bundle": "wozu", "title": "wie"})
    assert guessed.examples == read_examples(named, log(tmp_path, rows, "wer,was,wozu,wie")).examples
    assert guessed.examples[0].answers == ('{"bundles": [{"items": [1, 2]}]}',)
    assert "session_id as session" in guessed.columns["columns_guessed"]


def test_the_columns_of_the_catalogue_are_its_own(tmp_path: Path) -> None:
    own = table(tmp_path / "items.csv", "sku,name", [("A", "Charger"), ("B", "Cable"), ("C", "Lamp")])
    config = DataConfig(
        source=log(tmp_path, LOG[:3], "session,sku,bundle,intent"),
        catalogue=own,
        columns={"item": "sku", "catalogue": {"title": "name"}},
    )
    assert "1. Charger\n2. Cable\n3. Lamp" in read_examples(config, config.source).examples[0].question


def test_a_catalogue_names_its_columns_as_a_log_may(tmp_path: Path) -> None:
    own = table(tmp_path / "items.csv", "product_id,product_name", [("A", "Charger"), ("B", "Cable"), ("C", "Lamp")])
    config = DataConfig(source=log(tmp_path, LOG[:3], "session,product_id,bundle,intent"), catalogue=own)
    assert "1. Charger\n2. Cable\n3. Lamp" in read_examples(config, config.source).examples[0].question


def test_numbers_that_a_table_made_fractions_of_are_the_same_ids(tmp_path: Path) -> None:
    """A column of numbers with a gap, or a join, is one of floating point: 12 stands there as 12.0."""
    rows = [
        {"session": 7.0, "item": item, "bundle": bundle} for item, bundle in ((10.0, 1.0), (11.0, 1.0), (12.0, None))
    ]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "log.parquet")
    whole = [{"session": 7.0, "items": [10.0, 11.0, 12.0], "bundles": [{"items": [10.0, 11.0]}]}]
    (tmp_path / "sessions.json").write_text(json.dumps(whole))
    items = table(tmp_path / "items.csv", "item,title", [("10", "Charger"), ("11", "Cable"), ("12", "Lamp")])
    for name in ("log.parquet", "sessions.json"):
        config = DataConfig(source=str(tmp_path / name), catalogue=items)
        [example] = read_examples(config, config.source).examples
        assert example.id == "7"
        assert [item.id for item in session_of(example).items] == ["10", "11", "12"]


def test_a_title_or_category_of_several_lines_is_one_line_of_the_list(tmp_path: Path) -> None:
    rows = [("s", "A", "1", "Charger\n2. Lamp", "power\nsupply"), ("s", "B", "1", "Cable", "cables")]
    [example] = read_examples(DataConfig(), log(tmp_path, rows, "session,item,bundle,title,category")).examples
    assert "1. Charger 2. Lamp (power supply)\n2. Cable (cables)\nWhich" in example.question
    items = table(
        tmp_path / "items.csv", "item,title,category", [("A", "Charger", "power\nsupply"), ("B", "Cable", "")]
    )
    config = DataConfig(source=log(tmp_path, LOG[:2]), catalogue=items)
    assert "1. Charger (power supply)\n" in read_examples(config, config.source).examples[0].question


BAD_LOGS = [
    ([("", "A", "1", "")], "log.csv:2: session: empty"),
    ([("s1", "", "1", ""), ("s1", "A", "1", "")], "log.csv:2, session s1: log.csv:2: item: empty"),
    ([("s1", "A", "1", "")], "log.csv:2, session s1: items: a session needs two different items or more"),
    ([*LOG[:2], ("s1", "Z", "", "")], "items[2]: item 'Z' has no title in the data or in data.catalogue"),
    ([("s1", "A", "1", ""), ("s1", "B", "2", "")], "bundles[0]: a bundle needs two different items or more"),
    ([("s1", "A", "", ""), ("s1", "B", "", "")], "bundles: the session has no bundle"),
    (
        [("s1", "A", "1", "one"), ("s1", "B", "1", "another")],
        "log.csv:3: bundle 1: has two intents, 'one' and 'another'",
    ),
]


@pytest.mark.parametrize(("rows", "message"), BAD_LOGS)
def test_each_fault_of_a_log_is_one_line(
    tmp_path: Path, catalogue: str, rows: list[tuple[str, ...]], message: str
) -> None:
    said = fault_of(log(tmp_path, rows), catalogue=catalogue)
    assert message in said
    assert "\n" not in said


BAD_SESSIONS: list[tuple[dict[str, Any], str]] = [
    ({"items": "A,B", "bundles": []}, "items: expected a list of items"),
    ({"items": ["A", "B"], "bundles": "A"}, "bundles: expected a list of bundles"),
    ({"items": ["A", "B"], "bundles": [["A", "B"]]}, "bundles[0]: expected an object with `items`"),
    ({"items": ["A", "B"], "bundles": [{"items": ["A", "E"]}]}, "item 'E' is not among the items of the session"),
    ({"items": ["A", None], "bundles": []}, "items[1].item: empty"),
    ({"items": ["A", "B"], "bundles": [{"items": ["A", "B"]}], "split": "later"}, "split: 'later' is none of train"),
]


@pytest.mark.parametrize(("row", "message"), BAD_SESSIONS)
def test_each_fault_of_a_session_is_one_line(tmp_path: Path, catalogue: str, row: dict[str, Any], message: str) -> None:
    path = tmp_path / "sessions.jsonl"
    path.write_text(json.dumps({"session": "s", **row}) + "\n")
    assert message in fault_of(str(path), catalogue=catalogue, format="session")


def test_a_bad_catalogue_is_said_once_and_not_as_bad_rows(tmp_path: Path) -> None:
    source = log(tmp_path, LOG)
    twice = table(tmp_path / "c.csv", "item,title", [("A", "Charger"), ("A", "Cable")])
    with pytest.raises(DataError, match=r"c\.csv:3: item 'A' is described in two ways") as caught:
        load_splits(DataConfig(source=source, catalogue=twice))
    assert caught.value.hint == "keep one of its rows"
    blank = table(tmp_path / "c.csv", "item,title", [("A", "")])
    assert fault_of(source, catalogue=blank) == "catalogue: c.csv:2: title: empty"
    other = table(tmp_path / "c.csv", "item,label", [("A", "x")])
    assert "has no column 'title' (the catalogue); it has: item, label" in fault_of(source, catalogue=other)
    with pytest.raises(ValidationError, match="format: there is no source 'catalogue'"):
        DataConfig(format={"catalogue": "qa"})


@pytest.mark.parametrize(
    "header", ["visit,item,bundle,intent", "session,item,set,intent", "session,thing,bundle,intent"]
)
def test_a_column_that_is_absent_is_said_with_columns_of_sessions(tmp_path: Path, catalogue: str, header: str) -> None:
    with pytest.raises(DataError) as caught:
        load_splits(DataConfig(source=log(tmp_path, LOG, header), catalogue=catalogue))
    assert header.replace(",", ", ") in caught.value.message
    assert "{session: basket, item: sku, bundle: set}" in caught.value.hint


def test_what_stands_twice_counts_once_and_is_noted(tmp_path: Path, catalogue: str) -> None:
    rows = [*LOG[:2], ("s1", "B", "2", "cables"), ("s1", "A", "2", "cables"), ("s1", "A", "1", "charging")]
    config = DataConfig(source=log(tmp_path, rows), catalogue=catalogue)
    reading = read_examples(config, config.source)
    assert session_of(reading.examples[0]).bundles == (Bundle((1, 2), "charging"),)
    assert reading.blemishes == {"bundles that stood twice in their session": 1}


def test_unlabelled_sessions_need_no_bundles_and_keep_none(tmp_path: Path, catalogue: str) -> None:
    config = DataConfig(source=log(tmp_path, LOG), catalogue=catalogue)
    for example in read_examples(config, config.source, labelled=False).examples:
        assert example.answers == ()
        assert "true_bundles" not in example.meta
        assert session_of(example).bundles == ()


def test_a_teachers_rows_lose_their_bundles_with_their_answers(tmp_path: Path, catalogue: str) -> None:
    rows = [(f"s{n}", item, "1", "x") for n in range(20) for item in ("A", "BCDE"[n % 4], "BCDE"[n // 4 % 4])]
    splits = load_splits(DataConfig(source=log(tmp_path, rows), catalogue=catalogue, dev=0.0, test=0.2, gold_share=0.5))
    assert splits.unlabelled
    assert all("true_bundles" not in example.meta and not example.answers for example in splits.unlabelled)


# Splits ---------------------------------------------------------------------------------------------------------------


def sessions(lengths: list[int], domain: str = "") -> list[Any]:
    return [
        example_of(
            Session(f"s{n}", tuple(Item(f"i{n}-{k}", f"title {n} {k}") for k in range(size)), (Bundle((1, 2)),), domain)
        )
        for n, size in enumerate(lengths)
    ]


@given(st.lists(st.integers(2, 10), min_size=30, max_size=120), st.integers(0, 5))
def test_each_split_has_its_share_and_of_each_length_to_within_one(lengths: list[int], seed: int) -> None:
    examples = sessions(lengths)
    train, dev, test = cut_sessions(examples, dev=0.2, test=0.3, seed=seed, published=True).splits
    assert sorted(row.id for part in (train, dev, test) for row in part) == sorted(row.id for row in examples)
    for part, share in ((test, 0.3), (dev, 0.2)):
        assert abs(len(part) - share * len(examples)) <= 1
        counts = Counter(row.meta["length"] for row in part)
        assert all(abs(counts[length] - share * n) < 1.51 for length, n in Counter(lengths).items())


def test_sessions_of_the_same_items_are_one_whatever_their_order(tmp_path: Path, catalogue: str) -> None:
    rows = [(f"s{n}", item, "1", "x") for n in range(12) for item in ("AB" if n % 2 else "BA")]
    rows += [(f"t{n}", item, "1", "x") for n in range(3) for item in ("A", "CDE"[n])]
    config = DataConfig(source=log(tmp_path, rows), catalogue=catalogue, dev=0.0, test=0.5)
    splits = load_splits(config)
    twins = [{row.id[0] for row in part if row.id[0] == "s"} for part in (splits.train, splits.test)]
    assert sum(map(bool, twins)) == 1
    assert splits.notes["duplicates"] == {"groups": 1, "rows": 11}
    held = table(tmp_path / "held.csv", "session,item,bundle", [("new", "C", "1"), ("new", "A", "1")])
    leak = DataConfig(source=config.source, catalogue=catalogue, dev=0, test_source=held)
    with pytest.raises(DataError, match="1 test question also stands in training: new"):
        load_splits(leak)


def test_a_split_that_came_with_the_data_is_kept_unless_another_is_asked_for(tmp_path: Path, catalogue: str) -> None:
    rows = [(f"s{n}", item, "1", ("train", "validation", "test")[n]) for n in range(3) for item in ("A", "BCD"[n])]
    source = log(tmp_path, rows, "session,item,bundle,split")
    splits = load_splits(DataConfig(source=source, catalogue=catalogue))
    assert [[row.id for row in part] for part in (splits.train, splits.dev, splits.test)] == [["s0"], ["s1"], ["s2"]]
    assert "came with" in splits.notes["remarks"][0]
    again = load_splits(DataConfig(source=source, catalogue=catalogue, published_split=False, dev=0, test=0.34))
    assert (len(again.train), len(again.test)) == (2, 1)
    assert "remarks" not in again.notes
    pair = log(tmp_path, [*rows, ("s3", "B", "1", "test"), ("s3", "A", "1", "test")], "session,item,bundle,split")
    assert "sessions s0 and s3 hold the same items, one in train, one in test" in fault_of(pair, catalogue=catalogue)


def test_the_published_folder_reads_with_its_own_split(shared: Path) -> None:
    source = shared / "bundles" / "electronic"
    splits = load_splits(DataConfig(source=str(source)))
    assert splits.notes["sizes"] == {"train": 623, "unlabelled": 0, "dev": 90, "test": 180}
    assert Counter(row.meta["length"] for row in splits.test) == dict.fromkeys(range(2, 11), 20)
    truth = json.loads((source / "session_bundles_deduplication.json").read_text())
    for example in (*splits.train, *splits.dev, *splits.test):
        session = session_of(example)
        assert [(bundle.intent, {item.id for item in session.items_of(bundle)}) for bundle in session.bundles] == [
            (" ".join(intent.split()), set(items.split(","))) for intent, items in truth[example.id]
        ]


def test_a_broken_folder_says_which_file(tmp_path: Path) -> None:
    (tmp_path / "session_items.json").write_text('{"1": "A,B", "2": ["A"]}')
    assert "cannot read" in fault_of(str(tmp_path))
    (tmp_path / "item_titles.json").write_text('{"A": "Charger", "B": "Cable"}')
    (tmp_path / "session_bundles_deduplication.json").write_text("[]")
    assert "session_bundles_deduplication.json is no JSON object" in fault_of(str(tmp_path))
    (tmp_path / "session_bundles_deduplication.json").write_text('{"1": [["power", "A,B"]]}')
    assert "session_items.json:2: not as the layout has it: ['A']" in fault_of(str(tmp_path))
    kept = load_splits(DataConfig(source=str(tmp_path), on_bad_row="quarantine", dev=0, test=0))
    assert [row.answers[0] for row in kept.train] == ['{"bundles": [{"items": [1, 2], "intent": "power"}]}']
