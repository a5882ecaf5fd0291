"""What a line of `metrics.jsonl` says of the development rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

DEV_METRICS = ("rougeL", "exact_match")
"""What is always measured; beside them stands the metric by which weights are kept, where it is another one."""


def kept_score(line: Mapping[str, Any]) -> tuple[str, float] | None:
    """Metric and value by which weights are kept, of a line of a training's log; None where nothing was evaluated."""
    found = {name.removeprefix("eval_"): value for name, value in line.items() if name.startswith("eval_")}
    more = [name for name in found if name not in (*DEV_METRICS, "loss")]
    name = more[0] if more else DEV_METRICS[0]
    return (name, found[name]) if name in found else None
