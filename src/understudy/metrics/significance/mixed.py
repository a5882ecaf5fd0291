"""Several training seeds of each system: what would another seed and another set of items say?

One run answers "is this student better than that one"; the question is mostly "is this method better". Then seeds are
a sample like items are, and both are random effects:

    y[s, r, i] = μ + β_s + item_i + (system × item)_{s,i} + seed_{s,r} + noise,    all but μ and β_s random.

`statsmodels.MixedLM` fits it by restricted maximum likelihood. Its effort grows with the cube of the number of items,
so items are first averaged in at most thirty blocks drawn at random; equal blocks leave the form of the model as it is
and only divide the item and noise variances by their size. Where items come in clusters, blocks are made of whole
clusters.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.errors import DataError, listed
from understudy.metrics.significance.pairing import Values, cluster_numbers, per_item
from understudy.metrics.significance.results import Result

_BLOCKS = 30
_LEAST_SEEDS = 3
_LIKELIHOOD_LOST = 0.01  # a random effect that the log-likelihood misses less than this has no variance
_RETRY = re.compile("failed|Retrying")
_COMPONENTS = ("seed", "item", "system_item")


@dataclass(frozen=True, slots=True)
class SystemEffect(Result):
    """One system minus the baseline, over seeds and items.

    Attributes:
        system: name.
        difference: mean over seeds and items minus the baseline's.
        standard_error: of the difference.
        low: lower bound of its interval (Student's t).
        high: upper bound.
        p_value: two-sided.
        degrees_of_freedom: by Satterthwaite's rule: few seeds mean few.
    """

    system: str
    difference: float
    standard_error: float
    low: float
    high: float
    p_value: float
    degrees_of_freedom: float


@dataclass(frozen=True, slots=True)
class SeedsModel(Result):
    """Systems compared over their seeds.

    Attributes:
        baseline: the system that the others are compared with.
        effects: one for each other system.
        variances: of `seed`, `item`, `system_item` (both of a block's mean) and `noise`; empty in the fallback.
        method: `mixed`; or `item_means`, a paired t-test of means over seeds, which takes the seeds at hand for all
            there are.
        converged: whether the fit ended as it should; in the fallback True.
        seeds: system -> number of seeds.
        items: number of items that all runs have.
        missing: number of items that some run lacks; left out.
        blocks: number of blocks of items.
        notes: what to know before reading it.
    """

    baseline: str
    effects: tuple[SystemEffect, ...]
    variances: Mapping[str, float]
    method: str
    converged: bool
    seeds: Mapping[str, int]
    items: int
    missing: int
    blocks: int
    notes: tuple[str, ...]


def seeds_model(
    runs: Mapping[str, Sequence[Values]],
    *,
    baseline: str | None = None,
    clusters: Sequence[Hashable] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
) -> SeedsModel:
    """Compare systems over several training seeds each, on per-item values.

    Args:
        runs: system -> one `Score`, or one value an item, for each of its seeds; items in the same order everywhere.
        baseline: the system that the others are compared with; default the first.
        clusters: the cluster of each item. Default: each item is its own.
        confidence: level of the intervals.
        seed: seed of the blocks.

    Raises:
        DataError: fewer than two systems, an unknown baseline, lengths that differ, no item or only one that all have.
    """
    reference = baseline or next(iter(runs), "")
    table, systems, missing, numbers = _table(runs, reference, clusters)
    notes: list[str] = []
    blocks = _blocks(numbers, np.random.default_rng(seed))
    means = np.stack([np.bincount(blocks, weights=row) for row in table]) / np.bincount(blocks)
    short_of_seeds = sorted({name for name in systems if systems.count(name) < _LEAST_SEEDS})
    fitted = None
    if short_of_seeds:
        notes.append(
            f"fewer than {_LEAST_SEEDS} seeds of {listed(short_of_seeds)}: seeds are averaged and the result speaks "
            "of these runs only, not of another seed"
        )
    elif all(np.ptp(table[[name == system for name in systems]], axis=0).max() == 0 for system in runs):
        notes.append("the seeds of each system are alike to the last digit: there is no spread to model")
    else:
        fitted = _fit(means, systems, reference, notes)
    if fitted is None:
        cluster_means = np.stack([np.bincount(numbers, weights=row) for row in table]) / np.bincount(numbers)
        effects = _item_means(cluster_means, systems, reference, confidence)
    else:
        effects = _effects(fitted, means.shape, systems, reference, confidence)
    return SeedsModel(
        baseline=reference,
        effects=effects,
        variances={} if fitted is None else fitted.variances,
        method="item_means" if fitted is None else "mixed",
        converged=fitted is None or fitted.converged,
        seeds={name: systems.count(name) for name in runs},
        items=table.shape[1],
        missing=missing,
        blocks=means.shape[1],
        notes=tuple(notes),
    )


def _table(
    runs: Mapping[str, Sequence[Values]], baseline: str, clusters: Sequence[Hashable] | None
) -> tuple[np.ndarray, list[str], int, np.ndarray]:
    """`[runs, items]` values that all runs have, each run's system, how many items are missing, each item's cluster."""
    if len(runs) < 2 or not all(len(seeds) for seeds in runs.values()):
        raise DataError("a comparison over seeds needs at least two systems with a run each")
    if baseline not in runs:
        raise DataError(f"no system {baseline!r}", hint=f"there are: {listed(runs)}")
    rows = [(name, per_item(values)) for name, seeds in runs.items() for values in seeds]
    if len({len(row) for _, row in rows}) > 1:
        raise DataError("the runs do not have the same number of items")
    table = np.stack([row for _, row in rows])
    in_all_runs = np.asarray(~np.isnan(table).any(axis=0))
    numbers = cluster_numbers(clusters, len(in_all_runs))
    numbers = np.arange(len(in_all_runs)) if numbers is None else numbers
    item_clusters = np.asarray(np.unique(numbers[in_all_runs], return_inverse=True)[1])
    if len(item_clusters) == 0 or item_clusters.max() < 1:
        raise DataError("fewer than two items (groups) that all runs have")
    return table[:, in_all_runs], [name for name, _ in rows], int((~in_all_runs).sum()), item_clusters


def _blocks(numbers: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Block of each item; whole clusters stay together."""
    count = int(numbers.max()) + 1
    return (generator.permutation(count) % min(count, _BLOCKS))[numbers]


@dataclass(frozen=True, slots=True, eq=False)
class _Fitted:
    """What a fit estimates: differences from the baseline with their errors, and the variances."""

    differences: np.ndarray
    errors: np.ndarray
    variances: dict[str, float]
    converged: bool


def _fit(means: np.ndarray, systems: list[str], baseline: str, notes: list[str]) -> _Fitted | None:
    """The fitted model; None, with a note, where the fit broke down.

    Fits often fail to settle where a variance is 0. Such a component is then left out, which changes no estimate.
    """
    import pandas

    runs, blocks = means.shape
    names = [baseline, *(name for name in dict.fromkeys(systems) if name != baseline)]
    system = np.repeat([names.index(name) for name in systems], blocks)
    block = np.tile(np.arange(blocks), runs)
    unit = float(means.std()) or 1.0  # the optimiser's tolerances are made for numbers near 1
    frame = pandas.DataFrame(
        {"y": (means / unit).ravel(), "system": system, "seed": np.repeat(np.arange(runs), blocks)}
    )
    frame = frame.assign(item=block, system_item=system * blocks + block)
    components = list(_COMPONENTS)
    fitted, messages = _restricted_likelihood(frame, components)
    if fitted is None:
        notes.append(f"the mixed model could not be fitted ({messages[0]}); seeds are averaged instead")
        return None
    while not fitted.converged and len(components) > 1:
        least = min(components, key=_variance_ratios(fitted).__getitem__)
        components.remove(least)
        smaller, smaller_messages = _restricted_likelihood(frame, components)
        if smaller is None or smaller.llf < fitted.llf - _LIKELIHOOD_LOST:
            break
        fitted, messages = smaller, smaller_messages
        notes.append(f"{least.replace('_', ' × ')}: no variance that these runs show; left out of the model")
    ratios = _variance_ratios(fitted)
    if not fitted.converged:
        notes.append("the fit of the mixed model did not converge: do not rely on its p-values")
    notes.extend(messages)
    variances = {name: float(ratios.get(name, 0.0) * fitted.scale * unit**2) for name in _COMPONENTS}
    return _Fitted(
        fitted.fe_params.to_numpy()[1:] * unit,
        fitted.bse_fe.to_numpy()[1:] * unit,
        {**variances, "noise": float(fitted.scale) * unit**2},
        bool(fitted.converged),
    )


def _variance_ratios(fitted: Any) -> dict[str, float]:
    """Each random effect's variance as a multiple of the noise."""
    return dict(zip(fitted.model.exog_vc.names, (fitted.vcomp / fitted.scale).tolist(), strict=True))


def _restricted_likelihood(frame: Any, components: Sequence[str]) -> tuple[Any, list[str]]:
    """The fit and what statsmodels had to say about it; no fit, and why, where it broke down."""
    from statsmodels.regression.mixed_linear_model import MixedLM

    formulas = {name: f"0 + C({name})" for name in components}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            model = MixedLM.from_formula(
                "y ~ C(system)", frame, groups=np.ones(len(frame)), re_formula="0", vc_formula=formulas
            )
            fitted = model.fit(reml=True)
        except (np.linalg.LinAlgError, ValueError, ZeroDivisionError) as error:
            return None, [str(error)]
    if not np.isfinite(fitted.bse_fe).all():
        return None, ["no standard errors"]
    messages = dict.fromkeys(str(warning.message) for warning in caught)
    # A fit that settled at the second or third attempt has settled.
    return fitted, [text for text in messages if not (fitted.converged and _RETRY.search(text))]


def _effects(
    fitted: _Fitted, shape: tuple[int, int], systems: list[str], baseline: str, confidence: float
) -> tuple[SystemEffect, ...]:
    compared = [name for name in dict.fromkeys(systems) if name != baseline]
    components, (runs, blocks), kinds = fitted.variances, shape, len(compared) + 1
    effects = []
    for number, name in enumerate(compared):
        seeds = 2 / (1 / systems.count(name) + 1 / systems.count(baseline))
        # Var = 2·(MS_seed + MS_system_item − MS_noise)/(seeds·blocks), mean squares as a balanced design has them.
        squares = np.array([blocks * components["seed"], seeds * components["system_item"], 0.0]) + components["noise"]
        dofs = np.array([runs - kinds, (kinds - 1) * (blocks - 1), (runs - kinds) * (blocks - 1)])
        variance = squares[0] + squares[1] - squares[2]
        dof = float(variance**2 / (squares**2 / dofs).sum())
        difference, error = float(fitted.differences[number]), float(fitted.errors[number])
        effects.append(_effect(name, difference, error, dof, confidence))
    return tuple(effects)


def _item_means(
    cluster_means: np.ndarray, systems: list[str], baseline: str, confidence: float
) -> tuple[SystemEffect, ...]:
    item_means = {
        name: cluster_means[[index for index, system in enumerate(systems) if system == name]].mean(axis=0)
        for name in dict.fromkeys(systems)
    }
    effects = []
    for name in item_means:
        if name != baseline:
            differences = item_means[name] - item_means[baseline]
            error = float(differences.std(ddof=1) / np.sqrt(len(differences)))
            effects.append(_effect(name, float(differences.mean()), error, len(differences) - 1, confidence))
    return tuple(effects)


def _effect(name: str, difference: float, error: float, dof: float, confidence: float) -> SystemEffect:
    from scipy.special import stdtr, stdtrit

    half_width = float(stdtrit(dof, (1 + confidence) / 2)) * error
    p_value = float(2 * stdtr(dof, -abs(difference) / error)) if error > 0 else float(difference == 0)
    return SystemEffect(name, difference, error, difference - half_width, difference + half_width, p_value, dof)
