"""How many raters: people made of a normal variable, and the tests on what they would say.

A rating is a latent normal value cut into the steps of the scale:

    z = δ_m + √ρ·a_r + √(1 − ρ)·e,   a, e ~ N(0, 1);      rating = lowest + #{k: z > τ_k},   τ_k = c + s·k

Centre c and spacing s are solved so that ratings have the mean and the standard deviation that are expected, ρ so that
the share of their variance between raters is the expected one – of the ratings, not of z – and δ_m so that each
method has its mean. `power_of_design` draws such ratings on a real assignment and counts how often each test rejects.

`raters_needed` starts from the noncentral F (or t) of ratings whose raters' means are taken off,

    λ = n · Σ_m (μ_m − μ)² / (M · σ²(1 − share)),

and then asks the simulation whether that is enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np

from understudy.errors import ConfigError
from understudy.metrics.significance.results import Result
from understudy.study.assignment import Seat, assign, exchanges, redraws
from understudy.study.config import HIGHEST, LOWEST

Question = Literal["any", "pair"]
_NODES = 60
_LEAST_SHARE, _MOST_SHARE = 1e-9, 0.995
_SPACINGS = (-6.0, 3.0)  # logarithms of the least and the most that cut points lie apart
_NEAR = 1e-3  # of a bound of the variance, where cut points run to infinity


@dataclass(frozen=True, slots=True, eq=False)
class RatingModel:
    """How ratings of one construct come about.

    Attributes:
        methods: names.
        cuts: `[steps − 1]` τ, ascending.
        shifts: `[M]` δ of each method.
        latent_share: ρ.
        means: `[M]` mean rating of each method.
        sd: standard deviation of all ratings.
        rater_share: share of the ratings' variance between raters.
    """

    methods: tuple[str, ...]
    cuts: np.ndarray
    shifts: np.ndarray
    latent_share: float
    means: np.ndarray
    sd: float
    rater_share: float
    lowest: int = LOWEST

    def draw(
        self,
        rater: np.ndarray,
        method: np.ndarray,
        count: int,
        rng: np.random.Generator,
        *,
        null: bool = False,
    ) -> np.ndarray:
        """`[n, count]` ratings of `count` studies.

        Args:
            rater: `[n]` number of the rater.
            method: `[n]` number of the method.
            count: how many studies.
            rng: source of the draw.
            null: without any difference between methods.
        """
        habit = rng.standard_normal((int(rater.max()) + 1, count))[rater]
        noise = rng.standard_normal((len(rater), count))
        latent = np.sqrt(self.latent_share) * habit + np.sqrt(1 - self.latent_share) * noise
        return self.rating_of(latent if null else latent + self.shifts[method][:, None])

    def rating_of(self, latent: np.ndarray) -> np.ndarray:
        """Latent values -> ratings."""
        return (self.lowest + np.searchsorted(self.cuts, latent)).astype(np.float64)


def rating_model(
    means: Sequence[float],
    sd: float,
    rater_share: float,
    *,
    methods: Sequence[str] | None = None,
    lowest: int = LOWEST,
    highest: int = HIGHEST,
) -> RatingModel:
    """Solve for cut points, shifts and the latent share.

    Args:
        means: mean rating of each method.
        sd: standard deviation of all ratings together.
        rater_share: share of their variance between raters.
        methods: names; default m1, m2 …
        lowest: end of the scale.
        highest: the other end.

    Raises:
        ConfigError: a mean outside the scale, a standard deviation that such ratings cannot have, a share outside
            [0, 1).
    """
    values = np.asarray(means, dtype=np.float64)
    names = tuple(methods or (f"m{number}" for number in range(1, len(values) + 1)))
    if len(values) < 2 or not ((values > lowest) & (values < highest)).all():
        raise ConfigError(f"means between {lowest} and {highest} of two methods or more are needed")
    if not 0 <= rater_share < 1:
        raise ConfigError(f"the share of variance between raters is {rater_share}", hint="from 0 up to below 1")
    grand = float(values.mean())
    within = sd**2 - float(values.var())
    # Two neighbouring steps alone give the least spread, the two ends the most.
    part = grand - np.floor(grand)
    least, most = part * (1 - part), (grand - lowest) * (highest - grand)
    cuts = None
    if least + _NEAR < within < most - _NEAR:
        cuts = _cut_points(grand, float(np.sqrt(within)), lowest, highest - lowest)
    if cuts is None:
        raise ConfigError(
            f"ratings from {lowest} to {highest} with mean {grand:.2f} cannot have a standard deviation of {sd:g}",
            hint=f"well between {np.sqrt(least + values.var()):.2f} and {np.sqrt(most + values.var()):.2f}",
        )
    shifts = np.array([_shift(cuts, mean, lowest) for mean in values])
    return RatingModel(names, cuts, shifts, _latent_share(cuts, rater_share, lowest), values, sd, rater_share, lowest)


def _moments(cuts: np.ndarray, lowest: int, centre: np.ndarray | float = 0.0, sd: float = 1.0) -> np.ndarray:
    """Mean and mean square of the rating of N(centre, sd²); rating = lowest + Σ_k 1[z > τ_k]."""
    from scipy.special import ndtr

    above = ndtr((np.asarray(centre)[..., None] - cuts) / sd)
    steps = np.arange(lowest, lowest + len(cuts))
    mean = lowest + above.sum(axis=-1)
    # (r + 1)² − r² = 2r + 1 for each step that is passed.
    square = lowest**2 + (above * (2 * steps + 1)).sum(axis=-1)
    return np.stack([mean, square])


def _cut_points(mean: float, sd: float, lowest: int, steps: int) -> np.ndarray | None:
    """Equally spaced cut points that give mean and standard deviation, by nested bisection; None where none do."""
    from scipy.optimize import brentq

    offsets = np.arange(steps) - (steps - 1) / 2

    def centred(log_spacing: float) -> np.ndarray:
        spread = np.exp(log_spacing) * offsets
        reach = float(np.abs(spread).max()) + 12
        centre = brentq(lambda c: _moments(spread + c, lowest)[0] - mean, -reach, reach)
        return spread + centre

    def excess(log_spacing: float) -> float:
        first, second = _moments(centred(log_spacing), lowest)
        return float(second - first**2 - sd**2)

    if excess(_SPACINGS[0]) <= 0 or excess(_SPACINGS[1]) >= 0:
        return None
    return centred(float(brentq(excess, *_SPACINGS)))  # pyright: ignore[reportArgumentType]


def _shift(cuts: np.ndarray, mean: float, lowest: int) -> float:
    from scipy.optimize import brentq

    reach = float(np.abs(cuts).max()) + 12
    return float(brentq(lambda shift: _moments(cuts, lowest, shift)[0] - mean, -reach, reach))  # pyright: ignore


def _latent_share(cuts: np.ndarray, rater_share: float, lowest: int) -> float:
    """ρ at which Var_a(E[rating | a]) / Var(rating) is the share, by Gauss–Hermite quadrature over a."""
    from scipy.optimize import brentq

    if rater_share == 0:
        return 0.0
    nodes, weights = np.polynomial.hermite_e.hermegauss(_NODES)
    weights = weights / weights.sum()
    mean, square = _moments(cuts, lowest)
    variance = square - mean**2

    def excess(rho: float) -> float:
        conditional = _moments(cuts, lowest, np.sqrt(rho) * nodes, float(np.sqrt(1 - rho)))[0]
        return float((weights * (conditional - mean) ** 2).sum() / variance - rater_share)

    if excess(_LEAST_SHARE) >= 0:
        return 0.0
    if excess(_MOST_SHARE) <= 0:
        raise ConfigError(
            f"ratings in whole steps cannot have {rater_share:.0%} of their variance between raters",
            hint="state a smaller share",
        )
    return float(brentq(excess, _LEAST_SHARE, _MOST_SHARE))  # pyright: ignore[reportArgumentType]


# Power ----------------------------------------------------------------------------------------------------------------


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


@lru_cache(maxsize=1)
def published() -> dict[str, RatingModel]:
    """The five constructs as the explanation study (arXiv 2504.16056) found them."""
    methods = ("CF", "MT", "MT+CF", "MT+CF revised")
    figures = {
        "plausibility": ((4.03, 4.24, 4.19, 4.21), 0.96, 0.28),
        "understandability": ((4.35, 4.45, 4.37, 4.46), 0.69, 0.29),
        "completeness": ((3.83, 4.02, 3.96, 4.11), 1.01, 0.33),
        "satisfaction": ((3.84, 4.00, 3.96, 4.00), 1.05, 0.34),
        "contrastiveness": ((3.54, 3.65, 3.64, 3.96), 1.28, 0.54),
    }
    return {name: rating_model(means, sd, share, methods=methods) for name, (means, sd, share) in figures.items()}
