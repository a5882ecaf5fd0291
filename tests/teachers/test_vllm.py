"""A real vLLM as teacher: the same log-probabilities, the same loss, the same student as the model in this process.

Slow, and only where a vLLM can be started: `UNDERSTUDY_VLLM=FOLDER` names the environment that `vllm_cpu.sh` sets up
(or has set up), and `UNDERSTUDY_VLLM_MODEL` the model folder that it serves. `UNDERSTUDY_VLLM_URL` names one that runs.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.house import House
from understudy.api import perform
from understudy.files import read_jsonl
from understudy.inspection.doctor import examine
from understudy.recipe import parse_recipe

SCRIPT = Path(__file__).resolve().parents[2] / ".." / "shared" / "tools" / "vllm_cpu.sh"
MODEL = os.environ.get("UNDERSTUDY_VLLM_MODEL", "")
K = 20
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path(MODEL).is_dir(), reason="UNDERSTUDY_VLLM_MODEL names no model folder"),
]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Of a vLLM that serves the model; one of our own is ended at the end."""
    if running := os.environ.get("UNDERSTUDY_VLLM_URL"):
        yield running
        return
    environment = os.environ.get("UNDERSTUDY_VLLM")
    if not environment or not SCRIPT.is_file():
        pytest.skip("UNDERSTUDY_VLLM names no environment, or there is no script that starts a vLLM")
    process = subprocess.Popen(["bash", str(SCRIPT), environment, MODEL, "8813"], start_new_session=True)
    try:
        _await("http://127.0.0.1:8813/health", process)
        yield "http://127.0.0.1:8813/v1"
    finally:
        process.terminate()
        process.wait(60)


def _await(url: str, process: subprocess.Popen) -> None:
    for _ in range(600):
        assert process.poll() is None, "vLLM ended"
        try:
            urllib.request.urlopen(url, timeout=5)
            return
        except OSError:
            time.sleep(2)
    pytest.fail("vLLM did not start within twenty minutes")


@pytest.fixture
def house(tmp_path: Path) -> House:
    """Facts, and a student of random weights with the teacher's tokenizer."""
    house = House(tmp_path, Path(MODEL).parent)
    house.write_data(36)
    small = {"num_hidden_layers": 2, "hidden_size": 64, "intermediate_size": 128, "num_attention_heads": 4}
    student = {"model": MODEL, "init": "fresh", "config": {**small, "num_key_value_heads": 2}}
    house.recipe |= {"student": student, "data": {**house.recipe["data"], "gold_share": 1.0, "max_length": 128}}
    house.recipe["distil"] |= {"steps": 40, "learning_rate": 3e-3, "eval_every": 40, "gold_weight": 0.0}
    house.recipe["evaluate"] |= {"arms": ["kd_gold"]}
    return house


def served(address: str) -> dict[str, Any]:
    name = Path(MODEL).name
    return {"base_url": address, "model": name, "tokenizer": MODEL, "k": K, "api_key_env": "", "timeout": 600}


def test_it_conforms_and_says_what_the_model_says(house: House, address: str) -> None:
    """Largest difference of the log-probabilities and both losses are printed with `-s`."""
    report = examine(parse_recipe({**house.recipe, "teacher": served(address)}), against=MODEL).server
    assert report is not None
    for check in report.checks:
        print(f"{check.name}: {check.verdict}: {check.finding}")
    assert report.bad == []
    found = {check.name: check for check in report.checks}
    assert found["loss"].verdict == "good"
    apart = float(found["loss"].finding.rpartition("within ")[2].split()[0])
    assert apart < 1e-3


def test_students_of_the_server_and_of_the_model_are_alike(house: House, address: str) -> None:
    """On the same likeliest tokens, three seeds: first losses within 1e-3, end scores within the noise of the seeds."""
    kept = {"k": K, "bits": 32, "temperatures": [1.0], "folder": str(house.folder / "kept")}
    teachers = {"server": served(address), "here": {"model": MODEL, "cache": kept}}
    house.recipe["distil"] |= {"loss_temperature": 1.0}
    first: dict[str, list[float]] = {"server": [], "here": []}
    last: dict[str, list[float]] = {"server": [], "here": []}
    scores: dict[str, list[float]] = {"server": [], "here": []}
    for seed in (0, 1, 2):
        for name, teacher in teachers.items():
            recipe = parse_recipe({**house.recipe, "teacher": teacher, "name": f"{name}-{seed}", "seed": seed})
            run = perform(recipe, until="train-kd_gold", quiet=True)
            rows = read_jsonl(run.stage("train-kd_gold") / "training" / "metrics.jsonl")
            divergences = [row["divergence"] for row in rows if "divergence" in row]
            first[name].append(divergences[0])
            last[name].append(divergences[-1])
            scores[name].append([row["eval_loss"] for row in rows if "eval_loss" in row][-1])
    print(json.dumps({"first divergence": first, "last": last, "loss of the development answers": scores}))
    assert first["server"] == pytest.approx(first["here"], abs=1e-3)
    apart = abs(statistics.mean(scores["server"]) - statistics.mean(scores["here"]))
    assert apart <= statistics.stdev(scores["here"])
    # And they did learn: what is alike are not two students that nothing reached.
    assert max(last["server"]) < 0.5 * min(first["server"])
