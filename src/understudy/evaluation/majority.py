"""The arms that read no question: the most frequent training answer, and always the first option."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace

from understudy.evaluation.score_rows import right_share
from understudy.normal_form import plain_numbers
from understudy.records import Prediction

_STANDARD_ERRORS = 2.0
NUM_RANKED = 10
"""Answers of the ranking of an arm that reads no question."""


def majority_baseline(
    train: Iterable[tuple[Hashable, str]], test: Sequence[Prediction], classes: Mapping[str, Hashable]
) -> list[Prediction]:
    """An arm that knows nothing of the question: the most frequent training answer of the item's class.

    Where a class (a relation, a kind) has few different answers, this is the score that reading the question has to
    beat. Answers that write the same number otherwise (`1,000`, `1000`) are one. Of equally frequent answers the first
    in training wins; a class unknown to training gets the empty answer. Options are scored by their frequency, so
    those that never occur in training tie, and count as chance. Where arms rank answers, this one does, by frequency.

    Args:
        train: class and answer of each training row.
        test: predictions of any arm; only the answer is replaced.
        classes: id of a test item -> its class.
    """
    counts: dict[Hashable, Counter[str]] = defaultdict(Counter)
    spellings: dict[str, str] = {}
    for kind, answer in train:
        counts[kind][_spelled(answer)] += 1
        spellings.setdefault(_spelled(answer), answer)
    arm = []
    for row in test:
        frequencies = counts.get(classes[row.id], Counter())
        answer = spellings[frequencies.most_common(1)[0][0]] if frequencies else ""
        scores = tuple(float(frequencies[_spelled(choice)]) for choice in row.choices) if row.choice_scores else None
        likeliest = _likeliest(frequencies, spellings) if row.candidates else ()
        arm.append(replace(row, prediction=answer, choice_scores=scores, candidates=likeliest, seconds=0.0))
    return arm


def _likeliest(frequencies: Counter[str], spellings: Mapping[str, str]) -> tuple[tuple[str, float], ...]:
    """The most frequent answers with their shares: the ranking of an arm that reads no question."""
    total = frequencies.total()
    return tuple((spellings[text], round(count / total, 6)) for text, count in frequencies.most_common(NUM_RANKED))


def _spelled(answer: str) -> str:
    return plain_numbers(answer.strip())


def first_option_baseline(test: Sequence[Prediction]) -> list[Prediction]:
    """An arm that always takes the first option, where that beats chance; else none.

    It beats chance where it is right on more items than blind choice is on average, by more than two of its standard
    errors: then right answers tend to stand first, and an arm may have learned the place instead of the matter.

    Args:
        test: predictions of any arm; only the answer is replaced. An item without options gets none. Where a whole
            corpus was searched nothing was chosen among the row's options, so there is no such arm.
    """
    if any(row.candidates and row.choice_scores is None for row in test):
        return []
    items = [row for row in test if row.choices and row.references]
    chances = [right_share(row, row.choices) for row in items]
    right = sum(right_share(row, row.choices[:1]) for row in items)
    if right <= sum(chances) + _STANDARD_ERRORS * math.sqrt(sum(p * (1 - p) for p in chances)):
        return []
    only_choices = len([row for row in test if row.choices]) == len(test)
    return [
        replace(
            row,
            prediction=row.choices[0] if only_choices else None,
            choice_scores=_first_of(len(row.choices)) if row.choice_scores else None,
            candidates=(),
            seconds=0.0,
        )
        for row in test
    ]


def _first_of(count: int) -> tuple[float, ...]:
    return (1.0, *[0.0] * (count - 1))
