"""A linear mixed model with crossed random effects: who rated, and what.

    y = Xβ + Σ_j Z_j u_j + e,    u_j ~ N(0, σ_j² I),   e ~ N(0, σ² I)

Restricted likelihood, profiled over β and σ² (Bates et al., 2015): with θ_j = σ_j/σ, Λ = diag(θ) and
M = ΛZ'ZΛ + I,

    −2 ℓ(θ) = log|M| + log|X'V⁻¹X| + (n − p)(1 + log(2π r²/(n − p))),    V⁻¹ = I − ZΛM⁻¹ΛZ'

r² = (y − Xβ̂)'V⁻¹(y − Xβ̂). It is minimised over θ ≥ 0, so a variance of 0 is an ordinary answer. Its effort is the
cube of the number of raters and items, whatever the number of ratings; statsmodels' `MixedLM`, which the tests compare
with as with R's lme4, takes some ten times as long for a thousand ratings and does not settle where a variance is 0.

Slopes of a method within a rater are no part of it: if raters differ in what they think of a method, intervals are
somewhat too short.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from understudy.errors import DataError
from understudy.metrics.significance.results import Result

_STARTS = (1.0, 0.3)


@dataclass(frozen=True, slots=True)
class FixedEffect(Result):
    """A coefficient, or a difference of two.

    Attributes:
        name: of it.
        value: the estimate.
        standard_error: of it.
        low: lower bound of its interval (Student's t).
        high: upper bound.
        p_value: two-sided.
    """

    name: str
    value: float
    standard_error: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True, slots=True, eq=False)
class CrossedFit:
    """The fitted model.

    Attributes:
        names: of the columns of X.
        coefficients: `[p]` β.
        covariance: `[p, p]` of β.
        variances: of each random effect, and of the `noise`.
        degrees_of_freedom: n − rank [X Z]: what is left when every rater and item has a mean of its own; right for
            effects that vary within both, such as a method's.
        deviance: −2 ℓ.
        n: number of values.
        converged: whether the fit ended as it should.
    """

    names: tuple[str, ...]
    coefficients: np.ndarray
    covariance: np.ndarray
    variances: Mapping[str, float]
    degrees_of_freedom: int
    deviance: float
    n: int
    converged: bool

    def effect(self, weights: Mapping[str, float], name: str, confidence: float = 0.95) -> FixedEffect:
        """A linear combination of coefficients with its interval.

        Args:
            weights: name of a column -> its weight; others have none.
            name: what to call it.
            confidence: level of the interval.
        """
        from scipy.special import stdtr, stdtrit

        row = np.array([weights.get(column, 0.0) for column in self.names])
        value, error = float(row @ self.coefficients), float(np.sqrt(max(0.0, row @ self.covariance @ row)))
        half = float(stdtrit(self.degrees_of_freedom, (1 + confidence) / 2)) * error
        p_value = float(2 * stdtr(self.degrees_of_freedom, -abs(value) / error)) if error > 0 else float(value == 0)
        return FixedEffect(name, value, error, value - half, value + half, p_value)


def crossed_model(
    values: np.ndarray, columns: Mapping[str, np.ndarray], random: Mapping[str, Sequence[Hashable] | np.ndarray]
) -> CrossedFit:
    """Fit a linear mixed model with crossed random intercepts by restricted maximum likelihood.

    Args:
        values: `[n]` y.
        columns: name -> `[n]` column of X, the intercept among them.
        random: name -> `[n]` levels of a random effect.

    Raises:
        DataError: the columns say the same, or nothing is left to estimate the noise from.
    """
    design = np.stack([np.asarray(column, dtype=np.float64) for column in columns.values()], axis=1)
    levels = [np.unique(np.asarray(column), return_inverse=True)[1] for column in random.values()]
    indicators = [np.eye(int(level.max()) + 1)[level] for level in levels]
    n, p = design.shape
    if np.linalg.matrix_rank(design) < p:
        raise DataError("columns of the model say the same", hint="leave one of them out")
    together = np.concatenate([design / np.abs(design).max(axis=0), *indicators], axis=1)
    left = n - int(np.linalg.matrix_rank(together.T @ together, hermitian=True))
    if left < 1:
        raise DataError(f"{n} values are too few for a model with {together.shape[1]} effects")
    unit = float(values.std()) or 1.0
    likelihood = _Likelihood(values / unit, design, indicators)
    theta, converged = _minimise(likelihood, len(indicators))
    deviance, coefficients, covariance, noise = likelihood.at(theta)
    variances = {name: float((t**2) * noise) * unit**2 for name, t in zip(random, theta, strict=True)}
    return CrossedFit(
        tuple(columns),
        coefficients * unit,
        covariance * unit**2,
        {**variances, "noise": float(noise) * unit**2},
        left,
        deviance + 2 * (n - p) * float(np.log(unit)),
        n,
        converged,
    )


class _Likelihood:
    """−2 ℓ at given θ, from cross products that are computed once."""

    def __init__(self, values: np.ndarray, design: np.ndarray, indicators: list[np.ndarray]) -> None:
        z = np.concatenate(indicators, axis=1)
        self._sizes = [block.shape[1] for block in indicators]
        self._shape = design.shape
        both = np.concatenate([design, values[:, None]], axis=1)
        self._zz, self._zb, self._bb = z.T @ z, z.T @ both, both.T @ both

    def at(self, theta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray, float]:
        """Deviance, β, its covariance, σ²."""
        from scipy.linalg import cho_factor, cho_solve

        n, p = self._shape
        scale = np.repeat(theta, self._sizes)
        factor = cho_factor(scale[:, None] * self._zz * scale[None, :] + np.eye(len(scale)), lower=True)
        scaled = scale[:, None] * self._zb
        inner = self._bb - scaled.T @ cho_solve(factor, scaled)  # [X y]'V⁻¹[X y]
        information, projected = inner[:p, :p], inner[:p, p]
        coefficients = np.linalg.solve(information, projected)
        noise = max(float(inner[p, p] - projected @ coefficients) / (n - p), 1e-300)
        log_m = 2 * float(np.log(np.diag(factor[0])).sum())
        deviance = log_m + float(np.linalg.slogdet(information)[1]) + (n - p) * (1 + np.log(2 * np.pi * noise))
        return float(deviance), coefficients, np.linalg.inv(information) * noise, noise


def _minimise(likelihood: _Likelihood, num_effects: int) -> tuple[np.ndarray, bool]:
    """The best of a few descents over θ ≥ 0; where none settles, one without gradients goes on."""
    from scipy.optimize import minimize

    best = None
    for start in _STARTS:
        found = minimize(
            lambda theta: likelihood.at(theta)[0],
            np.full(num_effects, start),
            method="L-BFGS-B",
            bounds=[(0.0, None)] * num_effects,
            options={"ftol": 1e-13, "gtol": 1e-7},
        )
        best = found if best is None or found.fun < best.fun else best
    assert best is not None
    if best.success:
        return best.x, True
    polished = minimize(
        lambda theta: likelihood.at(np.abs(theta))[0],
        best.x,
        method="Nelder-Mead",
        options={"xatol": 1e-7, "fatol": 1e-9, "maxiter": 400},
    )
    theta = np.abs(polished.x) if polished.fun <= best.fun else best.x
    return theta, bool(polished.success)
