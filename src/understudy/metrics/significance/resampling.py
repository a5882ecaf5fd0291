"""Ten thousand draws of everything at once: a draw is a row of weights, a resampled total weights times statistics.

Two kinds: *bootstrap* draws rows with replacement; *swaps* exchange the two systems on each row with probability one
half. A seed fixes the draws of so many rows, whatever is computed from them, so figures from several calls pair up.
Memory is bounded: draws are made, used and forgotten in chunks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from understudy.metrics.scores import FromTotals

_CHUNK = 1 << 22  # weights held at once: 32 MB


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """One figure to be resampled: `[rows, k]` statistics and what turns their sums into the figure."""

    statistics: np.ndarray
    from_totals: FromTotals


@dataclass(frozen=True, slots=True, eq=False)
class Swappable:
    """Two figures whose rows may be exchanged: a's total, b's total, and a's rows minus b's."""

    a: Columns
    b: Columns


def bootstrap_weights(rows: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Chunks `[some, rows]` of how often each row is drawn; `resamples` draws in all."""
    generator = np.random.default_rng(seed)
    for count in _chunks(rows, resamples):
        draws = generator.integers(rows, size=(count, rows))
        draws += np.arange(count)[:, None] * rows
        yield np.bincount(draws.ravel(), minlength=count * rows).reshape(count, rows).astype(np.float64)


def swaps(rows: int, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Chunks `[some, rows]` of 0 and 1: 1 where the two systems are exchanged."""
    generator = np.random.default_rng((seed, 1))
    width = -(-rows // 8)
    for count in _chunks(rows, resamples):
        packed = np.frombuffer(generator.bytes(count * width), dtype=np.uint8).reshape(count, width)
        yield np.unpackbits(packed, axis=1, count=rows).astype(np.float64)


def resample(columns: Sequence[Columns], *, resamples: int, seed: int) -> np.ndarray:
    """Every figure on the same bootstrap draws: `[figures, resamples]`; NaN where a draw holds no item of a figure."""
    table = np.concatenate([column.statistics for column in columns], axis=1)
    cuts = np.cumsum([0, *(column.statistics.shape[1] for column in columns)])
    figures = np.empty((len(columns), resamples))
    start = 0
    for weights in bootstrap_weights(len(table), resamples, seed):
        totals, stop = weights @ table, start + len(weights)
        for number, column in enumerate(columns):
            figures[number, start:stop] = column.from_totals(totals[:, cuts[number] : cuts[number + 1]])
        start = stop
    return figures


def randomise(pairs: Sequence[Swappable], *, resamples: int, seed: int) -> np.ndarray:
    """Every difference a − b on the same swaps: `[pairs, resamples]`."""
    apart = [pair.a.statistics - pair.b.statistics for pair in pairs]
    wholes = [(pair.a.statistics.sum(axis=0), pair.b.statistics.sum(axis=0)) for pair in pairs]
    table = np.concatenate(apart, axis=1)
    cuts = np.cumsum([0, *(columns.shape[1] for columns in apart)])
    differences = np.empty((len(pairs), resamples))
    start = 0
    for exchanged in swaps(len(table), resamples, seed):
        moved, stop = exchanged @ table, start + len(exchanged)
        for number, (pair, (whole_a, whole_b)) in enumerate(zip(pairs, wholes, strict=True)):
            shift = moved[:, cuts[number] : cuts[number + 1]]
            after = pair.a.from_totals(whole_a - shift), pair.b.from_totals(whole_b + shift)
            differences[number, start:stop] = after[0] - after[1]
        start = stop
    return differences


def tail_share(strays: np.ndarray, observed: float, scale: float) -> float:
    """p-value: share of draws at least as far out as the observed one, which counts as a draw itself.

    Args:
        strays: resampled differences from their centre.
        observed: the difference seen.
        scale: size of the figures that were subtracted, by which rounding is told from a difference.
    """
    known = strays[np.isfinite(strays)]
    far = np.abs(known) >= abs(observed) * (1 - 1e-9) - 1e-12 * scale
    return (1 + int(far.sum())) / (1 + len(known))


def _chunks(rows: int, resamples: int) -> Iterator[int]:
    most = max(1, _CHUNK // rows)
    for start in range(0, resamples, most):
        yield min(most, resamples - start)
