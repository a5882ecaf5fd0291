"""How many raters: the tests of an analysis on what simulated raters would say.

`power_of_design` draws ratings of a `RatingModel` on a real assignment and counts how often each test rejects.
`raters_needed` starts from the noncentral F (or t) of ratings whose raters' means are taken off,

    λ = n · Σ_m (μ_m − μ)² / (M · σ²(1 − share)),

and then asks the simulation whether that is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from understudy.errors import ConfigError
from understudy.metrics.significance.results import Result
from understudy.study.assignment import Seat, assign, exchanges, redraws
from understudy.study.rating_model import RatingModel

Question = Literal["any", "pair"]


@dataclass(frozen=True, slots=True)
class Rejections(Result):
    """How often tests reject in simulated studies.

    Attributes:
        permutation: of the design's permutation test.
        classical: of Kruskal and Wallis' test (`any`), or of Dunn's test of the pair (`pair`).
        simulations: studies simulated; a share p has a standard error of √(p(1 − p)/simulations).
    """

    permutation: float
    classical: float
    simulations: int


@dataclass(frozen=True, slots=True, eq=False)
class DrawnDesign:
    """A design with its redraws, so that many simulated studies can be tested on it.

    Attributes:
        rater: `[n]` number of the rater.
        item: `[n]` number of the item.
        methods: names of the methods.
        drawn: `[1 + draws, n]` numbers of methods, the design's own first.
        pair: the two that were exchanged; None where all were drawn anew.
    """

    rater: np.ndarray
    item: np.ndarray
    methods: tuple[str, ...]
    drawn: np.ndarray
    pair: tuple[int, int] | None = None


def drawn_design(
    seats: Sequence[Seat],
    methods: Sequence[str],
    *,
    draws: int,
    seed: int,
    pair: tuple[str, str] | None = None,
    kept: np.ndarray | None = None,
) -> DrawnDesign:
    """Redraw a design for many tests on it.

    Args:
        seats: of the whole design.
        methods: names, in the order of a model's.
        draws: how many.
        seed: of the draws.
        pair: exchange these two only.
        kept: mask of the seats that somebody took; the others are drawn with them and leave no rating.
    """
    rng = np.random.default_rng([seed, 5])
    chosen = np.ones(len(seats), dtype=bool) if kept is None else kept
    names, codes = redraws(seats, draws, rng) if pair is None else exchanges(seats, pair, draws, rng)
    order = np.array([list(methods).index(name) for name in names])
    shown = np.array([list(methods).index(seat.method) for seat in seats])
    return DrawnDesign(
        rater=np.array([seat.rater for seat in seats])[chosen],
        item=np.unique(np.array([seat.item for seat in seats]), return_inverse=True)[1][chosen],
        methods=tuple(methods),
        drawn=np.concatenate([shown[None], order[codes]])[:, chosen],
        pair=None if pair is None else (list(methods).index(pair[0]), list(methods).index(pair[1])),
    )


def power_of_design(
    model: RatingModel, design: DrawnDesign, *, simulations: int, level: float = 0.05, seed: int = 0, null: bool = False
) -> Rejections:
    """How often each test rejects at `level` on ratings that the model draws for this design.

    Args:
        model: how ratings come about.
        design: who rates what, with redraws.
        simulations: how many studies.
        level: of the tests.
        seed: of the ratings.
        null: draw them without any difference between methods: the share of rejections is then the error.
    """
    rng = np.random.default_rng([seed, 6])
    take_off = without_raters_and_items(design)
    rejected = np.zeros(2)
    for start in range(0, simulations, 250):
        count = min(250, simulations - start)
        values = model.draw(design.rater, design.drawn[0], count, rng, null=null)
        permutation = permutation_p(take_off(values), design)
        classical = _kruskal_p(values, design) if design.pair is None else _dunn_p(values, design)
        rejected += (permutation <= level).sum(), (classical <= level).sum()
    permutation, classical = (rejected / simulations).tolist()
    return Rejections(permutation, classical, simulations)


def without_raters_and_items(design: DrawnDesign) -> Callable[[np.ndarray], np.ndarray]:
    """What takes the least-squares fit of raters and items off `[n, count]` ratings of many studies."""
    columns = np.concatenate([np.eye(int(c.max()) + 1)[c] for c in (design.rater, design.item)], axis=1)
    projection = np.linalg.pinv(columns.T @ columns, rcond=1e-10, hermitian=True)
    return lambda values: values - columns @ (projection @ (columns.T @ values))


def permutation_p(residuals: np.ndarray, design: DrawnDesign) -> np.ndarray:
    """`[count]` p-values of `[n, count]` residuals; `permutation` says how."""
    means = {}
    for method in range(len(design.methods)) if design.pair is None else design.pair:
        mask = (design.drawn == method).astype(np.float32)
        counts = mask.sum(axis=1, keepdims=True)
        means[method] = (mask @ residuals.astype(np.float32)) / counts, counts
    if design.pair is None:
        statistics = sum(counts * mean**2 for mean, counts in means.values())
    else:
        statistics = np.abs(means[design.pair[0]][0] - means[design.pair[1]][0])
    statistics = np.asarray(statistics)
    return (statistics >= statistics[0] * (1 - 1e-5)).mean(axis=0)


def _ranks(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """`[n, count]` ranks, and what ties take off the variance: Σ (t³ − t)."""
    from scipy.stats import rankdata

    ties = np.stack([(values == value).sum(axis=0) for value in np.unique(values)]).astype(np.float64)
    return rankdata(values, axis=0), (ties**3 - ties).sum(axis=0)


def _kruskal_p(values: np.ndarray, design: DrawnDesign) -> np.ndarray:
    """Kruskal and Wallis' p of many studies at once; `rank_tests.kruskal_wallis` says how."""
    from scipy.special import chdtrc

    ranks, ties = _ranks(values)
    n, k = len(values), len(design.methods)
    groups = np.eye(k)[design.drawn[0]]
    between = ((groups.T @ ranks) ** 2 / groups.sum(axis=0)[:, None]).sum(axis=0)
    statistic = (12 / (n * (n + 1)) * between - 3 * (n + 1)) / (1 - ties / (n**3 - n))
    return chdtrc(k - 1, np.maximum(statistic, 0.0))


def _dunn_p(values: np.ndarray, design: DrawnDesign) -> np.ndarray:
    from scipy.special import ndtr

    assert design.pair is not None
    ranks, ties = _ranks(values)
    n = len(values)
    masks = [design.drawn[0] == method for method in design.pair]
    difference = ranks[masks[0]].mean(axis=0) - ranks[masks[1]].mean(axis=0)
    variance = (n * (n + 1) / 12 - ties / (12 * (n - 1))) * sum(1 / mask.sum() for mask in masks)
    return 2 * ndtr(-np.abs(difference) / np.sqrt(variance))


# The planner ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Plan(Result):
    """How many raters it takes.

    Attributes:
        raters: that many.
        per_rater: explanations a rater.
        items: number of items.
        methods: names.
        question: whether any method differs, or the two that are furthest apart.
        pair: these two.
        level: of the test.
        power: that was asked for.
        expected: power by the formula.
        simulated: power in simulated studies of this size.
        error: of that simulation, two standard errors.
        classical: power of Kruskal–Wallis (Dunn's test) there.
    """

    raters: int
    per_rater: int
    items: int
    methods: tuple[str, ...]
    question: str
    pair: tuple[str, str]
    level: float
    power: float
    expected: float
    simulated: float
    error: float
    classical: float


def raters_needed(
    model: RatingModel,
    *,
    items: int,
    per_rater: int,
    power: float = 0.8,
    level: float = 0.05,
    question: Question = "pair",
    simulations: int = 1000,
    draws: int = 499,
    seed: int = 0,
    most: int = 5000,
) -> Plan:
    """The smallest number of raters with the power asked for, by formula and then by simulation.

    Args:
        model: how ratings come about.
        items: number of items.
        per_rater: explanations a rater.
        power: probability that the test rejects.
        level: of the test; with Holm's correction over m tests, level/m is its strictest step.
        question: whether any method differs, or the two that are furthest apart.
        simulations: studies to simulate at each number that is tried.
        draws: of each permutation test.
        seed: of everything.
        most: give up beyond so many.

    Raises:
        ConfigError: the methods do not differ, or more than `most` raters would be needed.
    """
    if np.ptp(model.means) == 0:
        raise ConfigError("the means are equal: no number of raters shows a difference", hint="state the effect wanted")
    if not 1 / (draws + 1) < level:
        draws = int(np.ceil(4 / level))
    order = np.argsort(model.means)
    pair = model.methods[int(order[-1])], model.methods[int(order[0])]
    raters = _by_formula(model, per_rater, power, level, question, most)
    while True:
        seats = assign([str(number) for number in range(items)], model.methods, raters, per_rater, seed)
        design = drawn_design(seats, model.methods, draws=draws, seed=seed, pair=pair if question == "pair" else None)
        found = power_of_design(model, design, simulations=simulations, level=level, seed=seed)
        error = 2 * float(np.sqrt(max(found.permutation * (1 - found.permutation), 1e-9) / simulations))
        if found.permutation >= power - error / 2:
            break
        raters = max(raters + 1, int(np.ceil(raters * 1.05)))
        if raters > most:
            raise ConfigError(_too_many(most), hint="rate more explanations a rater, or look for a larger effect")
    expected = expected_power(model, raters, per_rater, level, question)
    return Plan(
        raters, per_rater, items, model.methods, question, pair, level, power,
        expected, found.permutation, error, found.classical,
    )  # fmt: skip


def _too_many(most: int) -> str:
    return f"more than {most:,} raters would be needed"


def _by_formula(model: RatingModel, per_rater: int, power: float, level: float, question: Question, most: int) -> int:
    least = max(2, -(-len(model.methods) // per_rater))
    for raters in range(least, most + 1):
        if expected_power(model, raters, per_rater, level, question) >= power:
            return raters
    raise ConfigError(_too_many(most), hint="rate more explanations a rater, or look for a larger effect")


def expected_power(model: RatingModel, raters: int, per_rater: int, level: float, question: Question) -> float:
    """Power of the F-test (t-test of the two furthest apart) of ratings whose raters' means are taken off."""
    from scipy.special import fdtri, ncfdtr

    n, k = raters * per_rater, len(model.means)
    variance = (model.sd**2 - float(model.means.var())) * (1 - model.rater_share)
    if question == "any":
        effect, degrees = n * float(model.means.var()) / variance, (k - 1, n - raters - k + 1)
    else:
        effect, degrees = n / k * float(np.ptp(model.means)) ** 2 / (2 * variance), (1, n - raters - k + 1)
    if degrees[1] < 1:
        return 0.0
    return float(1 - ncfdtr(*degrees, effect, fdtri(*degrees, 1 - level)))
