"""What lies in a folder of knowledge, counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from understudy.knowledge.store import read_step
from understudy.records import StepCounts
from understudy.types import Knowledge


def count_steps(folder: str | os.PathLike[str], steps: Sequence[str]) -> dict[str, StepCounts]:
    """The rows of each step, counted."""
    return {step: count(read_step(folder, step)) for step in steps}


def empty_steps(counts: Mapping[str, StepCounts]) -> list[str]:
    """The steps in which something was asked, or recorded, and nothing of it was kept."""
    return [name for name, figures in counts.items() if figures.asked and not figures.kept]


def count(rows: Iterable[Knowledge]) -> StepCounts:
    """Count rows of one step."""
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
    return StepCounts(
        **totals,
        rejected=dict(rejected),
        missing=dict(missing),
        cost=round(cost, 9) if priced else None,
        seconds=round(seconds, 3),
    )
