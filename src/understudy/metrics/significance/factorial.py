"""Analysis of variance for factorial designs: which setting mattered, and whether settings depend on each other.

A value is one run's figure – not one item's: the items of a run share its model, so they are not independent evidence
about a setting. Levene's and Shapiro and Wilk's tests stand beside the result because both of its assumptions can fail.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np

from understudy.errors import DataError
from understudy.metrics.significance.results import Result

_SHAPIRO_MOST = 5000  # beyond it scipy's p-value is not to be relied on


@dataclass(frozen=True, slots=True)
class Term(Result):
    """One line of the table: a factor, or an interaction of several (`method × size`).

    Attributes:
        name: the factors.
        sum_of_squares: of type II: what the term adds to all terms that do not contain it.
        degrees_of_freedom: of the term.
        f: ratio of mean squares.
        p_value: of F.
        partial_eta_squared: SS / (SS + SS_residual): share of what other terms leave over; too high in small samples.
        partial_omega_squared: the same, freed of that bias; may be below 0.
    """

    name: str
    sum_of_squares: float
    degrees_of_freedom: int
    f: float
    p_value: float
    partial_eta_squared: float
    partial_omega_squared: float


@dataclass(frozen=True, slots=True)
class TukeyPair(Result):
    """Two levels of a factor: mean of `a` minus mean of `b`, interval and p-value over all pairs of that factor."""

    factor: str
    a: str
    b: str
    difference: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True)
class Anova(Result):
    """A whole analysis.

    Attributes:
        terms: factors first, then interactions.
        residual_sum_of_squares: what no term explains.
        residual_degrees_of_freedom: number of values minus number of parameters.
        tukey: all pairs of levels of every factor (Tukey and Kramer), on the residual of the whole model.
        levene_p: p-value of equal spread in all cells (Brown and Forsythe's medians); low: F is not to be relied on.
        shapiro_p: p-value of normal residuals; low: the same, less so in large samples. NaN beyond 5,000 values.
        n: number of values.
        notes: what to know before reading it.
    """

    terms: tuple[Term, ...]
    residual_sum_of_squares: float
    residual_degrees_of_freedom: int
    tukey: tuple[TukeyPair, ...]
    levene_p: float
    shapiro_p: float
    n: int
    notes: tuple[str, ...]


def factorial_anova(
    values: Sequence[float] | np.ndarray,
    factors: Mapping[str, Sequence[Hashable]],
    *,
    interactions: bool = True,
    alpha: float = 0.05,
) -> Anova:
    """Analysis of variance over one factor or more, with Tukey's HSD.

    Args:
        values: one figure a run.
        factors: name -> level of each run.
        interactions: whether terms may depend on each other. With one value a cell the highest interaction cannot be
            told from noise and is left out, with a note.
        alpha: level of Tukey's intervals.

    Raises:
        DataError: no factor, a factor of one level, lengths that differ, a cell without a value, no variation, or no
            value left over to tell noise by.
    """
    array = np.asarray(values, dtype=np.float64)
    levels = _levels(array, factors)
    counts = _cells(levels)
    order = len(levels) if interactions else 1
    notes = []
    if max(counts.values()) > min(counts.values()):
        notes.append("unbalanced: cells have different numbers of values; sums of squares are of type II")
    if order > 1 and max(counts.values()) == 1:
        order -= 1
        notes.append("one value a cell: the highest interaction is taken for noise")
    fit, table = _fit(array, levels, order)
    if fit.df_resid < 1:
        raise DataError("no value is left over to tell noise by", hint="run each setting with more than one seed")
    residual, dof = float(fit.ssr), int(fit.df_resid)
    return Anova(
        terms=_terms(table, list(levels), residual / dof, len(array)),
        residual_sum_of_squares=residual,
        residual_degrees_of_freedom=dof,
        tukey=tuple(pair for name in levels for pair in _tukey(name, array, levels[name], residual / dof, dof, alpha)),
        levene_p=_levene(array, levels),
        shapiro_p=_shapiro(fit.resid),
        n=len(array),
        notes=tuple(notes),
    )


def _levels(array: np.ndarray, factors: Mapping[str, Sequence[Hashable]]) -> dict[str, list[str]]:
    if not factors:
        raise DataError("an analysis of variance needs at least one factor")
    if np.isnan(array).any():
        raise DataError("some values are missing", hint="leave those runs out of the values and of every factor")
    levels = {name: [str(level) for level in column] for name, column in factors.items()}
    for name, column in levels.items():
        if len(column) != len(array):
            raise DataError(f"factor {name!r} has {len(column)} levels for {len(array)} values")
        if len(set(column)) < 2:
            raise DataError(f"factor {name!r} has only one level", hint="leave it out")
    if np.ptp(array) == 0:
        raise DataError("all values are equal: there is no variance to analyse")
    return levels


def _cells(levels: Mapping[str, list[str]]) -> Counter[tuple[str, ...]]:
    counts = Counter(zip(*levels.values(), strict=True))
    empty = [cell for cell in product(*(dict.fromkeys(column) for column in levels.values())) if cell not in counts]
    if empty:
        raise DataError(
            f"no value for {' × '.join(empty[0])}" + (f" and {len(empty) - 1} more cells" if len(empty) > 1 else ""),
            hint="run the missing settings, or leave a level out",
        )
    return counts


def _fit(array: np.ndarray, levels: Mapping[str, list[str]], order: int) -> tuple[Any, Any]:
    import pandas
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    frame = pandas.DataFrame({"y": array, **{f"f{number}": column for number, column in enumerate(levels.values())}})
    names = [f"f{number}" for number in range(len(levels))]
    terms = [":".join(combination) for size in range(1, order + 1) for combination in combinations(names, size)]
    fit = ols("y ~ " + " + ".join(terms), frame).fit()
    return fit, None if fit.df_resid < 1 else anova_lm(fit, typ=2)


def _terms(table: Any, names: list[str], noise: float, n: int) -> tuple[Term, ...]:
    terms = []
    for label, row in table.drop("Residual").iterrows():
        squares, dof = float(row["sum_sq"]), int(row["df"])
        residual = noise * float(table.loc["Residual", "df"])
        terms.append(
            Term(
                name=" × ".join(names[int(factor[1:])] for factor in str(label).split(":")),
                sum_of_squares=squares,
                degrees_of_freedom=dof,
                f=float(row["F"]),
                p_value=float(row["PR(>F)"]),
                partial_eta_squared=squares / (squares + residual) if squares + residual > 0 else float("nan"),
                partial_omega_squared=(squares - dof * noise) / (squares + (n - dof) * noise)
                if squares + noise > 0
                else float("nan"),
            )
        )
    return tuple(terms)


def _tukey(factor: str, array: np.ndarray, column: list[str], noise: float, dof: int, alpha: float) -> list[TukeyPair]:
    from scipy.stats import studentized_range

    labels, names = np.array(column), list(dict.fromkeys(column))
    quantile = float(studentized_range.ppf(1 - alpha, len(names), dof))
    pairs = []
    for a, b in combinations(names, 2):
        values_a, values_b = array[labels == a], array[labels == b]
        difference = float(values_a.mean() - values_b.mean())
        error = float(np.sqrt(noise / 2 * (1 / len(values_a) + 1 / len(values_b))))
        ratio = abs(difference) / error if error > 0 else np.inf
        p_value = float(np.clip(studentized_range.sf(ratio, len(names), dof), 0.0, 1.0))
        half_width = quantile * error
        pairs.append(TukeyPair(factor, a, b, difference, difference - half_width, difference + half_width, p_value))
    return pairs


def _levene(array: np.ndarray, levels: Mapping[str, list[str]]) -> float:
    from scipy.stats import levene

    cells: dict[tuple[str, ...], list[float]] = {}
    for cell, value in zip(zip(*levels.values(), strict=True), array.tolist(), strict=True):
        cells.setdefault(cell, []).append(value)
    samples = [cell for cell in cells.values() if len(cell) > 1]
    if len(samples) < 2 or all(np.ptp(cell) == 0 for cell in samples):
        return float("nan")
    with np.errstate(invalid="ignore", divide="ignore"):
        return float(levene(*samples, center="median").pvalue)


def _shapiro(residuals: Any) -> float:
    from scipy.stats import shapiro

    array = np.asarray(residuals, dtype=np.float64)
    if not 3 <= len(array) <= _SHAPIRO_MOST or np.ptp(array) < 1e-12:
        return float("nan")
    return float(shapiro(array).pvalue)
