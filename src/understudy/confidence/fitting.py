"""Which measure of confidence a student is calibrated by, and by which map: what the development rows show."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from understudy.confidence.calibration import MAP_KINDS, MapKind, ProbabilityMap, fitted
from understudy.confidence.measures import EARLY_MEASURES, MEASURES, Confidence
from understudy.confidence.reliability import auroc, brier_score
from understudy.errors import DataError

_FOLDS = 5


def fit_maps(
    confidences: Sequence[Confidence],
    right: Sequence[bool],
    clusters: Sequence[int],
    *,
    kind: MapKind | None = None,
) -> dict[str, ProbabilityMap]:
    """A map of every measure that most answers have, fitted on those that have it.

    Args:
        confidences: of the development answers.
        right: whether each was right.
        clusters: the group of each; a group is held out as one.
        kind: of map; None takes that of the smaller Brier score on rows held out.

    Raises:
        DataError: there is nothing to tell apart: all answers are right, or all wrong.
    """
    outcomes = np.asarray(right, dtype=bool)
    if not 0 < outcomes.sum() < len(outcomes):
        which = "right" if outcomes.all() and len(outcomes) else "wrong"
        raise DataError(
            f"all {len(outcomes)} development answers are {which}: nothing can be calibrated on them",
            hint="choose what counts as right with --metric and --right-at, or use a larger development split",
        )
    maps: dict[str, ProbabilityMap] = {}
    for measure in MEASURES:
        values = [confidence.value(measure) for confidence in confidences]
        kept = np.array([value is not None for value in values])
        if 2 * kept.sum() > len(kept) and 0 < outcomes[kept].sum() < kept.sum():
            x = np.array([value for value in values if value is not None])
            maps[measure] = _best_map(x, outcomes[kept], np.asarray(clusters)[kept], kind)
    if not maps:
        raise DataError("no measure of confidence is known of most development answers")
    return maps


def best_measure(maps: Mapping[str, ProbabilityMap], *, early: bool = False) -> str | None:
    """The measure of the largest AUROC, of equal ones that of the smaller Brier score; of the early ones None if none.

    Args:
        maps: as `fit_maps` gives them.
        early: only measures that the first tokens tell.
    """
    names = [name for name in maps if not early or name in EARLY_MEASURES]
    return max(names, key=lambda name: (_known(maps[name].auroc), -_known(maps[name].brier)), default=None)


def _known(value: float | None) -> float:
    return 0.0 if value is None else round(value, 9)


def _best_map(x: np.ndarray, right: np.ndarray, clusters: np.ndarray, kind: MapKind | None) -> ProbabilityMap:
    kinds: Sequence[MapKind] = [kind] if kind else MAP_KINDS
    briers = {name: held_out_brier(x, right, clusters, name) for name in kinds}
    best = min(kinds, key=lambda name: briers[name])
    return replace(fitted(x.tolist(), right.tolist(), best), auroc=auroc(x, right), brier=briers[best])


def held_out_brier(x: np.ndarray, right: np.ndarray, clusters: np.ndarray, kind: MapKind) -> float:
    """Brier score of a map by cross-validation: five folds of whole clusters, by a fixed draw."""
    names, place = np.unique(clusters, return_inverse=True)
    folds = np.random.default_rng(0).permutation(len(names))[place] % min(_FOLDS, len(names))
    probabilities = np.empty(len(x))
    for fold in np.unique(folds):
        out = folds == fold
        if (~out).sum() < 2:
            return brier_score(np.full(len(x), right.mean()), right)
        curve = fitted(x[~out].tolist(), right[~out].tolist(), kind)
        probabilities[out] = [curve(value) for value in x[out]]
    return brier_score(probabilities, right)
