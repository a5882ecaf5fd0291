"""Systems drawn from known distributions, many at once, for the tests that count how often a statement is false.

A trial is a pair of systems on `items` items. Trials go through the public call in batches, as if they were metrics of
one comparison, which shares the draws of a batch and so costs seconds instead of minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from understudy.metrics import Score, mean_score, score
from understudy.metrics.significance import MetricComparison, compare_systems

Side = tuple[np.ndarray, np.ndarray]
Sampler = Callable[[np.random.Generator, int, int], Side]
BATCH = 50


def shared(generator: np.random.Generator, trials: int, items: int, share: float) -> Side:
    """Two `[trials, items]` uniform variables that are one and the same on a share of the items."""
    one, two = generator.uniform(size=(2, trials, items))
    return one, np.where(generator.uniform(size=one.shape) < share, one, two)


def right_or_wrong(first: float, second: float) -> Sampler:
    """0/1 values with these two accuracies."""

    def draw(generator: np.random.Generator, trials: int, items: int) -> Side:
        one, two = shared(generator, trials, items, 0.5)
        return (one < first).astype(float), (two < second).astype(float)

    return draw


def overlap(zeros: float, ones: float, second: tuple[float, float] | None = None) -> Sampler:
    """Values like token F1: masses at 0 and 1, skewed in between; `second` where the other system's differ."""

    def values(uniform: np.ndarray, masses: tuple[float, float]) -> np.ndarray:
        inner = np.clip((uniform - masses[0]) / (1 - sum(masses)), 0, 1) ** 3
        return np.where(uniform < masses[0], 0.0, np.where(uniform > 1 - masses[1], 1.0, inner))

    def draw(generator: np.random.Generator, trials: int, items: int) -> Side:
        one, two = shared(generator, trials, items, 0.6)
        return values(one, (zeros, ones)), values(two, second or (zeros, ones))

    return draw


def expected_overlap(zeros: float, ones: float) -> float:
    """Mean of `overlap`: the inner part is the cube of a uniform variable, 1/4 on average."""
    return ones + (1 - zeros - ones) / 4


def grouped(sampler: Sampler, size: int, spread: float) -> Sampler:
    """The same, the items of a group shifted together, each side by itself."""

    def draw(generator: np.random.Generator, trials: int, items: int) -> Side:
        one, two = sampler(generator, trials, items)
        shifts = generator.normal(0, spread, size=(2, trials, -(-items // size)))
        return tuple(
            side + np.repeat(shift, size, axis=1)[:, :items] for side, shift in zip((one, two), shifts, strict=True)
        )

    return draw


def bleu_comparisons(*, trials: int, items: int, resamples: int = 1000, seed: int = 12) -> Iterator[MetricComparison]:
    """`trials` comparisons by corpus BLEU of two systems that are alike, from counts drawn for them."""
    generator = np.random.default_rng(seed)
    bleu_from_counts = score(["a b c d"], [["a b c d"]], metrics=["bleu"])["bleu"].from_totals
    for start in range(0, trials, BATCH):
        systems: tuple[dict[str, Score], dict[str, Score]] = ({}, {})
        for trial in range(BATCH):
            quality = generator.beta(4, 2, size=items)  # how hard an item is, for both
            reference = generator.integers(6, 30, size=items)
            for side in systems:
                length = np.maximum(4, reference + generator.integers(-3, 4, size=items))
                totals = length[:, None] - np.arange(4)
                correct = [generator.binomial(totals[:, 0], quality)]
                for order in range(1, 4):
                    correct.append(generator.binomial(np.minimum(correct[-1], totals[:, order]), quality))
                counts = np.column_stack([length, reference, *correct, totals]).astype(float)
                sentences = tuple(np.atleast_1d(bleu_from_counts(counts)).tolist())
                value = float(bleu_from_counts(counts.sum(axis=0)))
                side[str(trial)] = Score("bleu", value, sentences, counts, bleu_from_counts, "", maximum=100.0)
        yield from compare_systems(*systems, resamples=resamples, seed=start).metrics.values()


def comparisons(
    sampler: Sampler,
    *,
    trials: int,
    items: int,
    groups: int | None = None,
    resamples: int = 1000,
    seed: int = 11,
) -> Iterator[MetricComparison]:
    """`trials` comparisons of systems that the sampler draws."""
    generator = np.random.default_rng(seed)
    names = None if groups is None else (np.arange(items) // groups).tolist()
    for start in range(0, trials, BATCH):
        count = min(BATCH, trials - start)
        sides = sampler(generator, count, items)
        first, second = ({str(k): mean_score(str(k), row, "") for k, row in enumerate(side)} for side in sides)
        found = compare_systems(first, second, groups=names, resamples=resamples, seed=start)
        yield from found.metrics.values()
