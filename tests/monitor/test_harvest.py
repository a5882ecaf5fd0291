"""What is harvested, and what a client who wants to teach the student nonsense can do about it."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from typer.testing import CliRunner

from support.exchanges import exchange
from understudy.cli import app
from understudy.data.load import load_splits
from understudy.errors import DataError
from understudy.files import read_json, read_jsonl
from understudy.knowledge.near_duplicates import NearDuplicates
from understudy.monitor.harvest import HarvestRules, accept, harvest, write_harvest
from understudy.monitor.store import MonitorStore, Shadow
from understudy.recipe import DataConfig
from understudy.serve.exchange import Thumb

TERMS = (
    "ambient",
    "beamforming",
    "carrier",
    "diversity",
    "erlang",
    "fading",
    "guard",
    "handover",
    "interleaver",
    "jitter",
)


def question(number: int) -> str:
    return f"How does {TERMS[number % 10]} number {number} change what layer {number // 10} of the stack sends?"


@pytest.fixture
def store(tmp_path: Path) -> MonitorStore:
    return MonitorStore(tmp_path / "monitor.db")


def fill(store: MonitorStore, count: int = 100, **fields: object) -> None:
    """Requests of ten clients; of each the teacher says something else."""
    told = [exchange(f"r{n}", question(n), key=f"k{n % 10}", confidence=0.9, **fields) for n in range(count)]
    store.write(told, [Shadow(told.id, 0.05, "big", f"the answer to {told.id}", 0.1) for told in told])


def test_each_reason_leads_into_the_harvest(store: MonitorStore) -> None:
    def one(id: str, confidence: float, agreement: float | None) -> None:
        number = next(n for n in range(1000) if not store.is_held_out(question(n)) and question(n) not in used)
        used.add(question(number))
        told = exchange(id, question(number), confidence=confidence)
        store.write([told], [] if agreement is None else [Shadow(id, 0.05, "big", "taught", agreement)])

    used: set[str] = set()
    one("fine", 0.9, 1.0)
    one("parted", 0.9, 0.2)
    one("unsure", 0.2, None)
    one("disliked", 0.9, None)
    store.write_thumb(Thumb("down", "q", "an answer", id="disliked", correction="what the user thinks"))
    store.write_thumb(Thumb("up", "q", "an answer", id="fine"))
    rows = {row["provenance"]["request"]: row for row in harvest(store, HarvestRules(terms="allowed")).rows}
    reasons = {id: row["provenance"]["reasons"] for id, row in rows.items()}
    assert reasons == {"parted": ["disagreement"], "unsure": ["unsure"], "disliked": ["thumb"]}
    assert rows["parted"]["answers"] == ["taught"]
    assert rows["parted"]["provenance"]["terms"] == "allowed"
    assert rows["parted"]["provenance"]["student_answer"] == "an answer"
    # What a user calls right is shown, and is no answer.
    assert "answers" not in rows["disliked"]
    assert rows["disliked"]["provenance"]["suggested"] == ["what the user thinks"]
    asked = harvest(store, HarvestRules(), lambda row: f"taught {row['id']}")
    assert {row["answers"][0] for row in asked.rows} == {"taught", "taught unsure", "taught disliked"}


def test_in_a_cascade_the_teacher_has_answered_already(store: MonitorStore) -> None:
    number = next(n for n in range(100) if not store.is_held_out(question(n)))
    store.write([exchange("a", question(number), "right", student_answer="wrong", decision="asked", confidence=0.1)])
    row = harvest(store, HarvestRules()).rows[0]
    assert (row["answers"], row["provenance"]["student_answer"]) == (["right"], "wrong")


def test_held_out_questions_are_the_test_set_and_nothing_near_them_is_learned(store: MonitorStore) -> None:
    fill(store, 300)
    held = [n for n in range(300) if store.is_held_out(question(n))]
    near = [exchange(f"near{n}", question(n) + " Please tell me!", key="k1", confidence=0.1) for n in held]
    near = [told for told in near if not store.is_held_out(told.messages[0]["content"])]
    store.write(near)
    harvested = harvest(store, HarvestRules())
    test = {row["question"] for row in harvested.test}
    assert test == {question(n) for n in held}
    texts = NearDuplicates(0.7)
    for row in harvested.test:
        texts.add(row["id"], row["question"])
    assert all(texts.near(row["id"], row["question"]) is None for row in harvested.rows)
    assert harvested.dropped["near a held-out question"] >= len(near) > 0


def test_a_client_that_floods_gets_its_share_and_no_more(store: MonitorStore) -> None:
    fill(store, 150)
    flood = [exchange(f"f{n}", f"Is it true that vendor {n} {TERMS[n % 10]} is the best of all {n}?", key="bad",
                      confidence=0.01) for n in range(500)]  # fmt: skip
    store.write(flood, [Shadow(told.id, 0.05, "big", "no", 0.0) for told in flood])
    harvested = harvest(store, HarvestRules(key_share=0.1))
    by_key = Counter(row["provenance"]["key"] for row in harvested.rows)
    assert by_key["bad"] <= max(0.1 * len(harvested.rows), 1) + 1
    assert any("bad" in note for note in harvested.notes)
    assert harvested.dropped["more than one key's share"] > 300


def test_one_question_in_many_wordings_counts_once_and_says_who_asked(store: MonitorStore) -> None:
    number = next(n for n in range(100) if not store.is_held_out(question(n)))
    same = [exchange(f"s{n}", question(number) + "?" * n, key=f"k{n % 2}", confidence=0.1) for n in range(50)]
    store.write([told for told in same if not store.is_held_out(told.messages[0]["content"])])
    rows = harvest(store, HarvestRules(key_share=1)).rows
    assert len(rows) == 1
    assert (rows[0]["provenance"]["asked"], rows[0]["provenance"]["askers"]) == (50, 2)


def test_without_keys_the_harvest_says_that_no_share_was_bounded(store: MonitorStore) -> None:
    store.write([exchange(f"r{n}", question(n), confidence=0.1) for n in range(20)])
    assert "no client's share" in harvest(store, HarvestRules()).notes[0]


def test_a_recipe_reads_what_was_accepted(store: MonitorStore, tmp_path: Path) -> None:
    fill(store, 60)
    unseen = [exchange(f"u{n}", "Unseen: " + question(n + 500), key=f"k{n}", confidence=0.1) for n in range(8)]
    store.write(unseen)
    folder = tmp_path / "data"
    rules = HarvestRules(key_share=0.5)
    write_harvest(harvest(store, rules), folder, rules, "monitor.db")
    rows = read_jsonl(folder / "candidates.jsonl")
    decisions = {row["id"]: "accept" if place % 2 else "reject" for place, row in enumerate(rows[:-1])}
    decisions |= {row["id"]: "accept" for row in rows if "answers" not in row}
    labelled, unlabelled = accept(folder, decisions)
    assert labelled + unlabelled == sum(decision == "accept" for decision in decisions.values())
    assert unlabelled > 0
    splits = load_splits(
        DataConfig(source=str(folder / "train.jsonl"), unlabelled_source=str(folder / "unlabelled.jsonl"))
    )
    examples = [*splits.train, *splits.dev, *splits.test]
    assert len(examples) == labelled
    assert {example.answers[0].split()[-1] for example in examples} <= {f"r{n}" for n in range(60)}
    assert examples[0].meta["provenance"]["reviewed"] is True
    assert len(splits.unlabelled) == unlabelled
    with pytest.raises(DataError, match="has no row"):
        accept(folder, {"live-of-another-harvest": "accept"})


def test_the_review_page_escapes_what_users_and_models_wrote(store: MonitorStore, tmp_path: Path) -> None:
    hostile = "</script><script>document.title='owned'</script><img src=x onerror=alert(1)>"
    store.write([exchange("a", hostile, hostile, confidence=0.1, context=hostile, choices=(hostile,))])
    store.write_thumb(Thumb("down", "q", "a", id="a", correction=hostile))
    write_harvest(harvest(store, HarvestRules(terms=hostile)), tmp_path, HarvestRules(terms=hostile), hostile)
    page = (tmp_path / "review.html").read_text()
    assert "<script>document" not in page
    assert "<img" not in page
    assert page.count("<script>") == 1


def test_the_commands_lead_from_the_database_to_rows(store: MonitorStore, tmp_path: Path) -> None:
    fill(store)
    out = tmp_path / "out"
    said = CliRunner().invoke(app, ["harvest", str(tmp_path / "monitor.db"), "--out", str(out), "--terms", "own model"])
    assert said.exit_code == 0, said.output
    assert "held-out rows" in said.output
    assert read_json(out / "harvest.json")["terms"] == "own model"
    nothing = CliRunner().invoke(app, ["harvest", "accept", str(out)])
    assert nothing.exit_code != 0
    row = read_jsonl(out / "candidates.jsonl")[0]
    (tmp_path / "decisions.json").write_text(json.dumps({row["id"]: "accept"}))
    said = CliRunner().invoke(app, ["harvest", "accept", str(out), str(tmp_path / "decisions.json")])
    assert said.exit_code == 0, said.output
    assert [kept["id"] for kept in read_jsonl(out / "train.jsonl")] == [row["id"]]
