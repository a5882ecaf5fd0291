"""Does it matter whose explanation was shown? Tests that repeat what the design drew.

Ratings are first freed of what has nothing to do with methods: residuals of the least-squares fit of raters and items,
in which no method has a part. Then

    T_ab = mean residual of a − mean residual of b,      T = Σ_m n_m (mean residual of m)²

and p = (1 + #{draws with |T| at least as large}) / (1 + draws). For T methods are drawn anew as the study drew them,
raters, items and positions as they were; for T_ab the seats of a and b are shared out between them, all others as they
are. With an assignment at hand the draw is the design's own (`assignment`); without one, a rater's methods are
permuted among what the rater rated. The same on ranks, for those to whom a rating is only an order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Protocol

import numpy as np

from understudy.errors import DataError
from understudy.study.assignment import Seat, exchanges, redraws
from understudy.study.ratings import Ratings

_ROUNDING = 1e-9


class Mechanism(Protocol):
    """How methods came to stand where they stand."""

    @property
    def name(self) -> str:
        """What it is called."""
        ...

    def redraws(self, count: int) -> np.ndarray:
        """`[count, n]` numbers of methods, all of them drawn anew."""
        ...

    def exchanges(self, pair: tuple[int, int], count: int) -> np.ndarray:
        """`[count, n]` numbers of methods, those of two of them shared out anew."""
        ...


class DesignDraws:
    """The draws of a study's own design, each made once: ratings with and without a rater are tested on the same."""

    def __init__(self, seats: Sequence[Seat], seed: int) -> None:
        self.seats = seats
        self.names = sorted({seat.method for seat in seats})
        self._seed = seed
        self._made: dict[tuple[int, ...], np.ndarray] = {}

    def redraws(self, count: int) -> np.ndarray:
        """`[count, seats]` numbers into `names`."""
        return self._once((count,), lambda rng: redraws(self.seats, count, rng)[1])

    def exchanges(self, pair: tuple[str, str], count: int) -> np.ndarray:
        """The same, two methods only."""
        key = (count, self.names.index(pair[0]), self.names.index(pair[1]))
        return self._once(key, lambda rng: exchanges(self.seats, pair, count, rng)[1])

    def _once(self, key: tuple[int, ...], make: Callable[[np.random.Generator], np.ndarray]) -> np.ndarray:
        if key not in self._made:
            self._made[key] = make(np.random.default_rng([self._seed, 4, *key])).astype(np.int8)
        return self._made[key]


@dataclass(frozen=True, slots=True, eq=False)
class DesignMechanism:
    """The study's own draw.

    Attributes:
        draws: of the whole design.
        methods: names, in the order of their numbers.
        rows: `[n]` the seat of each row.
    """

    draws: DesignDraws
    methods: tuple[str, ...]
    rows: np.ndarray
    name: str = "design"

    def redraws(self, count: int) -> np.ndarray:
        """All methods, as `assign` drew them."""
        return self._numbered(self.draws.redraws(count))

    def exchanges(self, pair: tuple[int, int], count: int) -> np.ndarray:
        """Two of them."""
        return self._numbered(self.draws.exchanges((self.methods[pair[0]], self.methods[pair[1]]), count))

    def _numbered(self, drawn: np.ndarray) -> np.ndarray:
        numbers = [self.methods.index(name) if name in self.methods else -1 for name in self.draws.names]
        return np.array(numbers)[drawn[:, self.rows]]


@dataclass(frozen=True, slots=True, eq=False)
class WithinRaters:
    """A rater's methods permuted among what the rater rated: what is left where no assignment is known.

    Attributes:
        rater: `[n]` numbers of raters.
        method: `[n]` numbers of methods.
        seed: of the permutations.
    """

    rater: np.ndarray
    method: np.ndarray
    seed: int
    name: str = "within raters"

    def redraws(self, count: int) -> np.ndarray:
        """All methods of each rater."""
        return self._permuted(np.arange(len(self.rater)), count, (0,))

    def exchanges(self, pair: tuple[int, int], count: int) -> np.ndarray:
        """Those rows of each rater that have one of the two."""
        return self._permuted(np.flatnonzero(np.isin(self.method, pair)), count, (1, *pair))

    def _permuted(self, rows: np.ndarray, count: int, key: tuple[int, ...]) -> np.ndarray:
        rng = np.random.default_rng([self.seed, 9, *key])
        drawn = np.tile(self.method, (count, 1))
        in_order = rows[np.argsort(self.rater[rows], kind="stable")]
        shuffled = np.argsort(self.rater[in_order] + rng.random((count, len(rows))), axis=1)
        drawn[:, in_order] = self.method[in_order][shuffled]
        return drawn


@dataclass(frozen=True, slots=True)
class PermutationTests:
    """p-values of one outcome.

    Attributes:
        any_method: of T: does any method differ?
        any_method_ranks: the same on ranks.
        pairs: (a, b) -> (mean residual of a − that of b, p, p on ranks).
    """

    any_method: float
    any_method_ranks: float
    pairs: Mapping[tuple[str, str], tuple[float, float, float]]


def mechanism_of(ratings: Ratings, design: DesignDraws | None, slots: Mapping[str, int], *, seed: int = 0) -> Mechanism:
    """How the methods of these rows were drawn.

    Args:
        ratings: the rows.
        design: draws of the study's assignment; None where there is none.
        slots: rater -> row of the assignment.
        seed: of the permutations within raters.

    Raises:
        DataError: a row is of no seat, or its method is not the one that the assignment has there.
    """
    names = ratings.methods
    if design is None:
        rater = np.unique(ratings.rater.astype(str), return_inverse=True)[1]
        return WithinRaters(rater, np.array([names.index(method) for method in ratings.method]), seed)
    seats = design.seats
    numbers = {(seat.rater, seat.item): number for number, seat in enumerate(seats)}
    rows = []
    for rater, item, method in zip(ratings.rater, ratings.item, ratings.method, strict=True):
        number = numbers.get((slots.get(rater, -1), item))
        if number is None or seats[number].method != method:
            shown = "nothing" if number is None else seats[number].method
            raise DataError(
                f"rater {rater} rated {method} of item {item}, and the assignment has {shown} there",
                hint="the ratings are of another study; analyse the file by itself: "
                "understudy study analyse ratings.csv",
            )
        rows.append(number)
    return DesignMechanism(design, names, np.array(rows))


def permutation_tests(ratings: Ratings, mechanism: Mechanism, *, draws: int) -> dict[str, PermutationTests]:
    """Both tests of every outcome, all of them on the same draws.

    Args:
        ratings: rows in the mechanism's order.
        mechanism: how methods are drawn anew.
        draws: for the pairs; a quarter of them for all methods together.
    """
    names, outcomes = ratings.methods, ratings.outcomes
    method = np.array([names.index(name) for name in ratings.method])
    residuals = np.stack(
        [adjusted(values, ratings) for name in outcomes for values in _and_ranks(ratings.of(name))], axis=1
    )
    there = ~np.isnan(residuals)
    filled = np.where(there, residuals, 0.0)
    weights = there.astype(np.float64)
    redrawn = np.concatenate([method[None], mechanism.redraws(draws // 4)])
    between = sum(_sums(redrawn == m, filled) ** 2 / _counts(redrawn == m, weights) for m in range(len(names)))
    overall = _share_as_far(np.asarray(between))
    pairs: dict[tuple[str, str], np.ndarray] = {}
    for a, b in combinations(range(len(names)), 2):
        drawn = np.concatenate([method[None], mechanism.exchanges((a, b), draws)])
        means = [_sums(drawn == m, filled) / _counts(drawn == m, weights) for m in (a, b)]
        difference = means[0] - means[1]
        pairs[names[a], names[b]] = np.stack([difference[0], _share_as_far(np.abs(difference))])
    return {
        name: PermutationTests(
            float(overall[2 * k]),
            float(overall[2 * k + 1]),
            {
                pair: (float(found[0, 2 * k]), float(found[1, 2 * k]), float(found[1, 2 * k + 1]))
                for pair, found in pairs.items()
            },
        )
        for k, name in enumerate(outcomes)
    }


def _and_ranks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    from scipy.stats import rankdata

    ranks = np.full(len(values), np.nan)
    there = ~np.isnan(values)
    ranks[there] = rankdata(values[there])
    return values, ranks


def adjusted(values: np.ndarray, ratings: Ratings) -> np.ndarray:
    """`[n]` residuals of the least-squares fit of rater and item effects; NaN stays NaN."""
    residuals = np.full(len(values), np.nan)
    there = np.flatnonzero(~np.isnan(values))
    columns = [
        np.eye(len(levels))[numbers]
        for column in (ratings.rater, ratings.item)
        for levels, numbers in [np.unique(column[there].astype(str), return_inverse=True)]
    ]
    design = np.concatenate(columns, axis=1)
    # The two blocks share the overall mean; the smallest solution of the normal equations leaves the same residuals.
    solution = np.linalg.lstsq(design.T @ design, design.T @ values[there], rcond=1e-10)[0]
    residuals[there] = values[there] - design @ solution
    return residuals


def _sums(mask: np.ndarray, values: np.ndarray) -> np.ndarray:
    return mask.astype(np.float64) @ values


def _counts(mask: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Rows that have a value; a method without any has a mean of 0, as if it were no different."""
    return np.maximum(mask.astype(np.float64) @ weights, 1.0)


def _share_as_far(statistics: np.ndarray) -> np.ndarray:
    """`[1 + draws, …]`, the data's first -> share of all that are at least as large, the data counted as a draw."""
    slack = _ROUNDING * np.maximum(statistics[0], np.abs(statistics).max(axis=0) * 1e-3)
    return (statistics >= statistics[0] - slack).mean(axis=0)
