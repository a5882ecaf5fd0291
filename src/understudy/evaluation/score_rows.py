"""From the predictions of several arms to statistics: the same items in the same order, scored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from understudy.errors import DataError, shortened
from understudy.metrics import MetricModels, Score, mean_score, score
from understudy.records import Prediction

CHOICE_ACCURACY = "choice_accuracy"
"""Share of multiple-choice items whose likeliest option is right; of options that tie, the share that is."""
_CHOICE_SIGNATURE = "accuracy|strip:yes|case:mixed|references:any|ties:share"


@dataclass
class ArmScores:
    """Scores of every arm and metric over all items.

    Attributes:
        metric_facts: metric -> its maximum, direction and signature.
        applies: metric -> `[items]` bool: the items it applies to.
        scores: (arm, metric) -> `[items, k]` statistics, rows of zeros where the metric does not apply, and the score
            on the items where it does.
        missing: (arm, metric) -> why it was not measured.
    """

    metric_facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    applies: dict[str, np.ndarray] = field(default_factory=dict)
    scores: dict[tuple[str, str], tuple[np.ndarray, Score]] = field(default_factory=dict)
    missing: dict[tuple[str, str], str] = field(default_factory=dict)

    def add(self, arm: str, name: str, result: Score, applies: np.ndarray) -> None:
        """Take in the score of one arm on the items for which `applies` holds."""
        if result.reason or not result.measured.any():
            self.missing[arm, name] = result.reason or "not one item could be measured"
            return
        self.metric_facts[name] = {
            "maximum": result.maximum,
            "higher_is_better": result.higher_is_better,
            "signature": result.signature,
        }
        self.applies[name] = applies
        statistics = np.zeros((len(applies), result.statistics.shape[1]))
        statistics[applies] = result.statistics
        self.scores[arm, name] = (statistics, result)

    def over_all(self, arm: str) -> dict[str, Score]:
        """The scores of an arm, each over all items: NaN and a row of zeros where a metric does not apply."""
        scores = {}
        for (scored_arm, name), (statistics, result) in self.scores.items():
            if scored_arm == arm:
                values = np.full(len(statistics), np.nan)
                values[self.applies[name]] = result.per_example
                scores[name] = replace(result, statistics=statistics, per_example=tuple(values.tolist()))
        return scores


def align(arms: Mapping[str, Sequence[Prediction]]) -> tuple[dict[str, list[Prediction]], list[str]]:
    """The rows of every arm in the order of the first, items without a right answer left out; and notes on that.

    Raises:
        DataError: no rows, arms with different items or references, a row without a field, or two rows for an item.
    """
    if not arms or not all(arms.values()):
        raise DataError("nothing to compare: " + ("an arm without predictions" if arms else "no arms"))
    tables = {arm: _by_id(arm, rows) for arm, rows in arms.items()}
    name, reference = next(iter(tables.items()))
    for arm, table in tables.items():
        unshared = sorted(map(str, table.keys() ^ reference.keys()))
        if unshared:
            raise DataError(
                f"arms {name} and {arm} answered different items ({len(unshared)}, such as {shortened(unshared[0])!r})",
                hint="predict again for both arms: a paired test needs the same items",
            )
        changed = [key for key, row in table.items() if row.references != reference[key].references]
        if changed:
            raise DataError(f"arms {name} and {arm} hold different references for item {shortened(changed[0])!r}")
    labelled = [key for key, row in reference.items() if row.references]
    if not labelled:
        raise DataError("nothing to compare: no test item has a right answer")
    left_out = len(reference) - len(labelled)
    notes = [f"{left_out} test items without a right answer were left out"] if left_out else []
    return {arm: [table[key] for key in labelled] for arm, table in tables.items()}, notes


def _by_id(arm: str, rows: Sequence[Prediction]) -> dict[str, Prediction]:
    table: dict[str, Prediction] = {}
    for row in rows:
        if row.id in table:
            raise DataError(f"arm {arm} has two predictions for item {shortened(row.id)!r}")
        table[row.id] = row
    return table


def measure(
    arms: Mapping[str, list[Prediction]], metrics: Sequence[str], notes: list[str], models: MetricModels | None = None
) -> ArmScores:
    """Score written answers by `metrics` and choices by likelihood; what an arm lacks is noted, never guessed."""
    items = list(zip(*arms.values(), strict=True))
    is_choice = np.array([any(row.choice_scores for row in rows) for rows in items])
    # An item on which every arm only compared options has no written answer.
    is_text = np.array([any(row.prediction for row in rows) for rows in items]) | ~is_choice
    arm_scores = ArmScores()
    for arm, rows in arms.items():
        text_rows = [row for row, keep in zip(rows, is_text, strict=True) if keep]
        if any(row.prediction is None for row in text_rows):
            notes.append(f"{arm}: written answers not measured, some are missing")
        elif text_rows:
            for name, result in score(**_score_arguments(text_rows), metrics=metrics, models=models).items():
                arm_scores.add(arm, name, result, is_text)
        choice_rows = [row for row, keep in zip(rows, is_choice, strict=True) if keep]
        options = [likeliest_options(row) for row in choice_rows]
        if not all(options):
            notes.append(f"{arm}: multiple choice not measured, likelihoods of some options are missing")
        elif choice_rows:
            shares = [right_share(row, tied) for row, tied in zip(choice_rows, options, strict=True)]
            arm_scores.add(arm, CHOICE_ACCURACY, mean_score(CHOICE_ACCURACY, shares, _CHOICE_SIGNATURE), is_choice)
    return arm_scores


def _score_arguments(rows: Sequence[Prediction]) -> dict[str, Any]:
    """The arguments of `score`; questions and contexts go along where there are any."""
    questions, contexts = [row.question for row in rows], [row.context for row in rows]
    return {
        "predictions": [row.prediction for row in rows],
        "references": [list(row.references) for row in rows],
        "questions": [question or "" for question in questions] if any(questions) else None,
        "contexts": contexts if any(contexts) else None,
        "rankings": [[text for text, _ in row.candidates] for row in rows]
        if any(row.candidates for row in rows)
        else None,
    }


def likeliest_options(row: Prediction) -> tuple[str, ...]:
    """The likeliest option of a multiple-choice row, or all that tie; none where a likelihood is missing or NaN."""
    likelihoods = [score for score in row.choice_scores or () if score is not None and score == score]
    if not likelihoods or len(likelihoods) < len(row.choice_scores or ()) or len(likelihoods) != len(row.choices):
        return ()
    best = max(likelihoods)
    return tuple(choice for choice, value in zip(row.choices, likelihoods, strict=True) if value == best)


def chosen_option(row: Prediction) -> str | None:
    """The likeliest option of a multiple-choice row, of several the first; None where `likeliest_options` has none."""
    return next(iter(likeliest_options(row)), None)


def right_share(row: Prediction, options: Sequence[str]) -> float:
    """The share of options that are right: what choosing blindly among them would score on the row."""
    right = {reference.strip() for reference in row.references}
    return sum(option.strip() in right for option in options) / len(options)


def row_clusters(rows: Sequence[Prediction]) -> list[int]:
    """A number for each row's group; rows without one go by context, those without either by themselves.

    One context beside more than half of the rows is no group but a preamble.
    """
    names: dict[Hashable, int] = {}
    sizes = Counter(row.context for row in rows if row.context)
    contexts = {context for context, size in sizes.items() if 2 * size <= len(rows)}
    return [names.setdefault(_cluster_key(row, contexts), len(names)) for row in rows]


def _cluster_key(row: Prediction, contexts: Container[str]) -> tuple[str, str]:
    if row.group is not None:
        return "group", row.group
    return ("context", row.context) if row.context and row.context in contexts else ("item", row.id)


def grouping_note(rows: Sequence[Prediction]) -> list[str]:
    """A sentence where rows without a group are resampled by context, and some share one."""
    ungrouped = [row for row in rows if row.group is None]
    items, groups = len(ungrouped), len(set(row_clusters(ungrouped)))
    if groups == items:
        return []
    return [f"items of one context are resampled together: {items:,} items, {groups:,} groups"]


def chance(arms: Mapping[str, Sequence[Prediction]]) -> float | None:
    """What guessing would score on the multiple-choice items; None where there are none."""
    shares = []
    for rows in zip(*arms.values(), strict=True):
        choice_row = next((row for row in rows if row.choice_scores and row.choices), None)
        if choice_row is not None:
            shares.append(right_share(choice_row, choice_row.choices))
    return float(np.mean(shares)) if shares else None
