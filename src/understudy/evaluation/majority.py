"""The arm that reads no question: what the most frequent training answer would score."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace

from understudy.records import Prediction


def majority_baseline(
    train: Iterable[tuple[Hashable, str]], test: Sequence[Prediction], classes: Mapping[str, Hashable]
) -> list[Prediction]:
    """An arm that knows nothing of the question: the most frequent training answer of the item's class.

    Where a class (a relation, a kind) has few different answers, this is the score that reading the question has to
    beat. Of equally frequent answers the first in training wins; a class unknown to training gets the empty answer.

    Args:
        train: class and answer of each training row.
        test: predictions of any arm; only the answer is replaced.
        classes: id of a test item -> its class.
    """
    counts: dict[Hashable, Counter[str]] = defaultdict(Counter)
    for kind, answer in train:
        counts[kind][answer] += 1
    arm = []
    for row in test:
        frequencies = counts.get(classes[row.id], Counter())
        answer = frequencies.most_common(1)[0][0] if frequencies else ""
        scores = tuple(float(frequencies[choice]) for choice in row.choices) if row.choice_scores else None
        arm.append(replace(row, prediction=answer, choice_scores=scores, seconds=0.0))
    return arm
