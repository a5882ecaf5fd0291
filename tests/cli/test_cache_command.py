"""`understudy cache` and runs that learn from it, by the real command line."""

from __future__ import annotations

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from support.house import House, Outcome
from understudy.files import read_jsonl
from understudy.records import AnswersNotes, CacheNotes
from understudy.run import Run
from understudy.teachers.cache.formats import TopKFormat
from understudy.teachers.cache.store import Index, data_path

Command = Callable[..., Outcome]


@pytest.fixture
def cached(house: House) -> House:
    house.recipe["teacher"]["cache"] = {"k": 16}
    house.recipe["evaluate"]["arms"] = ["distilled"]
    house.write_recipe()
    return house


def targets(house: House) -> Path:
    """The folder of the cache within the one run."""
    return house.run_folder() / "stages" / "cache" / "targets"


def num_rows(house: House) -> int:
    """How many rows have been written so far."""
    folders = list(house.folder.glob("runs/*/stages/cache/targets"))
    return len(Index(folders[0], SIZE)) if folders and (folders[0] / "cache.json").is_file() else 0


SIZE = TopKFormat(300, (1.0,), 16).record_bytes


def test_the_cache_is_written_once_and_the_run_goes_on_from_it(cached: House, command: Command) -> None:
    first = command("cache", str(cached.folder / "recipe.yaml"))
    assert first.code == 0, first.err
    run = Run.open(cached.run_folder())
    notes = run.notes("cache", CacheNotes)
    # Gold rows, and the questions that the teacher has answered.
    gold = read_jsonl(run.folder / "data" / "train.jsonl")
    rows = len(gold) + run.notes("answers", AnswersNotes).kept
    assert notes.rows == notes.written == rows
    assert notes.targets == {"kind": "topk", "vocabulary": 300, "temperatures": [1.0], "k": 16, "bits": 8}
    assert f"{notes.rows} rows" in first.out
    assert "pays after" in first.out
    assert not run.is_current("train-distilled", ())
    whole = command("run", str(cached.folder / "recipe.yaml"))
    assert whole.code == 0, whole.err
    assert "16 likeliest tokens" in run.report.read_text(encoding="utf-8")
    again = command("cache", str(cached.folder / "recipe.yaml"))
    assert again.code == 0, again.err


def test_a_folder_of_its_own_serves_several_runs_and_no_other_teacher(cached: House, command: Command) -> None:
    cached.recipe["teacher"]["cache"]["folder"] = str(cached.folder / "shared-cache")
    cached.write_recipe()
    assert command("cache", str(cached.folder / "recipe.yaml")).code == 0
    second = command("cache", str(cached.folder / "recipe.yaml"), "name=again", "distil.steps=3")
    assert second.code == 0, second.err
    assert "0 rows were new" in second.out
    other = command("cache", str(cached.folder / "recipe.yaml"), "name=other", "teacher.sft.steps=7")
    assert other.code == 1
    assert "holds something else: the teacher's weights differs" in other.err
    fewer = command("cache", str(cached.folder / "recipe.yaml"), "name=fewer", "teacher.cache.k=8")
    assert "k 16 there, 8 here" in fewer.err


def test_a_flipped_bit_is_named_and_mended_by_running_again(cached: House, command: Command) -> None:
    assert command("cache", str(cached.folder / "recipe.yaml")).code == 0
    path = data_path(targets(cached), 0)
    whole = path.read_bytes()
    broken = bytearray(whole)
    broken[100] ^= 4
    path.write_bytes(broken)
    failed = command("run", str(cached.folder / "recipe.yaml"))
    assert failed.code == 1
    assert "a row of" in failed.err
    assert "is damaged" in failed.err
    mended = command("cache", str(cached.folder / "recipe.yaml"))
    assert mended.code == 0, mended.err
    assert "found damaged and written anew: shard-00000.data: 1 row is not what was written" in mended.out
    assert command("run", str(cached.folder / "recipe.yaml")).code == 0


def test_a_kill_while_it_is_written_costs_what_was_not_on_the_disk_yet(cached: House, command: Command) -> None:
    cached.write_data(600)
    draw, seen = random.Random(3), 0
    for _ in range(3):
        process = cached.start("cache", str(cached.folder / "recipe.yaml"))
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline and num_rows(cached) == seen:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert num_rows(cached) >= seen
        seen = num_rows(cached)
    last = command("cache", str(cached.folder / "recipe.yaml"))
    assert last.code == 0, last.err
    index = Index(targets(cached), SIZE)
    assert not index.damage
    assert len(index) == Run.open(cached.run_folder()).notes("cache", CacheNotes).rows


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (["distil.method=byte_aligned"], "distil.method byte_aligned reads log-probabilities of every token"),
        (["distil.method=uld", "teacher.cache.targets=sampled"], "uld sorts the teacher's probabilities"),
        (["distil.method=min_edit", "teacher.cache.targets=sampled"], "min_edit takes the largest of the teacher's"),
        (["distil.divergence=adaptive_kl"], "adaptive_kl does not take the tail of a top-k target as one bucket"),
        (["teacher.cache.targets=sampled", "distil.divergence=js"], "js is not linear in the teacher's probabilities"),
        (["teacher.cache.temperatures=[2]"], "teacher.cache.temperatures lacks 1, the temperature of the loss"),
    ],
)
def test_what_a_cache_has_not_enough_for_is_refused_before_anything_is_loaded(
    cached: House, command: Command, fields: list[str], message: str
) -> None:
    refused = command("cache", str(cached.folder / "recipe.yaml"), *fields)
    assert refused.code == 1
    assert message in refused.err
    assert "fine-tune" not in refused.out
