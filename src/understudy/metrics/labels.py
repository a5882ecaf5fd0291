"""Metrics of answers that are labels: F1 averaged over classes, and of words F1 of what is named.

Every score keeps counts an item whose sums give the figure, so that what resamples items adds them up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from understudy.metrics.scores import MetricInputs, Score, mean_score

Span = tuple[str, int, int]
"""Type of an entity, its first word and the one behind its last."""


def macro_f1(inputs: MetricInputs) -> Score:
    """Mean over the classes of F1 = 2 TP / (2 TP + FP + FN); the classes are the first references.

    Equal to scikit-learn's `f1_score(average="macro", labels=…)` over these classes. A class that neither a reference
    nor a prediction of a resample names has no F1 there and is left out of the mean. An item's own value is whether it
    is right. `details` has precision, recall, F1 and support of each class.
    """
    gold = [references[0].strip() for references in inputs.references]
    given = [
        # Of several right labels the one that was given counts as the right one.
        own if (own := prediction.strip()) not in {text.strip() for text in references} else right
        for prediction, references, right in zip(inputs.predictions, inputs.references, gold, strict=True)
    ]
    classes = sorted(set(gold))
    counts = np.stack([_class_counts(own, right, classes) for own, right in zip(given, gold, strict=True)])
    totals = counts.sum(axis=0)
    right = tuple(float(own == other) for own, other in zip(given, gold, strict=True))
    return Score(
        "macro_f1",
        float(_macro(totals)),
        right,
        counts,
        _macro,
        f"macro_f1|classes:{len(classes)}|strip:yes|case:mixed",
        details={"classes": _by_class(totals, classes)},
    )


def _class_counts(given: str, gold: str, classes: Sequence[str]) -> np.ndarray:
    """True positives of each class, then twice of these with false positives and negatives: `[2C]`."""
    hits = np.array([float(given == gold == name) for name in classes])
    named = np.array([float(given == name) + float(gold == name) for name in classes])
    gold_row = np.array([float(gold == name) for name in classes])
    return np.concatenate([hits, named, gold_row])


def _macro(totals: np.ndarray) -> np.ndarray:
    """`[..., 3C]` sums to the mean F1 of the classes that are named at all; NaN where none is."""
    hits, named, _ = np.split(totals, 3, axis=-1)
    there = named > 0
    f1 = np.divide(2 * hits, named, out=np.zeros_like(hits), where=there)
    count = there.sum(axis=-1)
    with np.errstate(invalid="ignore"):
        return np.where(count > 0, f1.sum(axis=-1) / count, np.nan)


def _by_class(totals: np.ndarray, classes: Sequence[str]) -> Mapping[str, Mapping[str, Any]]:
    hits, named, support = np.split(totals, 3)
    table = {}
    for name, hit, both, gold in zip(classes, hits, named, support, strict=True):
        predicted = both - gold
        table[name] = {
            "precision": float(hit / predicted) if predicted else None,
            "recall": float(hit / gold) if gold else None,
            "f1": float(2 * hit / both) if both else None,
            "support": int(gold),
        }
    return table


def word_accuracy(inputs: MetricInputs) -> Score:
    """Share of the labels of words that are right; a missing label is wrong, one too many is not counted."""
    values = []
    for prediction, references in zip(inputs.predictions, inputs.references, strict=True):
        own = prediction.split()
        shares = []
        for reference in references:
            right = reference.split()
            shares.append(sum(a == b for a, b in zip(own, right, strict=False)) / len(right) if right else np.nan)
        values.append(max(shares))
    return mean_score("word_accuracy", values, "word_accuracy|mean:items|references:best")


def entity_f1(inputs: MetricInputs) -> Score:
    """F1 of entities over all items: 2 · |given ∩ right| / (|given| + |right|), type and both ends being right.

    Labels are those of Ramshaw and Marcus (1995), `B-TYPE`, `I-TYPE` and `O`; an `I-TYPE` that continues nothing of its
    type begins an entity, as in the evaluation of CoNLL-2003. An item's value is its own F1, 1 where there is nothing
    to be named and nothing was.
    """
    rows, values = [], []
    for prediction, references in zip(inputs.predictions, inputs.references, strict=True):
        own = set(entities(prediction.split()))
        counts = [_overlap(own, set(entities(reference.split()))) for reference in references]
        best = max(counts, key=lambda pair: _f1_of(*pair))
        rows.append(best)
        values.append(_f1_of(*best))
    statistics = np.array(rows, dtype=np.float64)
    return Score(
        "entity_f1",
        float(_micro(statistics.sum(axis=0))),
        tuple(values),
        statistics,
        _micro,
        "entity_f1|scheme:iob2|average:micro|references:best",
    )


def _overlap(own: set[Span], right: set[Span]) -> tuple[int, int]:
    return len(own & right), len(own) + len(right)


def _f1_of(hits: int, named: int) -> float:
    return 2 * hits / named if named else 1.0


def _micro(totals: np.ndarray) -> np.ndarray:
    """`[..., 2]` sums to F1; 1 where nothing is named on either side."""
    hits, named = totals[..., 0], totals[..., 1]
    return np.where(named > 0, 2 * hits / np.where(named > 0, named, 1.0), 1.0)


def entities(labels: Sequence[str]) -> list[Span]:
    """The entities that the labels of words name.

    Args:
        labels: `B-TYPE`, `I-TYPE` or `O`, one a word.
    """
    spans: list[Span] = []
    start, kind = 0, ""
    for place, label in enumerate([*labels, "O"]):
        prefix, _, own = label.partition("-")
        own = own or "entity"
        goes_on = prefix == "I" and own == kind and kind
        if kind and not goes_on:
            spans.append((kind, start, place))
            kind = ""
        if prefix in ("B", "I") and not goes_on:
            start, kind = place, own
    return spans
