"""`understudy plan` at the command line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from support.house import Outcome

Command = Callable[..., Outcome]
ONE = ("device=cpu", "workers=1", "evaluate.arms=[distilled]", "evaluate.speed=false")


def test_a_table_with_all_parts_and_what_follows(command: Command, tmp_path: Path) -> None:
    done = command("plan", "telecom_qa", *ONE, "--no-probe", "--json", str(tmp_path / "plan.json"))
    assert (done.code, done.err) == (0, "")
    titles, *lines = done.out.splitlines()
    assert titles.split()[:4] == ["stage", "steps", "rows", "tokens"]
    assert [line.split()[0] for line in lines[:6]] == [
        "teacher_sft",
        "answers",
        "train-distilled",
        "predict-teacher",
        "predict-base_student",
        "predict-distilled",
    ]
    assert all(line.endswith("planned on paper") for line in lines[:6])
    assert "nothing was measured, so no time is told" in done.out
    assert "not planned: data, pair, report" in done.out
    assert ": fits" in done.out
    kept = json.loads((tmp_path / "plan.json").read_text())
    assert kept["fits"] is True
    for stage in kept["stages"]:
        parts = {name: value for name, value in stage["memory"].items() if name != "total"}
        assert sum(parts.values()) == pytest.approx(stage["memory"]["total"])
        assert stage["seconds"] is None


def test_hardware_that_is_not_here_is_planned_on_paper(command: Command) -> None:
    done = command("plan", "telecom_qa", *ONE, "--gpu", "h200", "--num", "8")
    assert done.code == 0
    assert "for 8 × NVIDIA H200 SXM, on paper: nothing was run there" in done.out
    assert "kWh at 5600 W (board power by the data sheet" in done.out
    assert "measured" not in done.out


def test_what_does_not_fit_ends_with_1_and_a_way_out(command: Command) -> None:
    large = "{hidden_size: 8192, intermediate_size: 28672, num_hidden_layers: 80, num_attention_heads: 64}"
    done = command("plan", "telecom_qa", *ONE, "student.init=fresh", f"student.config={large}", "--gpu", "l4")
    assert done.code == 1
    assert "DOES NOT FIT" in done.out
    assert "a process that the kernel kills on a CPU cannot catch it" in done.out
    assert "distil.lora={}" in done.out


def test_of_a_grid_the_first_cell_is_planned_and_named(command: Command) -> None:
    done = command("plan", "digits", "device=cpu", "--no-probe")
    assert done.code == 0
    assert done.out.startswith("a grid of 3 cells; this is the first: seed 0\n")


def test_faults_are_one_line(command: Command) -> None:
    for arguments, words in (
        (("telecom_qa", "--gpu", "h20"), "error: there is no GPU 'h20'"),
        (("telecom_qa", "--num", "2"), "error: --num is of GPUs that are named"),
        (("telecom_q",), "error: there is no recipe"),
        (("telecom_qa", "distil.stepz=3"), "error: "),
    ):
        done = command("plan", *arguments)
        assert done.code == 1
        assert done.err.startswith(words)
        assert [line.split(":")[0] for line in done.err.splitlines()] == ["error", "  hint"]


@pytest.mark.slow
def test_a_probe_measures_every_stage_and_leaves_nothing(command: Command, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    tiny = ("distil.steps=8", "teacher.sft.steps=4", "distil.eval_rows=8", "teacher.sft.eval_rows=8")
    few = ("data.limit=200", "evaluate.rows=16", "evaluate.batch_size=8")
    done = command("plan", "telecom_qa", *ONE, *tiny, *few, "--json", "plan.json")
    assert done.code == 0, done.err
    kept = json.loads((tmp_path / "plan.json").read_text())
    assert {stage["by"] for stage in kept["stages"]} == {"measured here"}
    assert all(stage["seconds"] > 0 for stage in kept["stages"])
    assert all(stage["memory"]["total"] > stage["memory"]["process"] > 1e8 for stage in kept["stages"])
    assert kept["cache"]["live"] > 0
    assert "measured by a probe of" in done.out
    assert [path.name for path in tmp_path.iterdir()] == ["plan.json"]
