"""The arm that reads no question: what the most frequent training answer would score."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from understudy.evaluation.score_rows import Row


def majority_baseline(
    train_rows: Iterable[Row], test_rows: Iterable[Row], key: str | Callable[[Row], Hashable]
) -> list[dict[str, Any]]:
    """An arm that knows nothing of the question: the most frequent training answer of the row's class.

    Where a class (a relation, a kind) has few different answers, this is the score that reading the question has to
    beat. Of equally frequent answers the first in training wins; a class unknown to training gets the empty answer.

    Args:
        train_rows: rows with `references`, the first being the answer.
        test_rows: prediction rows of any arm; only the answer is replaced.
        key: the class of a row: a callable, or the name of a field of the row or of its `meta`.
    """
    of = key if callable(key) else lambda row: row[key] if key in row else (row.get("meta") or {}).get(key)
    counts: dict[Hashable, Counter[str]] = defaultdict(Counter)
    for row in train_rows:
        if row["references"]:
            counts[of(row)][row["references"][0]] += 1
    arm = []
    for row in test_rows:
        seen = counts.get(of(row), Counter())
        answer = seen.most_common(1)[0][0] if seen else ""
        choices = row.get("choices") or []
        scores = [float(seen[choice]) for choice in choices] if row.get("choice_scores") else None
        arm.append({**row, "prediction": answer, "choice_scores": scores, "seconds": 0.0})
    return arm
