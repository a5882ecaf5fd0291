"""A session log is trained and measured like any other data: one recipe, one run, figures of bundles in its report."""

from __future__ import annotations

import csv
import json
from itertools import combinations
from pathlib import Path

import pytest

from support.house import House, training
from understudy.bundle_answers import read_answer
from understudy.files import read_json, read_jsonl
from understudy.metrics import BUNDLE, BUNDLE_PUBLISHED
from understudy.run import Run

WORDS = ("cat", "cow", "dog", "fish", "frog", "hen")


@pytest.fixture
def shop(house: House) -> House:
    """Sessions of three or four items, of which two that go together are bought, and a catalogue beside them."""
    pairs = [WORDS[n : n + 2] for n in (0, 2, 4)]
    sessions = [
        (*pair, *others)
        for pair in pairs
        for size in (1, 2)
        for others in combinations([word for word in WORDS if word not in pair], size)
        if others not in pairs
    ]
    rows = [
        (f"s{n}", item, "1" if k < 2 else "", "pets" if k < 2 else "")
        for n, items in enumerate(sessions)
        for k, item in enumerate(items)
    ]
    for name, header, table in (
        ("log.csv", ("session", "item", "bundle", "intent"), rows),
        ("items.csv", ("item", "title", "category"), [(word, f"a {word}", "") for word in WORDS]),
    ):
        with (house.folder / name).open("w", encoding="utf-8", newline="") as handle:
            csv.writer(handle).writerows([header, *table])
    house.recipe["data"] = {
        "source": str(house.folder / "log.csv"),
        "catalogue": str(house.folder / "items.csv"),
        "test": 0.3,
        "max_length": 400,
        "max_answer_tokens": 64,
    }
    house.recipe["teacher"].pop("sft")
    house.recipe["distil"] = training(steps=2)
    house.recipe["evaluate"] |= {
        "arms": ["sft"],
        "speed": False,
        "metrics": ["bundles", "rougeL"],
        "slices": ["length"],
    }
    return house


def test_a_run_trains_on_sessions_and_reports_bundles(shop: House, command) -> None:
    done = command("run", str(shop.write_recipe()))
    assert done.code == 0, done.err
    run = Run(shop.run_folder())
    notes = read_json(run.folder / "data" / "notes.json")
    assert notes["sizes"] == {"train": 15, "unlabelled": 0, "dev": 2, "test": 7}
    assert [source["role"] for source in notes["sources"]] == ["source", "catalogue"]
    rows = list(read_jsonl(run.folder / "stages" / "predict-sft" / "predictions.jsonl"))
    assert all(len(read_answer(row["references"][0]) or ()) == 1 for row in rows)
    scores = read_json(run.folder / "scores.json")["overall"]["table"]["sft"]
    assert set(BUNDLE) - {"bundle_intent_similarity"} <= scores.keys() & {*BUNDLE, *BUNDLE_PUBLISHED}
    assert "Bundle precision" in (run.folder / "report.html").read_text(encoding="utf-8")

    catalogue = shop.folder / "items.csv"
    catalogue.write_text(catalogue.read_text(encoding="utf-8").replace("a cat", "one cat"), encoding="utf-8")
    again = command("run", str(shop.write_recipe()))
    assert "items.csv" in again.err + again.out  # what the run was made from has changed


def test_patterns_samples_and_baselines_of_a_log(shop: House, command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(shop.folder)
    recipe = str(shop.write_recipe())
    done = command("sessions", "patterns", recipe, "--kind", "item", "--support", "0.1", "--out", "patterns.jsonl")
    assert done.code == 0, done.err
    patterns = list(read_jsonl(shop.folder / "patterns.jsonl"))
    assert {tuple(pattern["members"]) for pattern in patterns} == {("cat", "cow"), ("dog", "fish"), ("frog", "hen")}
    assert all(pattern["kind"] == "item" and pattern["text"] in done.out for pattern in patterns)
    assert command("sessions", "sample", recipe, "--sampler", "diversity", "--ratio", "0.5").code == 0
    lines = (shop.folder / "sample" / "train.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 8
    answers = shop.folder / "answers.jsonl"
    trained = read_jsonl_ids(shop, recipe, command)
    answers.write_text("".join(json.dumps({"id": i, "prediction": "1, 2"}) + "\n" for i in trained))
    done = command("sessions", "sample", recipe, "--sampler", "difficulty", "--answers", str(answers), "--ratio", "1")
    assert done.code == 0, done.err
    done = command("sessions", "baselines", recipe, "--out", "answers")
    assert done.code == 0, done.err
    rows = list(read_jsonl(shop.folder / "answers" / "all_in_one.jsonl"))
    assert {row["prediction"] for row in rows} == {
        '{"bundles": [{"items": [1, 2, 3]}]}',
        '{"bundles": [{"items": [1, 2, 3, 4]}]}',
    }
    done = command("evaluate", "answers/nearest.jsonl", "--metrics", "bundles")
    assert done.code == 0, done.err
    assert "Bundle precision" in done.out


def read_jsonl_ids(shop: House, recipe: str, command) -> list[str]:
    """The ids of all training sessions, as a sample of all of them names them."""
    assert command("sessions", "sample", recipe, "--ratio", "1", "--out", "all").code == 0
    return [row["session"] for row in read_jsonl(shop.folder / "all" / "train.jsonl")]


def test_commands_of_sessions_refuse_what_is_none(house: House, command, tmp_path: Path) -> None:
    recipe = str(house.write_recipe())
    done = command("sessions", "patterns", recipe)
    assert done.code == 1
    assert "the rows are no sessions of items" in done.err


@pytest.mark.parametrize("name", ["baselines", "answer"])
def test_without_test_sessions_there_is_nothing_to_answer(shop: House, command, name: str) -> None:
    done = command("sessions", name, str(shop.write_recipe()), "data.test=0")
    assert done.code == 1
    assert "error: there are no test sessions to answer" in done.err
    assert "data.test_source" in done.err
