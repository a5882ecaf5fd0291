"""Figures on texts for the report: how many, how long, what they name; and revisions against what they revise."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

from understudy.knowledge.text_checks import Checks, check
from understudy.types import Example, Knowledge


@dataclass
class _Tally:
    """Sums over the texts of one step; memory does not grow with their number."""

    rows: int = 0
    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    words: Counter[int] = field(default_factory=Counter)
    restates: float = 0.0
    names_answer: int = 0
    distractors: int = 0
    leads: Counter[bool] = field(default_factory=Counter)

    def add(self, row: Knowledge, checks: Checks) -> None:
        self.rows += 1
        self.kept += row.kept
        # Before the colon stands what is common to many rows.
        self.reasons.update({reason.split(":")[0] for reason in row.reasons})
        if row.text is None:
            return
        self.words[checks.words] += 1
        self.restates += checks.restates
        self.names_answer += checks.names_answer
        self.distractors += checks.distractors
        if checks.leads_to_gold is not None:
            self.leads[checks.leads_to_gold] += 1

    def summary(self) -> dict[str, Any]:
        written, stating = sum(self.words.values()), sum(self.leads.values())
        total = sum(length * often for length, often in self.words.items())
        return {
            "rows": self.rows,
            "written": written,
            "kept": self.kept,
            "reasons": dict(self.reasons.most_common()),
            "words_mean": total / written if written else None,
            "words_median": statistics.median(chain.from_iterable([n] * k for n, k in sorted(self.words.items())))
            if written
            else None,
            "restates_mean": self.restates / written if written else None,
            "names_answer": self.names_answer / written if written else None,
            "distractors_mean": self.distractors / written if written else None,
            "states_answer": stating / written if written else None,
            "leads_to_gold": self.leads[True] / stating if stating else None,
        }


def figures(rows: Iterable[Knowledge], examples: Iterable[Example]) -> dict[str, dict[str, Any]]:
    """What the texts of each step are like, rejected ones included.

    Args:
        rows: of any steps; rows of no example are left out.
        examples: with choices and gold answers.

    Returns:
        Step → `rows`, `written` (with a text), `kept`, `reasons` (word → rows), and of the written ones `words_mean`,
        `words_median`, `restates_mean`, `names_answer` (share that names the answer argued for), `distractors_mean`,
        `states_answer` (share with an answer of its own), `leads_to_gold` (share of those whose answer is the gold
        one). None where there is nothing to count.
    """
    examples_by_id = {example.id: example for example in examples}
    tallies: dict[str, _Tally] = {}
    for row in rows:
        if row.id in examples_by_id:
            tallies.setdefault(row.step, _Tally()).add(row, check(row, examples_by_id[row.id]))
    return {step: tally.summary() for step, tally in tallies.items()}


def revision(
    before: Iterable[Knowledge], after: Iterable[Knowledge], examples: Iterable[Example], *, seed: int = 0
) -> dict[str, Any]:
    """What revising changed, on the examples that have both texts, with a paired bootstrap interval.

    Args:
        before: rows of the step that was revised.
        after: rows of the revision.
        examples: with choices and gold answers.
        seed: of the draws.

    Returns:
        `pairs`, and for `words`, `distractors`, `restates` and `names_answer` each `before`, `after`, `difference`,
        `low`, `high`, `p_value` (difference is after minus before; bounds and p-value None with one pair alone).
        Without pairs only `pairs`.
    """
    from understudy.metrics.significance import Resampling, paired_bootstrap, randomisation_test

    examples_by_id = {example.id: example for example in examples}
    old, new = _checks(before, examples_by_id), _checks(after, examples_by_id)
    shared = [name for name in examples_by_id if name in old and name in new]
    statistics: dict[str, Any] = {"pairs": len(shared)}
    for figure in ("words", "distractors", "restates", "names_answer") if shared else ():
        values = [[float(getattr(side[name], figure)) for name in shared] for side in (new, old)]
        resampling = Resampling(seed=seed)
        figures = paired_bootstrap(values[0], values[1], resampling=resampling).to_dict()
        figures["p_value"] = randomisation_test(values[0], values[1], resampling=resampling).p_value
        names = {"before": "mean_b", "after": "mean_a"}
        statistics[figure] = {
            key: figures[names.get(key, key)] for key in (*names, "difference", "low", "high", "p_value")
        }
    return statistics


def _checks(rows: Iterable[Knowledge], examples_by_id: dict[str, Example]) -> dict[str, Checks]:
    """Of each example's first written text that argues for the right answer."""
    checks: dict[str, Checks] = {}
    for row in rows:
        if row.text is not None and row.choice is None and row.id in examples_by_id and row.id not in checks:
            checks[row.id] = check(row, examples_by_id[row.id])
    return checks
