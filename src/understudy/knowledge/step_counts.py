"""What lies in a folder of knowledge, counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from understudy.knowledge.store import read
from understudy.types import Knowledge


def summary(folder: str | os.PathLike[str], steps: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Each step's figures, JSON-able: see `count`."""
    return {step: count(read(folder, step)) for step in steps}


def count(rows: Iterable[Knowledge]) -> dict[str, Any]:
    """Count rows of one step.

    `asked` questions were put; `written` got a text; `kept` of these were not rejected, `rejected` counts the reasons
    (a row may have several); `missing` counts the reasons for which there is no text. `cost` is None without prices.
    Tokens, cost and seconds are those of the texts, paid for in this run or in an earlier one (`cached`).
    """
    totals: Counter[str] = Counter()
    rejected: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    cost, priced, seconds = 0.0, False, 0.0
    for row in rows:
        source = row.provenance
        totals["asked"] += source is not None
        totals["written"] += row.text is not None
        totals["kept"] += row.kept
        (missing if row.text is None else rejected).update({reason.partition(":")[0] for reason in row.reasons})
        if source is not None:
            totals["input_tokens"] += source.input_tokens
            totals["output_tokens"] += source.output_tokens
            totals["cached"] += source.cached
            seconds += source.seconds
            if source.cost is not None:
                cost, priced = cost + source.cost, True
    names = ("asked", "written", "kept", "input_tokens", "output_tokens", "cached")
    return {
        **{name: totals[name] for name in names},
        "rejected": dict(rejected),
        "missing": dict(missing),
        "cost": round(cost, 9) if priced else None,
        "seconds": round(seconds, 3),
    }
