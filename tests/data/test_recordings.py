"""Recordings of rows: where they may stand in a file, what becomes of broken ones, and how rows with them are split."""

from __future__ import annotations

import base64
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet
import pytest

from support.tiny_speech import RATE, content, sound, wav, words_of
from understudy.data.load import load_splits, read_examples
from understudy.data.recordings import address_of, audio_name, of_file, samples, seconds
from understudy.data.split import question_key
from understudy.errors import DataError
from understudy.pipeline.stages.context import as_row, from_row
from understudy.recipe import DataConfig

UP, DOWN = content("raise gain"), content("lower gain")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two recordings in a folder beside the file."""
    (tmp_path / "heard").mkdir()
    (tmp_path / "heard" / "up.wav").write_bytes(UP)
    (tmp_path / "heard" / "down.wav").write_bytes(DOWN)
    return tmp_path


def lines(folder: Path, *recordings: Any, **fields: Any) -> DataConfig:
    """A file with a row for each value of `audio`."""
    rows = [{"audio": value, "text": "raise gain"} for value in recordings]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return DataConfig(source=str(folder / "rows.jsonl"), **fields)


def test_paths_and_addresses(folder: Path) -> None:
    address = "data:audio/wav;base64," + base64.b64encode(UP).decode()
    config = lines(folder, "heard/up.wav", str(folder / "heard" / "down.wav"), address)
    read = read_examples(config, config.source)
    assert read.format == "speech"
    names = [audio_name(row.audio or "") for row in read.examples]
    assert names[0] == names[2] != names[1]
    assert [(row.question, row.answers) for row in read.examples] == [("", ("raise gain",))] * 3
    assert [from_row(json.loads(json.dumps(as_row(row)))) for row in read.examples] == list(read.examples)


@pytest.mark.parametrize(
    ("audio", "text"), [("audio", "text"), ("file_name", "transcription"), ("path", "sentence"), ("WAV", "Transcript")]
)
def test_a_table_names_them_as_others_do(folder: Path, audio: str, text: str) -> None:
    with (folder / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([[audio, text, "speaker"], ["heard/up.wav", "Raise the gain.", "anna"]])
    columns: dict[str, Any] = {"audio": "path", "text": "sentence"} if audio == "path" else {}
    config = DataConfig(source=str(folder / "rows.csv"), columns=columns)
    [row] = read_examples(config, config.source).examples
    assert row.answers == ("Raise the gain.",)
    assert row.meta == {"speaker": "anna"}
    assert seconds(row.audio or "") == 0.5


def test_bytes_in_parquet_as_they_are_and_as_datasets_writes_them(folder: Path) -> None:
    for name, values in (
        ("plain", [UP, DOWN]),
        ("objects", [{"bytes": UP, "path": None}, {"bytes": DOWN, "path": "x"}]),
    ):
        table = pyarrow.table({"audio": values, "text": ["raise gain", "lower gain"]})
        pyarrow.parquet.write_table(table, folder / f"{name}.parquet")
        read = read_examples(DataConfig(), str(folder / f"{name}.parquet")).examples
        assert [audio_name(row.audio or "") for row in read] == [audio_name(address_of(own)) for own in (UP, DOWN)]


@pytest.mark.parametrize("kind", [np.uint8, np.int16, np.int32, np.float32])
def test_samples_are_those_that_were_written(kind: Any) -> None:
    said = sound("raise noise")
    heard = samples(address_of(wav(said, kind=kind)), RATE)
    assert heard.dtype == np.float32
    np.testing.assert_allclose(heard, said, atol=0.01 if kind == np.uint8 else 1e-4)


def test_channels_are_averaged_and_another_rate_is_changed_to_the_models() -> None:
    both = np.stack([sound("raise"), np.zeros(RATE // 4)], axis=1)
    np.testing.assert_allclose(samples(address_of(wav(both)), RATE), sound("raise") / 2, atol=1e-4)
    heard = samples(address_of(wav(sound("gain", rate=44_100), 44_100)), RATE)
    assert len(heard) == RATE // 4
    # The same tone, but for the filter's edges.
    inside = slice(200, -200)
    np.testing.assert_allclose(heard[inside], sound("gain")[inside], atol=0.01)


@pytest.mark.parametrize(
    ("bytes_", "reason"),
    [
        (b"fLaC" + bytes(200), "is no WAV file that can be read"),
        (UP[:20], "is no WAV file that can be read"),
        (UP[:36] + bytes(8), "no WAV file|holds no sound"),
        (wav(np.zeros(0)), "holds no sound"),
        (wav(np.full(100, np.nan), kind=np.float32), "no finite numbers"),
    ],
)
def test_what_cannot_be_heard_is_a_bad_row(folder: Path, bytes_: bytes, reason: str) -> None:
    (folder / "heard" / "broken.wav").write_bytes(bytes_)
    config = lines(folder, "heard/up.wav", "heard/broken.wav")
    [fault] = read_examples(config, config.source).faults
    assert fault.where == "rows.jsonl:2"
    assert fault.field == "audio"
    with pytest.raises(DataError, match=reason):
        samples(of_file(folder / "heard" / "broken.wav"), RATE)


def test_absent_ones_are_bad_rows_and_changed_ones_are_told(folder: Path) -> None:
    config = lines(folder, "heard/up.wav", "heard/none.wav", "", ["heard/up.wav"])
    read = read_examples(config, config.source)
    assert [fault.field for fault in read.faults] == ["audio"] * 3
    assert "cannot read the recording" in read.faults[0].reason
    audio = read.examples[0].audio or ""
    (folder / "heard" / "up.wav").write_bytes(DOWN)
    with pytest.raises(DataError, match="is not the one that the data were read with"):
        samples(audio, RATE)


def test_each_recording_is_a_question_of_its_own(folder: Path) -> None:
    for n in range(16):
        (folder / "heard" / f"{n}.wav").write_bytes(content(words_of(n)))
    names = [f"heard/{n}.wav" for n in (*range(16), *range(16))]
    splits = load_splits(lines(folder, *names, dev=0.2, test=0.3))
    heard = [{audio_name(row.audio or "") for row in rows} for rows in (splits.train, splits.dev, splits.test)]
    assert sum(map(len, heard)) == 16
    assert all(heard)
    assert splits.notes["duplicates"] == {"groups": 16, "rows": 16}
    assert len({question_key(row) for row in splits.rows}) == 16
