"""The two nouns of measuring: the texts that go in and the score that comes out.

A metric is `(Texts) -> Score`. Whatever a metric averages, its score keeps one row of numbers an item whose *column
sums* give the aggregate: (value, 1) for a mean, n-gram counts for corpus BLEU. So everything that resamples items
– intervals, paired tests, gaps – adds rows up and never sees a text again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from understudy.errors import DataError

FromTotals = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class Texts:
    """What a metric may look at: one prediction an item and the right answers beside it."""

    predictions: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]

    def __post_init__(self) -> None:
        if len(self.predictions) != len(self.references):
            raise DataError(
                f"{len(self.predictions)} predictions, but references for {len(self.references)} items",
                hint="give one list of references for each prediction, in the same order",
            )
        if not self.predictions:
            raise DataError("nothing to score: the list of predictions is empty")
        for number, references in enumerate(self.references):
            if not references:
                raise DataError(
                    f"item {number} has no list of references",
                    hint="an item without a right answer cannot be scored; leave it out",
                )


@dataclass(frozen=True, eq=False)
class Score:
    """One metric on one set of items.

    Attributes:
        name: the metric.
        value: the aggregate over all items, between 0 and `maximum`.
        per_example: one value an item, on the same scale; their mean is `value` unless the metric is a corpus one.
        statistics: `[n, k]` per-item statistics whose column sums give the aggregate.
        from_totals: `[..., k]` column sums -> `[...]` aggregates; NaN where no item was counted.
        signature: library, version and options, in print.
        maximum: 1 or 100, as the library that computes it has it.
        higher_is_better: the direction of good.
    """

    name: str
    value: float
    per_example: tuple[float, ...]
    statistics: np.ndarray
    from_totals: FromTotals
    signature: str
    maximum: float = 1.0
    higher_is_better: bool = True

    def to_dict(self) -> dict[str, object]:
        """What goes into `scores.json`: everything but the resampling statistics."""
        return {
            "name": self.name,
            "value": self.value,
            "maximum": self.maximum,
            "higher_is_better": self.higher_is_better,
            "signature": self.signature,
            "per_example": list(self.per_example),
        }


def mean_from_totals(totals: np.ndarray) -> np.ndarray:
    """Sum of values over number of items: `[..., 2] -> [...]`; NaN where no item was counted."""
    with np.errstate(invalid="ignore"):
        return totals[..., 0] / totals[..., 1]


def mean_score(name: str, values: Sequence[float] | np.ndarray, signature: str) -> Score:
    """A score that is the plain mean of its per-item values, each between 0 and 1."""
    array = np.asarray(values, dtype=np.float64)
    statistics = np.stack([array, np.ones_like(array)], axis=-1)
    return Score(name, float(array.mean()), tuple(array.tolist()), statistics, mean_from_totals, signature)
