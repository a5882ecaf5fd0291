"""What is written is there, whole, without what nobody should keep, for as long as was said."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from support.exchanges import exchange
from understudy.errors import ConfigError, DataError, RunError
from understudy.monitor.config import MonitorConfig, read_config
from understudy.monitor.redaction import Redaction
from understudy.monitor.store import MonitorStore, Shadow
from understudy.serve.exchange import Thumb

TESTS = Path(__file__).resolve().parents[1]


def test_requests_shadows_and_thumbs_come_back(database: str) -> None:
    store = MonitorStore(database)
    parts = [{"type": "text", "text": "What?"}]
    turns = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": parts})
    told = exchange("a", "", confidence=0.4, choices=("x", "y"), key="k1")
    told = type(told).from_json({**told.to_json(), "messages": turns})
    store.write([told, told], [Shadow("a", 0.05, "teacher", "this", 0.25)])
    store.write_thumb(Thumb("down", "What?", "an answer", id="a", correction="that"))
    row = store.request("a")
    assert row is not None
    assert (row.question, row.history, row.choices) == ("What?", [dict(turns[0])], ["x", "y"])
    assert (row.confidence, row.key, row.status, row.refused) == (0.4, "k1", 200, False)
    assert store.count() == 1
    assert [(s.probability, s.answer, s.agreement) for s in store.shadows()] == [(0.05, "this", 0.25)]
    store.close()
    again = MonitorStore(database, new=False)
    assert again.count() == 1
    again.close()


@pytest.mark.parametrize("kills", [2])
def test_a_killed_writer_loses_nothing_that_it_said_was_written(database: str, kills: int) -> None:
    MonitorStore(database).close()
    command = [sys.executable, "-m", "support.exchanges", database]
    said: set[str] = set()
    for _ in range(kills):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=TESTS)
        assert process.stdout is not None
        for _, line in zip(range(40), process.stdout, strict=False):
            said.add(line.strip())
        os.kill(process.pid, signal.SIGKILL)
        said |= {line.strip() for line in process.stdout if line.endswith("\n")}
        process.wait()
        process.stdout.close()
    store = MonitorStore(database, new=False)
    assert len(said) >= 40
    assert all(store.request(id) is not None for id in said)
    store.close()


SECRETS = (
    "Write to jane.doe+x@mail.example.org please",
    "my key is sk-abcdefgh12345678",
    "password: hunter22!",
    "card 4111 1111 1111 1111",
    "IMSI 262011234567890",
    "call +49 170 1234567 now",
)
HARMLESS = (
    "Which 3GPP TS 38.331 clause 5.3.5.6.4 covers NR band n78 at 3300 – 3800 MHz?",
    "What is 5QI 9, with 300 ms and 10e-6?",
    "token ring against token bucket",
)


@pytest.mark.parametrize("sentence", SECRETS)
def test_what_a_pattern_matches_never_reaches_the_disk(sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "monitor.db"
    store = MonitorStore(path)
    told = exchange("a", sentence, answer=sentence, context=sentence, error=sentence, student_answer=sentence)
    store.write([told], [Shadow("a", 1.0, "teacher", sentence, 1.0, candidate_answer=sentence)])
    store.write_thumb(Thumb("down", sentence, sentence, correction=sentence, id="a"))
    store.write_alert("rule", sentence)
    store.close()
    secret = max(sentence.split(), key=lambda word: sum(c.isdigit() or c in "@!" for c in word))
    written = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert secret.encode() not in written
    assert b"[redacted]" in written


@pytest.mark.parametrize("sentence", HARMLESS)
def test_words_of_the_trade_stay(sentence: str) -> None:
    assert Redaction(MonitorConfig().redact)(sentence) == sentence


def test_own_patterns_stand_in_place_of_the_shipped_ones(tmp_path: Path) -> None:
    path = tmp_path / "monitor.yaml"
    path.write_text("redact: ['site-\\d+']\nkeep_days: 7\n")
    config = read_config(path)
    assert Redaction(config.redact)({"site-1": ["at site-22", 5]}) == {"[redacted]": ["at [redacted]", 5]}
    assert config.keep_days == 7


@pytest.mark.parametrize(
    ("text", "words"),
    [("redact: ['(']", "no regular expression"), ("keep_days: 0", "greater than 0"), ("shadows: 1", "Extra inputs"),
     ("a: [", "no YAML"), ("redact: ['x*']", "matches everywhere"), ("alerts: {webhook: 'ftp://x'}", "pattern")],
)  # fmt: skip
def test_a_wrong_setting_is_named(text: str, words: str, tmp_path: Path) -> None:
    path = tmp_path / "monitor.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=words):
        read_config(path)


def test_texts_need_not_be_kept(tmp_path: Path) -> None:
    store = MonitorStore(tmp_path / "monitor.db", MonitorConfig(keep_texts=False))
    store.write([exchange("a", "What is a slice?", confidence=0.3)], [Shadow("a", 1.0, "teacher", "a part", 0.5)])
    row = store.request("a")
    assert row is not None
    assert (row.question, row.answer, row.confidence) == ("", None, 0.3)
    assert store.shadows()[0].answer == ""
    store.close()


def test_what_is_older_than_was_said_goes_with_all_that_hangs_on_it(database: str) -> None:
    store, now = MonitorStore(database, MonitorConfig(keep_days=10)), time.time()
    for age in (1, 9, 11, 50):
        store.write([exchange(f"r{age}", "q", time=now - age * 86_400)], [Shadow(f"r{age}", 1, "t", "a", 1)])
    store.write_thumb(Thumb("up", "q", "a", id="r50"), at=now - 50 * 86_400)
    assert store.forget_old(now) == 2
    assert {row.request for row in store.shadows()} == {"r1", "r9"}
    with store.reading() as connection:
        assert connection.execute(text("select count(*) from thumbs")).scalar() == 0
    store.close()


def test_a_question_is_held_out_or_not_however_it_is_asked(tmp_path: Path) -> None:
    store = MonitorStore(tmp_path / "monitor.db", MonitorConfig(hold_out=0.2))
    questions = [f"What does term number {number} mean?" for number in range(2000)]
    held = [store.is_held_out(question) for question in questions]
    assert 0.16 < sum(held) / len(held) < 0.24
    assert held == [store.is_held_out(question.upper().replace(" ", "  ")) for question in questions]
    store.close()
    # The share belongs to the database: raised later, it would not move what was harvested already.
    again = MonitorStore(tmp_path / "monitor.db", MonitorConfig(hold_out=0.9))
    assert held == [again.is_held_out(question) for question in questions]
    again.close()


def test_other_databases_and_no_database_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        MonitorStore(tmp_path / "none.db", new=False)
    with pytest.raises(ConfigError, match="no database of the kind mysql"):
        MonitorStore("mysql://u@h/n")
    (tmp_path / "other.db").write_bytes(b"this is no database at all, but a text of some length" * 20)
    with pytest.raises(RunError, match="cannot be opened"):
        MonitorStore(tmp_path / "other.db")


def test_hostile_text_is_only_text(database: str) -> None:
    store = MonitorStore(database)
    hostile = "'; drop table requests; -- \0 \ud800 <script>"
    store.write([exchange("a", hostile, model=hostile)])
    row = store.request("a")
    assert row is not None
    assert row.question.startswith("'; drop table requests; -- ")
    assert store.count() == 1
    store.close()
