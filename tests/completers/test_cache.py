"""Answers on disk: found again by what was asked, shared by processes, whole after anything."""

from __future__ import annotations

import dataclasses
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.completers.cache import FILE_NAME, AnswerCache, CachedAnswer, clean, request_key
from understudy.errors import DataError, RunError
from understudy.types import Message, Request

REQUEST = Request("a", (Message("system", "s"), Message("user", "u")), {"type": "object"}, 0, 0.5, 10)


def key(request: Request = REQUEST, model: str = "m", temperature: float = 0.0, max_tokens: int = 100) -> str:
    return request_key(model, request, temperature=temperature, max_tokens=max_tokens)


def changed(**fields: object) -> str:
    return key(dataclasses.replace(REQUEST, **fields))  # pyright: ignore


def test_all_that_can_change_an_answer_changes_the_key() -> None:
    keys = [
        key(),
        key(model="other"),
        changed(messages=(Message("user", "s"), Message("user", "u"))),
        changed(messages=(Message("system", "su"), Message("user", ""))),
        changed(messages=(Message("user", "u"),)),
        changed(schema=None),
        changed(schema={"type": "array"}),
        changed(sample=1),
        changed(temperature=0.0),
        changed(max_tokens=11),
    ]
    assert len(set(keys)) == len(keys)


def test_what_cannot_change_an_answer_does_not() -> None:
    assert changed(id="b") == key()
    assert key(temperature=0.7, max_tokens=7) == key(), "the request has its own"
    own = dataclasses.replace(REQUEST, temperature=None, max_tokens=None)
    assert key(own, temperature=0.5, max_tokens=10) == key()
    assert changed(temperature=0) == changed(temperature=0.0)


@given(st.text(), st.text(st.characters(codec=None)), st.integers(0, 2**40))
def test_any_text_comes_back(name: str, text: str, tokens: int) -> None:
    cache = AnswerCache()
    answer = CachedAnswer(clean(text), tokens, tokens, 0.25)
    place = key(dataclasses.replace(REQUEST, messages=(Message("user", text),)))
    assert cache.get(place) is None
    cache.put(place, clean(name), answer)
    cache.put(place, "later", CachedAnswer("another"))
    assert cache.get(place) == answer
    assert len(cache) == 1
    cache.close()


def test_it_lies_on_the_disk_at_once(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path / "new" / "folder")
    cache.put("k", "m", CachedAnswer("text", 1, 2, 0.5))
    other = AnswerCache(tmp_path / "new" / "folder")
    assert other.get("k") == CachedAnswer("text", 1, 2, 0.5)
    cache.close()
    other.close()


def test_processes_share_it(tmp_path: Path) -> None:
    code = """
import sys
from understudy.completers.cache import AnswerCache, CachedAnswer
cache = AnswerCache(sys.argv[1])
for number in range(300):
    cache.put(f"{number}", "m", CachedAnswer(f"text {number}"))
    assert cache.get(f"{number}").text == f"text {number}"
    cache.spend("run", 2, max_calls=None, max_tokens=None, alone=False)
    cache.correct("run", calls=0, tokens=-1)
"""
    workers = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [worker.wait(60) for worker in workers] == [0, 0, 0]
    cache = AnswerCache(tmp_path)
    assert len(cache) == 300
    assert cache.spent("run") == (900, 900)
    cache.close()


def test_a_torn_tail_of_the_journal_costs_its_own_answers_only(tmp_path: Path) -> None:
    """What a power cut leaves: the write-ahead file breaks off in the middle of a record."""
    cache = AnswerCache(tmp_path)
    for number in range(20):
        cache.put(f"k{number}", "m", CachedAnswer(f"text {number}"))
    journal = (tmp_path / f"{FILE_NAME}-wal").read_bytes()
    database = (tmp_path / FILE_NAME).read_bytes()
    cache.close()
    torn = tmp_path / "torn"
    torn.mkdir()
    (torn / FILE_NAME).write_bytes(database)
    (torn / f"{FILE_NAME}-wal").write_bytes(journal[:-2_000])
    found = AnswerCache(torn)
    assert 0 < len(found) < 20
    assert found.get("k0") == CachedAnswer("text 0")
    found.put("k19", "m", CachedAnswer("again"))
    assert found.get("k19") == CachedAnswer("again")
    found.close()


def test_another_file_under_its_name_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("this is no database, however long the text may be\n" * 100)
    with pytest.raises(DataError, match="no cache of answers"):
        AnswerCache(tmp_path)


def test_a_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot use the cache"):
        AnswerCache(tmp_path / "file" / "folder")


def test_it_is_a_plain_database(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    cache.put("k", "m", CachedAnswer("text", 1, 2, 0.5))
    cache.close()
    database = sqlite3.connect(tmp_path / FILE_NAME)
    assert database.execute("SELECT key, model, text FROM answers").fetchall() == [("k", "m", "text")]
    database.close()
