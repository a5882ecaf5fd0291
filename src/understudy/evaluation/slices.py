"""Parts of a test set: each kind of question, and the facts inside and outside the gold answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from understudy.evaluation.scoring import Scored
from understudy.metrics import Interval
from understudy.metrics.significance import PairTest, Resampling, adjusted, compare_many
from understudy.metrics.significance.multiple_testing import holm_levels
from understudy.metrics.significance.power import POWER, items_needed_at

MOST_VALUES = 20
"""As many values of a field as have figures of their own."""
OTHERS = "all other values"


@dataclass(frozen=True)
class Slice:
    """The figures on one set of items.

    Attributes:
        items: number of test items.
        num_clusters: number of facts (or other groups) they ask about.
        table: system -> metric -> interval; a system that was not measured on a metric has no entry.
        tests: the one pair that every slice is tested on, corrected over all slices on a metric.
    """

    items: int
    num_clusters: int
    table: Mapping[str, Mapping[str, Interval]]
    tests: Sequence[PairTest] = ()

    @classmethod
    def of(cls, scored: Scored, resampling: Resampling, tests: Sequence[PairTest] = ()) -> Slice:
        """All figures on the items of `scored`."""
        table = {name: row for name, row in scored.intervals(resampling).items() if row}
        return cls(len(scored.rows), len(set(scored.clusters)), table, tests)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        table = {
            name: {metric: interval.to_dict() for metric, interval in row.items()} for name, row in self.table.items()
        }
        tests = {"tests": [test.to_dict() for test in self.tests]} if self.tests else {}
        return {"items": self.items, "groups": self.num_clusters, "table": table, **tests}


def slices_of(
    scored: Scored, resampling: Resampling, *, pair: tuple[str, str] | None = None, empty: bool = False
) -> tuple[dict[str, Slice], dict[str, Slice], dict[str, dict[str, Slice]]]:
    """Kind of question -> figures; `in_gold`, `not_in_gold` -> figures; field of the data -> value -> figures.

    Args:
        scored: systems on all items.
        resampling: as for the whole.
        pair: the two systems whose difference every slice is tested on. The p-values of a metric are corrected (Holm)
            over all slices, for they are shown together.
        empty: only count the items of each kind.
    """
    kinds = {kind: scored.part([row.kind == kind for row in scored.rows]) for kind in _kinds(scored)}
    facts = {
        label: scored.part([row.gold_fact is value for row in scored.rows])
        for label, value in (("in_gold", True), ("not_in_gold", False))
        if value in {row.gold_fact for row in scored.rows}
    }
    if empty:
        counts = [
            {name: Slice(len(part.rows), len(set(part.clusters)), {}) for name, part in parts.items()}
            for parts in (kinds, facts)
        ]
        return counts[0], counts[1], {}
    fields = _fields(scored)
    parts = {("kind", name): part for name, part in kinds.items()} | {("fact", n): part for n, part in facts.items()}
    parts |= {(f"field {name}", value): part for name, values in fields.items() for value, part in values.items()}
    tests = _corrected({key: _tests(part, pair, resampling) for key, part in parts.items()}, resampling.alpha)
    slices = {key: Slice.of(part, resampling, tests[key]) for key, part in parts.items()}
    return (
        {n: slices["kind", n] for n in kinds},
        {n: slices["fact", n] for n in facts},
        {name: {value: slices[f"field {name}", value] for value in values} for name, values in fields.items()},
    )


def _fields(scored: Scored) -> dict[str, dict[str, Scored]]:
    """Field → value → the items that have it: the most frequent values first, the rest of many together."""
    parts: dict[str, dict[str, Scored]] = {}
    for name, value_of in scored.systems[0].fields.items():
        values = [value_of.get(row.id, "") for row in scored.rows]
        counts = Counter(value for value in values if value).most_common()
        kept = [value for value, _ in (counts if len(counts) <= MOST_VALUES else counts[: MOST_VALUES - 1])]
        parts[name] = {value: scored.part([v == value for v in values]) for value in kept}
        if len(kept) < len(counts):
            parts[name][OTHERS] = scored.part([bool(v) and v not in kept for v in values])
    return {name: part for name, part in parts.items() if part}


def _kinds(scored: Scored) -> list[str]:
    return sorted({row.kind for row in scored.rows if row.kind})


def _tests(part: Scored, pair: tuple[str, str] | None, resampling: Resampling) -> Sequence[PairTest]:
    if (
        pair is None
        or not set(pair) <= part.scores.keys()
        or not set.intersection(*(set(part.scores[n]) for n in pair))
    ):
        return ()
    scores = {name: part.scores[name] for name in pair}
    return compare_many(scores, contrasts=[pair], clusters=part.shared_clusters, resampling=resampling).tests


def _corrected(
    tests: Mapping[tuple[str, str], Sequence[PairTest]], alpha: float
) -> dict[tuple[str, str], list[PairTest]]:
    """The tests of all slices, those of one metric corrected together."""
    corrected: dict[tuple[str, str], list[PairTest]] = {key: [] for key in tests}
    for metric in dict.fromkeys(test.metric for part in tests.values() for test in part):
        family = {key: test for key, part in tests.items() for test in part if test.metric == metric}
        p_values = {key: test.p_value for key, test in family.items()}
        holm, bh, levels = adjusted(p_values, "holm"), adjusted(p_values, "bh"), holm_levels(p_values, alpha)
        for key, test in family.items():
            better = test.ahead if holm[key] < alpha else ""
            needed = items_needed_at(test.comparison, levels[key], power=POWER, alpha=alpha)
            corrected[key].append(replace(test, p_holm=holm[key], p_bh=bh[key], better=better, items_needed=needed))
    return corrected
