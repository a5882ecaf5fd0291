"""Progress where there is no terminal: a log shows how far a long stage is, and is not flooded."""

from __future__ import annotations

import pytest

from understudy.pipeline.kinds import stage_of
from understudy.pipeline.progress import Console

STAGE = stage_of("train", "sft")


def lines(capsys: pytest.CaptureFixture[str], *, every: float, quiet: bool = False) -> list[str]:
    with Console(quiet=quiet, every=every) as console:
        console.start(STAGE)
        console.update(STAGE, 500, 2000, "loss 1.234")
        console.update(STAGE, 1000, 2000, "")
        console.update(STAGE, 7, 0, "")
        console.finish(STAGE, 3.0)
    return capsys.readouterr().err.splitlines()


def test_a_log_shows_how_far_a_stage_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, every=0.0) == [
        "train SFT-only student …",
        "  train SFT-only student: 500 of 2,000 (25%), loss 1.234",
        "  train SFT-only student: 1,000 of 2,000 (50%)",
        "  train SFT-only student: 7",
        "✓ train SFT-only student (3 s)",
    ]


def test_now_and_then_only(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, every=3600.0) == ["train SFT-only student …", "✓ train SFT-only student (3 s)"]


def test_the_other_processes_say_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert lines(capsys, every=0.0, quiet=True) == []
