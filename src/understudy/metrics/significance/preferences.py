"""Preferences between two at a time, on one scale (Bradley and Terry, 1952)."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from understudy.errors import DataError
from understudy.metrics.significance.bootstrap import count_clusters, resampled_figure
from understudy.metrics.significance.resampling import DEFAULT_RESAMPLING, Resampling
from understudy.metrics.significance.results import Result

_ROUNDS = 2000
_SETTLED = 1e-10
_MOST = 15.0  # log-odds beyond which a system that always wins is not followed


@dataclass(frozen=True, slots=True)
class Strength(Result):
    """One system on the scale of preferences.

    Attributes:
        system: name.
        value: log-strength λ; the mean over systems is 0, and P(a before b) = 1 / (1 + exp(λ_b − λ_a)).
        low: lower bound of its bootstrap interval.
        high: upper bound.
        wins: comparisons won, ties counted half.
        comparisons: comparisons it was in.
    """

    system: str
    value: float
    low: float
    high: float
    wins: float
    comparisons: int


def bradley_terry(
    firsts: Sequence[str],
    seconds: Sequence[str],
    outcomes: Sequence[float] | np.ndarray,
    *,
    clusters: Sequence[Hashable] | None = None,
    resampling: Resampling = DEFAULT_RESAMPLING,
) -> tuple[Strength, ...]:
    """Strengths of systems that were compared two at a time, by maximum likelihood.

    ```text
    P(a preferred to b) = e^λ_a / (e^λ_a + e^λ_b),   Σ λ = 0
    ```

    The likelihood is climbed by Hunter's (2004) minorising steps e^λ_a ← wins_a / Σ_b n_ab/(e^λ_a + e^λ_b). Whoever
    always wins or always loses has no finite strength and stops at a bound.

    Args:
        firsts: one system of each comparison.
        seconds: the other.
        outcomes: 1 where the first was preferred, 0 where the second, ½ a tie.
        clusters: who compared; whole raters are drawn for the intervals.
        resampling: draws, level, seed.

    Raises:
        DataError: nothing was compared.
    """
    if not len(firsts):
        raise DataError("no preference was given")
    names = sorted({*firsts, *seconds})
    number = {name: index for index, name in enumerate(names)}
    k, rows = len(names), np.arange(len(firsts))
    won = np.zeros((len(firsts), k, k))
    a, b = (np.array([number[name] for name in side]) for side in (firsts, seconds))
    won[rows, a, b] += np.asarray(outcomes, dtype=np.float64)
    won[rows, b, a] += 1 - np.asarray(outcomes, dtype=np.float64)
    wins = won.sum(axis=0)
    strengths = log_strengths(wins)
    bounds = [
        resampled_figure(
            won.reshape(len(won), -1),
            lambda totals, index=index: log_strengths(totals.reshape(*totals.shape[:-1], k, k))[..., index],
            resampling=resampling,
            clusters=clusters,
        ).bounds(resampling.confidence, count_clusters(len(won), clusters))
        for index in range(k)
    ]
    return tuple(
        Strength(
            name,
            float(strengths[index]),
            *bounds[index],
            float(wins[index].sum()),
            round(float(wins[index].sum() + wins[:, index].sum())),
        )
        for index, name in enumerate(names)
    )


def log_strengths(wins: np.ndarray) -> np.ndarray:
    """`[…, k, k]` how often row was preferred to column -> `[…, k]` log-strengths, mean 0."""
    total, compared = wins.sum(axis=-1), wins + np.swapaxes(wins, -1, -2)
    strength = np.ones_like(total)
    for _ in range(_ROUNDS):
        with np.errstate(divide="ignore", invalid="ignore"):
            rate = (compared / (strength[..., :, None] + strength[..., None, :])).sum(axis=-1)
            log = np.log(np.where(rate > 0, total / rate, strength))
            log -= log.max(axis=-1, keepdims=True)
            new = np.exp(np.clip(log, -_MOST, 0))
        change, strength = np.abs(new - strength).max(), new
        if change < _SETTLED:
            break
    log = np.log(strength)
    return log - log.mean(axis=-1, keepdims=True)


def chance_of(strengths: Mapping[str, float], a: str, b: str) -> float:
    """P(a preferred to b)."""
    return float(1 / (1 + np.exp(strengths[b] - strengths[a])))
