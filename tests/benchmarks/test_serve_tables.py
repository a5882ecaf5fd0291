"""What the benchmark of serving keeps: two commands fill one table, and where a text parts from that of `generate`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def benchmark() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        yield import_module("serve")


def speeds(**per_second: float) -> list[dict[str, Any]]:
    common = {"clients": 8, "tokens_per_second": 30.0, "p95_ms": 1500.0}
    return [{"server": name, "requests_per_second": value, **common} for name, value in per_second.items()]


def texts(*servers: str) -> list[dict[str, Any]]:
    counts = {"answers": 20, "equal": 19, "near": 1, "apart": 0, "margin": 2e-4, "streams": 20}
    return [{"server": server, **counts} for server in servers]


def test_two_commands_fill_one_table(benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, about = tmp_path / "kept.json", {"settings": {"model": "m", "clients": [8]}}
    benchmark.keep(path, about, speeds(bare=10.0, ours=9.5), texts("ours"))
    benchmark.keep(path, about, speeds(vllm=20.0, gateway=19.0), texts("vllm", "gateway"))
    benchmark.keep(path, about, speeds(ours=9.2), texts("ours"))
    kept = json.loads(path.read_text())
    assert [row["server"] for row in kept["tables"]["servers"]["rows"]] == [
        benchmark.LABELS[name] for name in ("bare", "ours", "vllm", "gateway")
    ]
    assert {row["aim"]: row["q8"] for row in kept["tables"]["ratios"]["rows"]} == {
        0.9: pytest.approx(0.92),
        0.95: pytest.approx(0.95),
    }
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    stated = import_module("render_results").stated
    lines = {name: stated(table) for name, table in kept["tables"].items()}
    assert lines["servers"][3].endswith("| 9.20 | 30 | 1,500 ms |")
    assert lines["texts"][2].endswith("| 20 | 19 | 1 | 0 | 0.0002 | 20 |")
    # Under other settings nothing of before is comparable.
    benchmark.keep(path, {"settings": {"model": "m", "clients": [32]}}, speeds(bare=1.0), [])
    assert [row["server"] for row in json.loads(path.read_text())["speeds"]] == ["bare"]


@pytest.mark.parametrize(
    ("text", "margin"),
    [(" the AMF.", None), ("the AMF. ", None), ("the SMF.", 0.2), ("the AMF", 0.3), ("the AMF. And", 0.3), ("a", 0.1)],
)
def test_a_text_parts_at_the_token_of_its_first_other_character(
    benchmark: ModuleType, text: str, margin: float | None
) -> None:
    reference = benchmark.Reference("?", 5, " the AMF.", [4, 8, 9], [0.1, 0.2, 0.3])
    assert reference.parting(text) == margin
