"""`understudy study` on a real command line: what it makes, and what it says of what cannot be."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from support.studies import make_study, write_texts
from understudy.study.folder import open_study


def test_what_does_not_go_together_is_said_in_one_line(tmp_path: Path, command) -> None:
    source = str(write_texts(tmp_path / "t.jsonl", 8))
    out = str(tmp_path / "s")
    for arguments, words in (
        ((source, source, "--out", out), "two sources are called"),
        ((source, "--out", out, "--items", "9"), "9 items are wanted, and every method explains 8"),
        ((source, "--out", out, "--items", "8", "--length-ratio", "1"), "texts matched in length within 1"),
        ((source, "--out", out, "--items", "8", "--languages", "en,fr"), "there is no language 'fr'"),
        ((source, "--out", out, "--items", "8", "--pairwise", "--simulation"), "exclude each other"),
        ((str(tmp_path), "--out", out), "is no run folder"),
        ((source, "--out", str(tmp_path)), "is there already"),
    ):
        outcome = command("study", "create", *arguments)
        assert (outcome.code, words in outcome.err) == (1, True), outcome.err
        assert outcome.err.startswith("error: ")
        assert not (tmp_path / "s").exists()


def test_create_says_what_it_made(tmp_path: Path, command) -> None:
    source = str(write_texts(tmp_path / "t.jsonl", 30))
    arguments = ("--items", "12", "--raters", "4", "--by", "disagreement", "--length-ratio", "9")
    outcome = command("study", "create", source, "--out", str(tmp_path / "s"), *arguments)
    assert outcome.code == 0, outcome.err
    assert "4 methods: CF, MT, MT+CF, MT+CF revised" in outcome.out
    study = open_study(tmp_path / "s")
    strata = Counter(one.stratum for one in study.items.values())
    assert f"12 items ({', '.join(f'{name} {strata[name]}' for name in sorted(strata))})" in outcome.out
    assert study.config.length_ratio == 9
    counts = Counter(seat.method for seats in study.slots.values() for seat in seats)
    assert set(counts.values()) == {12}


def test_links_come_once_for_each_place_and_exclusion_frees_one(tmp_path: Path, command) -> None:
    study = str(make_study(tmp_path, raters=3).folder)
    lines = command("study", "links", study, "--public-url", "https://study.example.org/").out.splitlines()
    assert [line.split("\t")[:2] for line in lines] == [["r0001", "0"], ["r0002", "1"], ["r0003", "2"]]
    addresses = {line.split("\t")[2] for line in lines}
    assert len(addresses) == 3
    assert all(address.startswith("https://study.example.org/r/") and len(address) > 58 for address in addresses)
    full = command("study", "links", study)
    assert (full.code, "every place is taken" in full.err) == (1, True)
    assert "needs a reason" in command("study", "exclude", study, "r0002").err
    assert command("study", "exclude", study, "r0002", "--reason", "a test").out == "r0002 excluded\n"
    assert command("study", "links", study).out.split("\t")[:2] == ["r0004", "1"]
    further = command("study", "links", study, "--rater", lines[0].split("\t")[2])
    assert further.code == 0
    assert further.out.split("\t")[2] not in addresses
    gone = command("study", "forget", study, "r0002", "--yes")
    assert gone.out.startswith("r0002: 2 rows deleted")
    assert "nobody is known by that" in command("study", "forget", study, "r0002", "--yes").err
    assert command("study", "pause", study).out == "paused\n"
    assert command("study", "pause", study, "--resume").out == "resumed\n"


def test_export_writes_every_form(tmp_path: Path, command) -> None:
    study = make_study(tmp_path).folder
    for form, names in (
        ("csv", ["ratings.csv", "raters.csv", "comments.csv"]),
        ("parquet", ["ratings.parquet", "raters.parquet", "comments.parquet"]),
        ("labelstudio", ["labelstudio.json", "labelstudio.xml"]),
    ):
        outcome = command("study", "export", str(study), "--to", form)
        assert [Path(line).name for line in outcome.out.splitlines()] == names
    head = (study / "export" / "ratings.csv").read_text(encoding="utf-8")
    assert head == "rater,item,method,construct,rating,position,seconds,length\n"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://a@b/c", "no database of the kind mysql"),
        ("not a url", "--database is no URL"),
        ("postgresql://user:secret@127.0.0.1:1/none", "the database cannot be opened"),
        ("sqlite:////nowhere/at/all.db", "the database cannot be opened"),
    ],
)
def test_a_database_that_cannot_be_reached(url: str, words: str, tmp_path: Path, command) -> None:
    outcome = command("study", "export", str(make_study(tmp_path).folder), "--database", url)
    assert outcome.code == 1
    assert words in outcome.err
    assert "secret" not in outcome.err


def test_serve_refuses_a_short_token_and_a_port_that_is_taken(tmp_path: Path, command, monkeypatch) -> None:
    import socket

    study = str(make_study(tmp_path).folder)
    monkeypatch.setenv("UNDERSTUDY_STUDY_TOKEN", "short")
    assert "UNDERSTUDY_STUDY_TOKEN has 5 characters" in command("study", "serve", study).err
    monkeypatch.setenv("UNDERSTUDY_STUDY_TOKEN", "long enough for a token")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        outcome = command("study", "serve", study, "--port", str(taken.getsockname()[1]))
    assert "cannot listen on" in outcome.err
    assert "long enough" not in outcome.out
