"""Simulations of the statistics of the monitor: fast detectors decide as the product's do, and the command runs."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from understudy.files import read_json
from understudy.metrics.sequential.canary import PairedCanary, UnpairedCanary

SCRIPT = Path(__file__).parents[3] / "scripts" / "monitor_statistics.py"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("monitor_statistics", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("design", ["paired", "unpaired"])
def test_verdicts_are_those_of_the_canary(script: ModuleType, design: str) -> None:
    steps, runs = 400, 6
    rng = np.random.default_rng(5)
    current, candidate = script._answers(rng, 0.15, (steps, runs))
    simulated = getattr(script, f"{design}_differences")(current, candidate, np.random.default_rng(6))
    better, at = script.verdicts(simulated)
    chosen = np.random.default_rng(6).random(current.shape) < 0.5
    for run in range(runs):
        paired, unpaired, verdict, when = PairedCanary(), UnpairedCanary(min_share=0.5), "undecided", steps
        for step in range(steps):
            first, second, tried = current[step, run], candidate[step, run], bool(chosen[step, run])
            if design == "paired":
                verdict = paired.update(first, second).verdict
            else:
                verdict = unpaired.update(second if tried else first, candidate=tried, share=0.5).verdict
            if verdict != "undecided":
                when = step + 1
                break
        assert (verdict, when) == ({1: "candidate", -1: "current", 0: "undecided"}[better[run]], at[run])
    assert (better == 1).any()


@pytest.mark.slow
def test_the_command_simulates_and_judges_every_promise(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["monitor_statistics", "--out", str(tmp_path / "m.json"), "--scale", "0.02"])
    with pytest.raises(SystemExit) as end:
        script.main()
    result = read_json(tmp_path / "m.json")
    assert end.value.code == 0, result["checks"]
    assert len(result["checks"]) == 5
    assert {row["shift"] for row in result["delays"]} >= {
        "other language",
        "truncated prompts",
        "other telecom domain",
    }
    assert result["run_length"]["requests"] == 40 * 10_000
