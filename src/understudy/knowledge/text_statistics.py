"""Figures on texts for the report: how many, how long, what they name; and revisions against what they revise."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import chain

from understudy.knowledge.text_checks import TextChecks, check_text, words
from understudy.records import RevisedFigure, Revision, TextFigures
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
    compared: int = 0

    def add(self, row: Knowledge, checks: TextChecks | None) -> None:
        """Count a row, without checks where it is about no single example."""
        self.rows += 1
        self.kept += row.kept
        # Before the colon stands what is common to many rows.
        self.reasons.update({reason.split(":")[0] for reason in row.reasons})
        if row.text is None:
            return
        self.words[checks.words if checks else len(words(row.text))] += 1
        if checks is None:
            return
        self.compared += 1
        self.restates += checks.restates
        self.names_answer += checks.names_answer
        self.distractors += checks.distractors
        if checks.leads_to_gold is not None:
            self.leads[checks.leads_to_gold] += 1

    def summary(self) -> TextFigures:
        written = sum(self.words.values())
        total = sum(length * often for length, often in self.words.items())
        figures = TextFigures(self.rows, written, self.kept, dict(self.reasons.most_common()))
        if not written:
            return figures
        return replace(
            figures,
            words_mean=total / written,
            words_median=statistics.median(chain.from_iterable([n] * k for n, k in sorted(self.words.items()))),
            **self._compared_with_examples(),
        )

    def _compared_with_examples(self) -> dict[str, float | None]:
        """Figures on question and answer; none where no text is about an example."""
        if not self.compared:
            return {}
        stating = sum(self.leads.values())
        return {
            "restates_mean": self.restates / self.compared,
            "names_answer": self.names_answer / self.compared,
            "distractors_mean": self.distractors / self.compared,
            "states_answer": stating / self.compared,
            "leads_to_gold": self.leads[True] / stating if stating else None,
        }


def figures(rows: Iterable[Knowledge], examples: Iterable[Example]) -> dict[str, TextFigures]:
    """What the texts of each step are like, rejected ones included.

    Args:
        rows: of any steps; rows of no example are left out, but for those that a step of the data set writes of all.
        examples: with choices and gold answers.

    Returns:
        Step → figures.
    """
    examples_by_id = {example.id: example for example in examples}
    tallies: dict[str, _Tally] = {}
    for row in rows:
        if row.id in examples_by_id:
            tallies.setdefault(row.step, _Tally()).add(row, check_text(row, examples_by_id[row.id]))
        elif row.id == row.step:
            tallies.setdefault(row.step, _Tally()).add(row, None)
    return {step: tally.summary() for step, tally in tallies.items()}


def revision(
    before: Iterable[Knowledge], after: Iterable[Knowledge], examples: Iterable[Example], *, seed: int = 0
) -> Revision:
    """What revising changed, on the examples that have both texts, with a paired bootstrap interval.

    Args:
        before: rows of the step that was revised.
        after: rows of the revision.
        examples: with choices and gold answers.
        seed: of the draws.
    """
    from understudy.metrics.significance import Resampling, paired_bootstrap, randomisation_test

    examples_by_id = {example.id: example for example in examples}
    old, new = _checks(before, examples_by_id), _checks(after, examples_by_id)
    shared = [name for name in examples_by_id if name in old and name in new]
    revised: dict[str, RevisedFigure] = {}
    for figure in ("words", "distractors", "restates", "names_answer") if shared else ():
        after_, before_ = ([float(getattr(side[name], figure)) for name in shared] for side in (new, old))
        resampling = Resampling(seed=seed)
        difference = paired_bootstrap(after_, before_, resampling=resampling).to_dict()
        revised[figure] = RevisedFigure(
            before=difference["mean_b"],
            after=difference["mean_a"],
            difference=difference["difference"],
            low=difference["low"],
            high=difference["high"],
            p_value=randomisation_test(after_, before_, resampling=resampling).p_value,
        )
    return Revision(len(shared), **revised)


def _checks(rows: Iterable[Knowledge], examples_by_id: dict[str, Example]) -> dict[str, TextChecks]:
    """Of each example's first written text that argues for the right answer."""
    checks: dict[str, TextChecks] = {}
    for row in rows:
        if row.text is not None and row.choice is None and row.id in examples_by_id and row.id not in checks:
            checks[row.id] = check_text(row, examples_by_id[row.id])
    return checks
