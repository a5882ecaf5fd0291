"""Systems drawn from known distributions, many at once, for the tests that count how often a statement is false.

A trial is a pair of systems on `items` items. Trials go through the public call in batches, as if they were metrics of
one comparison, which shares the draws of a batch and so costs seconds instead of minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import stats

from understudy.metrics import Score, mean_score, score
from understudy.metrics.significance import MetricComparison, Resampling, compare_systems

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


def grouped(sampler: Sampler, names: np.ndarray, spread: float) -> Sampler:
    """The same, the items of a cluster shifted together, each side by itself; `names` is the cluster of each item."""

    def draw(generator: np.random.Generator, trials: int, items: int) -> Side:
        one, two = sampler(generator, trials, items)
        shifts = generator.normal(0, spread, size=(2, trials, names.max() + 1))
        return one + shifts[0][:, names], two + shifts[1][:, names]

    return draw


def equal_clusters(clusters: int, size: int) -> np.ndarray:
    """The cluster of each item, all of one size."""
    return np.repeat(np.arange(clusters), size)


def unequal_clusters(clusters: int) -> np.ndarray:
    """The cluster of each item; sizes are geometric with mean 5, a few clusters holding many items."""
    return np.repeat(np.arange(clusters), np.random.default_rng(5).geometric(0.2, size=clusters))


def heavy_clusters(clusters: int) -> np.ndarray:
    """The cluster of each item; sizes follow a power law, from 2 up to 200."""
    sizes = np.ceil(2 * np.random.default_rng(6).pareto(1.1, size=clusters) + 1)
    return np.repeat(np.arange(clusters), np.minimum(200, sizes).astype(int))


def one_large_cluster(clusters: int) -> np.ndarray:
    """The cluster of each item; one cluster holds a fifth to a quarter of them, the others four each."""
    return np.repeat(np.arange(clusters), [5 * clusters // 4, *[4] * (clusters - 1)])


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
        yield from compare_systems(*systems, resampling=Resampling(resamples, seed=start)).metrics.values()


def comparisons(
    sampler: Sampler,
    *,
    trials: int,
    items: int,
    clusters: np.ndarray | None = None,
    resamples: int = 1000,
    seed: int = 11,
) -> Iterator[MetricComparison]:
    """`trials` comparisons of systems that the sampler draws."""
    generator = np.random.default_rng(seed)
    names = None if clusters is None else clusters.tolist()
    for start in range(0, trials, BATCH):
        count = min(BATCH, trials - start)
        sides = sampler(generator, count, items)
        first, second = ({str(k): mean_score(str(k), row, "") for k, row in enumerate(side)} for side in sides)
        found = compare_systems(first, second, clusters=names, resampling=Resampling(resamples, seed=start))
        yield from found.metrics.values()


def other_intervals(values: np.ndarray, clusters: np.ndarray, seed: int) -> dict[str, tuple[float, float]]:
    """95% intervals of a mean over clusters that `metrics.significance` does not use, from 1,000 draws of the clusters.

    `expanded by t alone` widens percentiles as for clusters of one size; `studentised` divides each draw by its own
    standard error; `BCa` shifts the percentiles by bias and acceleration.
    """
    sums, sizes = np.bincount(clusters, weights=values), np.bincount(clusters)
    count, value, error = len(sizes), values.mean(), _ratio_error(sums, sizes, np.ones(len(sizes)))
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=1000)
    drawn = weights @ sums / (weights @ sizes)
    z = stats.norm.ppf(0.975)
    out = stats.norm.cdf(-np.sqrt(count / (count - 1)) * stats.t.ppf(0.975, count - 1))
    ratios = (drawn - value) / np.maximum(_ratio_error(sums, sizes, weights), 1e-12)
    left_out = (sums.sum() - sums) / (sizes.sum() - sizes)
    strays = left_out.mean() - left_out
    shift, speed = stats.norm.ppf((drawn < value).mean()), (strays**3).sum() / (6 * (strays**2).sum() ** 1.5)
    levels = [stats.norm.cdf(shift + (shift + end) / (1 - speed * (shift + end))) for end in (-z, z)]
    return {
        "expanded by t alone": _bounds(drawn, [out, 1 - out]),
        "studentised": _bounds(value - error * ratios, [0.025, 0.975]),
        "BCa": _bounds(drawn, levels),
    }


def _ratio_error(sums: np.ndarray, sizes: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Standard error of sums/sizes over weighted clusters, linearised."""
    total = weights @ sizes
    mean = weights @ sums / total
    squares = weights @ sums**2 - 2 * mean * (weights @ (sums * sizes)) + mean**2 * (weights @ sizes**2)
    return np.sqrt(np.maximum(squares, 0)) / total


def _bounds(drawn: np.ndarray, levels: list[float]) -> tuple[float, float]:
    low, high = np.quantile(drawn, levels)
    return float(low), float(high)
