"""The two nouns of measuring: the texts that go in and the score that comes out.

A metric is `(MetricInputs) -> Score`. Whatever a metric averages, its score keeps one row of numbers an item whose
*column sums* give the aggregate: (value, 1) for a mean, n-gram counts for corpus BLEU. So everything that resamples
items – intervals, paired tests, gaps – adds rows up and never sees a text again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from understudy.errors import DataError
from understudy.normal_form import NormalForm
from understudy.types import Completer

FromTotals = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, slots=True)
class MetricModels:
    """The models and settings of some metrics; a metric whose model is absent says *not measured*.

    Attributes:
        embedding_model: sentence embeddings for `answer_similarity`: folder or hub id; `auto`: the MiniLM of the extra
            `understudy-distil[offline]`, where it is installed.
        bertscore_model: encoder for `bertscore_f1`, likewise.
        judge: the language model behind the judged metrics.
        judge_repeats: how often it judges each item.
        normalise: the normal form in which `exact_match` and `token_f1` compare (`understudy.normal_form`).
    """

    embedding_model: str = "auto"
    bertscore_model: str = "auto"
    judge: Completer | None = None
    judge_repeats: int = 1
    normalise: NormalForm = "numbers"


@dataclass(frozen=True, slots=True)
class MetricInputs:
    """What a metric may look at: one prediction an item and the right answers beside it.

    Attributes:
        predictions: one text an item.
        references: the right answers of each item, at least one.
        questions: what was asked, where that is known.
        contexts: the text that was to be read; None for an item without.
        models: those that some metrics need.
        rankings: of each item what was found, the best first; empty where a system tells no more than its answer.
    """

    predictions: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    questions: tuple[str, ...] | None = None
    contexts: tuple[str | None, ...] | None = None
    models: MetricModels = field(default_factory=MetricModels)
    rankings: tuple[tuple[str, ...], ...] | None = None

    def __post_init__(self) -> None:
        if len(self.predictions) != len(self.references):
            raise DataError(
                f"{len(self.predictions)} predictions, but references for {len(self.references)} items",
                hint="give one list of references for each prediction, in the same order",
            )
        beside = (("questions", self.questions), ("contexts", self.contexts), ("rankings", self.rankings))
        for name, values in beside:
            if values is not None and len(values) != len(self.predictions):
                raise DataError(f"{len(self.predictions)} predictions, but {len(values)} {name}")
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
        reason: why nothing was measured; empty where something was. A single item that could not be measured is NaN
            in `per_example` and a row of zeros in `statistics`, so that no mean ever counts it.
        details: whatever else a metric found out, JSON-able: a judge's variance, its unparseable verdicts.
    """

    name: str
    value: float
    per_example: tuple[float, ...]
    statistics: np.ndarray
    from_totals: FromTotals
    signature: str
    maximum: float = 1.0
    higher_is_better: bool = True
    reason: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def measured(self) -> np.ndarray:
        """`[n]` bool: which items have a value."""
        return ~np.isnan(np.asarray(self.per_example, dtype=np.float64))

    def to_dict(self) -> dict[str, object]:
        """What goes into `scores.json`: everything but the resampling statistics."""
        return {
            "name": self.name,
            "value": _none_if_nan(self.value),
            "maximum": self.maximum,
            "higher_is_better": self.higher_is_better,
            "signature": self.signature,
            "per_example": [_none_if_nan(value) for value in self.per_example],
            "reason": self.reason,
            "details": dict(self.details),
        }


def mean_from_totals(totals: np.ndarray) -> np.ndarray:
    """Sum of values over number of items: `[..., 2] -> [...]`; NaN where no item was counted."""
    with np.errstate(invalid="ignore"):
        return totals[..., 0] / totals[..., 1]


def mean_score(name: str, values: Sequence[float] | np.ndarray, signature: str) -> Score:
    """A score that is the plain mean of its per-item values, each between 0 and 1; NaN marks an item not measured."""
    array = np.asarray(values, dtype=np.float64)
    measured = ~np.isnan(array)
    statistics = np.stack([np.where(measured, array, 0.0), measured.astype(np.float64)], axis=-1)
    value = float(mean_from_totals(statistics.sum(axis=0)))
    return Score(name, value, tuple(array.tolist()), statistics, mean_from_totals, signature)


def not_measured(name: str, items: int, reason: str, *, maximum: float = 1.0) -> Score:
    """The score of a metric whose model is absent: no value, and the reason in words."""
    statistics = np.zeros((items, 2))
    values = (float("nan"),) * items
    return Score(name, float("nan"), values, statistics, mean_from_totals, "not measured", maximum, reason=reason)


def _none_if_nan(value: float) -> float | None:
    return None if value != value else value
