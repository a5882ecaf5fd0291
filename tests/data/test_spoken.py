"""Commands that espeak-ng speaks: their grammar, and their recordings where it is installed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from understudy.data.embedded import spoken
from understudy.data.load import load_splits
from understudy.data.recordings import seconds
from understudy.errors import ConfigError
from understudy.models.load import load_template
from understudy.recipe import DataConfig, ModelConfig

SPEAKS = pytest.mark.skipif(shutil.which(spoken.PROGRAM) is None, reason=f"{spoken.PROGRAM} is not installed")


def test_sentences_come_of_the_seed_and_stand_once() -> None:
    texts = spoken.sentences(2200, 0)
    assert len(set(texts)) == 2200
    assert texts[:50] == spoken.sentences(50, 0) != spoken.sentences(50, 1)
    assert {word for text in texts for word in text.split()} == set(spoken.vocabulary())


def test_the_reader_has_a_token_for_each_word() -> None:
    template = load_template(ModelConfig(model="embedded:speech-reader", init="fresh"))
    assert all(len(template.text_ids(f" {word}")) == 1 for word in spoken.vocabulary())
    assert max(len(template.text_ids(text)) for text in spoken.sentences(2200, 0)) < 20


def test_without_the_program_one_line_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="is spoken by espeak-ng, which is not installed") as refused:
        load_splits(DataConfig(source="embedded:spoken", limit=2))
    assert "apt install espeak-ng" in str(refused.value.hint)


@SPEAKS
def test_rows_are_the_same_again_and_their_recordings_spoken_once(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("UNDERSTUDY_CACHE", str(tmp_path))
    config = DataConfig(source="embedded:spoken", limit=4, gold_share=0.25)
    splits = load_splits(config)
    assert [len(splits.by_role[role]) for role in ("train", "unlabelled", "dev", "test")] == [4] * 4
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "spoken").iterdir()}
    assert len(files) == 16
    assert load_splits(config) == splits
    assert files == {path: path.stat().st_mtime_ns for path in (tmp_path / "spoken").iterdir()}
    assert all(0.5 < seconds(row.audio or "") < 4 for row in splits.rows)
    assert not any(row.answers for row in splits.unlabelled)
    # More rows of a role are the same rows, and others.
    assert load_splits(config.model_copy(update={"limit": 6})).test[:4] == splits.test


@SPEAKS
def test_every_voice_can_speak(tmp_path: Path) -> None:
    heard = set()
    for voice in spoken.VOICES:
        spoken.speak("raise the gain", tmp_path / "a.wav", voice=voice)
        heard.add((tmp_path / "a.wav").read_bytes())
    assert len(heard) == len(spoken.VOICES)
