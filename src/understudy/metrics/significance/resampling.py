"""Ten thousand draws of everything at once: a draw is a row of weights, a resampled total weights times statistics.

Two kinds: *bootstrap* draws rows with replacement; *swaps* exchange the two systems on each row with probability one
half. A seed fixes the draws of so many rows, whatever is computed from them, so figures from several calls pair up.
Memory is bounded: draws are made, used and forgotten in chunks. A figure comes back as `Resampled`: its value, its
draws, and its value with each row left out, and with each row weighing a little less.

A bootstrap's own spread is too small by sqrt((g − 1)/g) for g clusters of one size, by more where one cluster outweighs
the others, and its quantiles are those of a normal where Student's t would be in place. Both are made good as
Hesterberg (2015) proposes for clusters of one size, here with the jackknife over clusters (MacKinnon, Nielsen and Webb,
2023) in place of the factor that only such clusters share: the percentiles taken lie further out, at Φ(−c·z), with

    c = s_jackknife / s_linear · t(g − 1) / z,    s²_jackknife = (g − 1)/g · Σ_g (θ₋g − θ)²,    s²_linear = Σ_g U_g²

where θ₋g is the figure without cluster g and U_g its derivative by the weight of g (the infinitesimal jackknife, which
is what endless draws of a linear figure spread by). Of a mean over clusters of one size, s_jackknife / s_linear is
sqrt(g/(g − 1)).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.errors import DataError
from understudy.metrics.scores import FromTotals

_CHUNK = 1 << 22  # weights held at once: 32 MB
_WEIGHT_STEP = 1e-3  # share of a cluster's weight that is taken off it for the derivative


@dataclass(frozen=True, slots=True)
class Resampling:
    """How figures are resampled: enough to do it again.

    Attributes:
        draws: number of bootstrap draws, and of random exchanges.
        confidence: level of every interval; 1 − confidence is the level of the tests.
        seed: seed of the draws.

    Raises:
        DataError: no draw at all, or a confidence that is no share.
    """

    draws: int = 10_000
    confidence: float = 0.95
    seed: int = 0

    def __post_init__(self) -> None:
        if self.draws < 1 or not 0 < self.confidence < 1:
            raise DataError(
                f"cannot resample with {self.draws} draws and confidence {self.confidence}",
                hint="at least one draw; the confidence lies between 0 and 1",
            )

    @property
    def alpha(self) -> float:
        """Level of the tests."""
        return round(1 - self.confidence, 12)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able, under the names that score files have always had."""
        return {"resamples": self.draws, "confidence": self.confidence, "seed": self.seed}


DEFAULT_RESAMPLING = Resampling()


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


@dataclass(frozen=True, slots=True, eq=False)
class Resampled:
    """A figure with what resampling makes of it. Figures over the same rows and draws may be subtracted.

    Attributes:
        value: the figure on the items as they are.
        samples: `[draws]` the figure on each draw; NaN where a draw holds none of its items.
        leave_one_out: `[rows]` the figure without each row (cluster); the value itself for a row without an item.
        downweighted: `[rows]` the figure with each row weighing a thousandth less.
    """

    value: float
    samples: np.ndarray
    leave_one_out: np.ndarray
    downweighted: np.ndarray

    def minus(self, other: Resampled) -> Resampled:
        """The difference of two figures."""
        return Resampled(
            self.value - other.value,
            self.samples - other.samples,
            self.leave_one_out - other.leave_one_out,
            self.downweighted - other.downweighted,
        )

    def over(self, other: Resampled) -> Resampled:
        """The ratio of two figures; draws whose denominator is not above 0 have none."""
        with np.errstate(divide="ignore", invalid="ignore"):
            return Resampled(
                self.value / other.value,
                np.where(other.samples > 0, self.samples / other.samples, np.nan),
                self.leave_one_out / other.leave_one_out,
                self.downweighted / other.downweighted,
            )

    def error(self, num_clusters: int) -> float:
        """The jackknife's standard error over so many clusters; NaN with fewer than two."""
        return jackknife_error(self.leave_one_out, self.value, num_clusters)

    def expansion(self, confidence: float, num_clusters: int) -> float:
        """How much wider than the draws' own spread an interval has to be; 1 for one cluster."""
        if num_clusters < 2:
            return 1.0
        from scipy.special import ndtri, stdtrit

        level = (1 + confidence) / 2
        slopes = (self.downweighted[np.isfinite(self.downweighted)] - self.value) / _WEIGHT_STEP
        linear = float(np.sqrt((slopes**2).sum()))
        # Where nothing varies the two are rounding errors: then as for clusters of one size, which is the least.
        inflation = max(
            self.error(num_clusters) / linear if linear > 0 else 0.0, np.sqrt(num_clusters / (num_clusters - 1))
        )
        return float(inflation * stdtrit(num_clusters - 1, level) / ndtri(level))

    def bounds(self, confidence: float, num_clusters: int) -> tuple[float, float]:
        """Expanded percentile bounds; draws without a value are passed over. NaN with fewer than two clusters."""
        samples = self.samples[np.isfinite(self.samples)]
        if num_clusters < 2 or not len(samples):
            return float("nan"), float("nan")
        from scipy.special import ndtr, ndtri

        tail = float(ndtr(-self.expansion(confidence, num_clusters) * ndtri((1 + confidence) / 2)))
        low, high = np.quantile(samples, [tail, 1 - tail])
        return float(low), float(high)


def jackknife_error(leave_one_out: np.ndarray, value: float, num_clusters: int) -> float:
    """sqrt((g − 1)/g · Σ (θ₋g − θ)²): the jackknife's standard error; NaN with fewer than two clusters."""
    if num_clusters < 2:
        return float("nan")
    deviations = leave_one_out[np.isfinite(leave_one_out)] - value
    return float(np.sqrt((num_clusters - 1) / num_clusters * (deviations**2).sum()))


def bootstrap_weights(rows: int, resampling: Resampling) -> Iterator[np.ndarray]:
    """Chunks `[chunk, rows]` of how often each row is drawn."""
    generator = np.random.default_rng(resampling.seed)
    for count in _chunks(rows, resampling.draws):
        draws = generator.integers(rows, size=(count, rows))
        draws += np.arange(count)[:, None] * rows
        yield np.bincount(draws.ravel(), minlength=count * rows).reshape(count, rows).astype(np.float64)


def swaps(rows: int, resampling: Resampling) -> Iterator[np.ndarray]:
    """Chunks `[chunk, rows]` of 0 and 1: 1 where the two systems are exchanged."""
    generator = np.random.default_rng((resampling.seed, 1))
    width = -(-rows // 8)
    for count in _chunks(rows, resampling.draws):
        packed = np.frombuffer(generator.bytes(count * width), dtype=np.uint8).reshape(count, width)
        yield np.unpackbits(packed, axis=1, count=rows).astype(np.float64)


def resample(columns: Sequence[Columns], resampling: Resampling = DEFAULT_RESAMPLING) -> list[Resampled]:
    """Every figure on the same bootstrap draws."""
    table = np.concatenate([column.statistics for column in columns], axis=1)
    boundaries = np.cumsum([0, *(column.statistics.shape[1] for column in columns)])
    samples = np.empty((len(columns), resampling.draws))
    start = 0
    for weights in bootstrap_weights(len(table), resampling):
        totals, stop = weights @ table, start + len(weights)
        for number, column in enumerate(columns):
            samples[number, start:stop] = column.from_totals(totals[:, boundaries[number] : boundaries[number + 1]])
        start = stop
    return [_resampled(column, column_samples) for column, column_samples in zip(columns, samples, strict=True)]


def _resampled(column: Columns, samples: np.ndarray) -> Resampled:
    totals = column.statistics.sum(axis=0)
    leave_one_out, downweighted = (
        np.asarray(column.from_totals(totals - share * column.statistics), dtype=np.float64)
        for share in (1.0, _WEIGHT_STEP)
    )
    return Resampled(float(column.from_totals(totals)), samples, leave_one_out, downweighted)


def randomise(pairs: Sequence[Swappable], resampling: Resampling = DEFAULT_RESAMPLING) -> np.ndarray:
    """Every difference a − b on the same swaps: `[pairs, draws]`."""
    row_differences = [pair.a.statistics - pair.b.statistics for pair in pairs]
    totals = [(pair.a.statistics.sum(axis=0), pair.b.statistics.sum(axis=0)) for pair in pairs]
    table = np.concatenate(row_differences, axis=1)
    boundaries = np.cumsum([0, *(columns.shape[1] for columns in row_differences)])
    differences = np.empty((len(pairs), resampling.draws))
    start = 0
    for exchanged in swaps(len(table), resampling):
        exchanged_totals, stop = exchanged @ table, start + len(exchanged)
        for number, (pair, (total_a, total_b)) in enumerate(zip(pairs, totals, strict=True)):
            shift = exchanged_totals[:, boundaries[number] : boundaries[number + 1]]
            figures = pair.a.from_totals(total_a - shift), pair.b.from_totals(total_b + shift)
            differences[number, start:stop] = figures[0] - figures[1]
        start = stop
    return differences


def tail_share(deviations: np.ndarray, observed: float, scale: float) -> float:
    """p-value: share of draws at least as far out as the observed one, which counts as a draw itself.

    Args:
        deviations: resampled differences from their centre.
        observed: the difference seen.
        scale: size of the figures that were subtracted, by which rounding is told from a difference.
    """
    finite = deviations[np.isfinite(deviations)]
    is_extreme = np.abs(finite) >= abs(observed) * (1 - 1e-9) - 1e-12 * scale
    return (1 + int(is_extreme.sum())) / (1 + len(finite))


def _chunks(rows: int, draws: int) -> Iterator[int]:
    chunk = max(1, _CHUNK // rows)
    for start in range(0, draws, chunk):
        yield min(chunk, draws - start)
