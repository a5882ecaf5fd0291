"""How far probabilities can be believed: reliability, expected calibration error, Brier score, AUROC.

With bins B of answers, p̄ their mean probability and r̄ the share that is right,

    ECE = Σ_B |B|/n · |p̄_B − r̄_B|        (Naeini, Cooper and Hauskrecht, 2015)

over bins of equal width, as published figures have it, or of equal mass, whose bins are never empty. A model that is
calibrated perfectly has an ECE above 0 on so many answers; `floor` says how much that is.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from understudy.records.base import Record

Bins = Literal["width", "mass"]
NUM_BINS = 10


@dataclass(frozen=True, slots=True)
class ReliabilityBin(Record):
    """Answers whose probabilities lie near each other.

    Attributes:
        low: least probability of the bin.
        high: largest one; the bin holds it.
        n: answers in it.
        probability: their mean probability; None of an empty bin.
        right: the share of them that is right.
    """

    low: float
    high: float
    n: int
    probability: float | None
    right: float | None


def bin_edges(probabilities: np.ndarray, kind: Bins, num_bins: int = NUM_BINS) -> np.ndarray:
    """`[bins + 1]` edges from 0 to 1; of equal mass there are fewer where many probabilities are the same."""
    if kind == "width":
        return np.linspace(0, 1, num_bins + 1)
    inner = np.quantile(probabilities, np.linspace(0, 1, num_bins + 1)[1:-1])
    return np.unique(np.concatenate([[0.0], inner, [1.0]]))


def bin_of(probabilities: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """`[n]` the bin of each probability; a bin holds its upper edge, the first one its lower edge too."""
    return np.clip(np.searchsorted(edges, probabilities, side="left") - 1, 0, len(edges) - 2)


def reliability(probabilities: np.ndarray, right: np.ndarray, kind: Bins = "mass") -> list[ReliabilityBin]:
    """The bins of a reliability diagram, in order."""
    edges = bin_edges(probabilities, kind)
    place = bin_of(probabilities, edges)
    bins = []
    for number, (low, high) in enumerate(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)):
        own = place == number
        means = (float(probabilities[own].mean()), float(right[own].mean())) if own.any() else (None, None)
        bins.append(ReliabilityBin(low, high, int(own.sum()), *means))
    return bins


def bin_statistics(probabilities: np.ndarray, right: np.ndarray, kind: Bins) -> np.ndarray:
    """`[n, 2·bins]`: of each answer probability minus right, and 1, in the columns of its bin.

    Their column sums give the ECE (`ece_from_totals`), so resampling adds rows up and never bins again.
    """
    edges = bin_edges(probabilities, kind)
    bins, place = len(edges) - 1, bin_of(probabilities, edges)
    rows = np.arange(len(place))
    statistics = np.zeros((len(place), 2 * bins))
    statistics[rows, place] = probabilities - right
    statistics[rows, bins + place] = 1.0
    return statistics


def ece_from_totals(totals: np.ndarray) -> np.ndarray:
    """`[..., 2·bins]` column sums -> `[...]` ECE; NaN where no answer was counted."""
    gaps, counts = np.split(np.asarray(totals), 2, axis=-1)
    with np.errstate(invalid="ignore"):
        return np.abs(gaps).sum(axis=-1) / counts.sum(axis=-1)


def expected_calibration_error(probabilities: np.ndarray, right: np.ndarray, kind: Bins) -> float:
    """The ECE of these answers."""
    return float(ece_from_totals(bin_statistics(probabilities, right, kind).sum(axis=0)))


def floor(probabilities: np.ndarray, kind: Bins, *, draws: int = 1000, seed: int = 0) -> float:
    """The mean ECE of a model that is right exactly as often as its probabilities say, on as many answers."""
    drawn = np.random.default_rng(seed).random((draws, len(probabilities))) < probabilities
    edges = bin_edges(probabilities, kind)
    members = np.eye(len(edges) - 1)[bin_of(probabilities, edges)]
    return float(np.abs((probabilities - drawn) @ members).sum(axis=1).mean() / len(probabilities))


def brier_score(probabilities: np.ndarray, right: np.ndarray) -> float:
    """Mean squared error of the probabilities (Brier, 1950)."""
    return float(((probabilities - right) ** 2).mean())


def auroc(values: np.ndarray, right: np.ndarray) -> float | None:
    """The chance that a right answer lies above a wrong one, ties counting half; None where there are not both."""
    from scipy.stats import rankdata

    right = np.asarray(right, dtype=bool)
    positives, negatives = int(right.sum()), int((~right).sum())
    if not positives or not negatives:
        return None
    ranks = rankdata(values)[right].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def auroc_statistics(values: np.ndarray, right: np.ndarray) -> np.ndarray:
    """`[n, 2·u]` of u distinct values: 1 in the column of an answer's value, among the right or the wrong ones."""
    distinct, place = np.unique(values, return_inverse=True)
    statistics = np.zeros((len(place), 2 * len(distinct)))
    statistics[np.arange(len(place)), place + np.where(np.asarray(right, dtype=bool), 0, len(distinct))] = 1.0
    return statistics


def auroc_from_totals(totals: np.ndarray) -> np.ndarray:
    """`[..., 2·u]` column sums -> `[...]` AUROC; NaN where a draw lacks right or wrong answers."""
    right, wrong = np.split(np.asarray(totals, dtype=np.float64), 2, axis=-1)
    below = wrong.cumsum(axis=-1) - wrong / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return (right * below).sum(axis=-1) / (right.sum(axis=-1) * wrong.sum(axis=-1))
