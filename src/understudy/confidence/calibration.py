"""From a measure of confidence to the probability that an answer is right, fitted once and kept beside the run.

Two maps, both monotone, so that neither changes which answers come first:

    isotonic   the non-decreasing step function of least squared error (Zadrozny and Elkan, 2002), read between its
               knots by straight lines
    platt      1 / (1 + exp(−(a·x + b))), fitted to targets that are drawn away from 0 and 1 by the size of the sample
               (Platt, 1999)

Which one is taken is decided by the Brier score of rows that it was not fitted on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np

from understudy.confidence.measures import MEASURES, Confidence
from understudy.errors import DataError, RunError
from understudy.files import read_json, write_json
from understudy.records.base import Record, mapping_of

CALIBRATION = "calibration.json"
"""The file in the run's folder `calibration/`."""
VERSION = 1
"""Of the file's form; one of another version is refused."""
_AGAIN = "run `understudy calibrate` on the run again"

MapKind = Literal["isotonic", "platt"]
MAP_KINDS: tuple[MapKind, ...] = ("isotonic", "platt")


@dataclass(frozen=True, slots=True)
class ProbabilityMap(Record):
    """A monotone map from a measure to a probability.

    Attributes:
        kind: `isotonic` or `platt`.
        x: knots of the step function; of Platt's map its slope a.
        y: probabilities at the knots; of Platt's map its offset b.
        auroc: how well the measure told right from wrong where it was fitted; 0.5 is by chance.
        brier: mean squared error of the probability on rows that it was not fitted on.
        n: rows that it was fitted on.
    """

    kind: MapKind
    x: tuple[float, ...]
    y: tuple[float, ...]
    auroc: float | None = None
    brier: float | None = None
    n: int = 0

    def __call__(self, value: float) -> float:
        """The probability, between 0 and 1."""
        if self.kind == "platt":
            return _logistic(self.x[0] * value + self.y[0])
        return float(np.interp(value, self.x, self.y))


def _logistic(z: float) -> float:
    return 1 / (1 + math.exp(-z)) if z >= 0 else math.exp(z) / (1 + math.exp(z))


@dataclass(frozen=True, slots=True)
class Calibration(Record):
    """What was found out about the confidence of one student of one run: `calibration.json`.

    Attributes:
        run: fingerprint of the run's recipe.
        student: fingerprint of the folder of the student that was measured (`files.fingerprint_folder`).
        arm: its name.
        right: when an answer counted as right, in words.
        measure: the measure that is gone by.
        early_measure: the best of those that the first tokens tell; None for a model that points.
        maps: measure -> its map; whoever lacks the chosen measure may take another.
        threshold: the teacher is asked where the probability lies below it.
        early_threshold: likewise of the early measure.
        rule: how the threshold was chosen, in words.
        version: of the file's form.
    """

    run: str
    student: str
    arm: str
    right: str
    measure: str
    early_measure: str | None
    maps: Mapping[str, ProbabilityMap] = field(metadata={"parse": mapping_of(ProbabilityMap)})
    threshold: float = 0.0
    early_threshold: float | None = None
    rule: str = ""
    version: int = VERSION

    def probability(self, confidence: Confidence, measure: str | None = None) -> float:
        """The probability that an answer is right; 0 for an answer of which the measure says nothing.

        Args:
            confidence: of the answer.
            measure: another one than the chosen measure.

        Raises:
            DataError: nothing was fitted for this measure.
        """
        name = measure or self.measure
        if name not in self.maps:
            raise DataError(f"the calibration has no map of {name}", hint=f"it has {', '.join(self.maps)}; {_AGAIN}")
        value = confidence.value(name)
        return 0.0 if value is None else self.maps[name](value)

    def asks_teacher(self, confidence: Confidence) -> bool:
        """Whether the probability lies below the threshold."""
        return self.probability(confidence) < self.threshold

    def write(self, folder: Path) -> Path:
        """Write it into a folder, whole or not at all; the file."""
        write_json(folder / CALIBRATION, self.to_json())
        return folder / CALIBRATION

    @classmethod
    def from_json(cls, row: Mapping[str, Any]) -> Self:
        """Read what `to_json` wrote.

        Raises:
            DataError: it is of another version, or has holes.
        """
        if row.get("version") != VERSION:
            raise DataError(
                f"a calibration of version {row.get('version')!r}, and this program reads {VERSION}", hint=_AGAIN
            )
        calibration = super(Calibration, cls).from_json(row)
        if calibration.measure not in calibration.maps or not calibration.maps.keys() <= set(MEASURES):
            raise DataError("a calibration without the map of its own measure", hint=_AGAIN)
        return calibration


def read_calibration(folder: Path, *, run: str | None = None, student: str | None = None) -> Calibration:
    """The calibration of a folder, bound to what it was measured on.

    Args:
        folder: that holds `calibration.json`.
        run: fingerprint of the recipe that it must be of.
        student: fingerprint of the model's folder that it must be of.

    Raises:
        RunError: there is none, or it is of another run or other weights.
        DataError: it cannot be read.
    """
    path = folder / CALIBRATION
    if not path.is_file():
        raise RunError(f"there is no {path}", hint="run `understudy calibrate` on the run first")
    calibration = Calibration.from_json(read_json(path))
    for name, expected in (("run", run), ("student", student)):
        if expected is not None and getattr(calibration, name) != expected:
            raise RunError(f"{path} was measured on another {name}", hint=_AGAIN)
    return calibration


def fitted(values: Sequence[float], right: Sequence[bool], kind: MapKind) -> ProbabilityMap:
    """Fit a map.

    Args:
        values: the measure of each answer.
        right: whether it was right.
        kind: of map.

    Raises:
        DataError: fewer than two answers.
    """
    x, y = np.asarray(values, dtype=np.float64), np.asarray(right, dtype=np.float64)
    if len(x) < 2:
        raise DataError(f"{len(x)} answers are too few to calibrate on", hint="use a larger development split")
    return _platt(x, y) if kind == "platt" else _isotonic(x, y)


def _isotonic(x: np.ndarray, y: np.ndarray) -> ProbabilityMap:
    from scipy.optimize import isotonic_regression

    knots, place = np.unique(x, return_inverse=True)
    counts = np.bincount(place)
    steps = isotonic_regression(np.bincount(place, weights=y) / counts, weights=counts).x
    # Of a flat piece only the ends are needed.
    flat = (steps[1:-1] == steps[:-2]) & (steps[1:-1] == steps[2:])
    keep = np.concatenate([[True], ~flat, [True]])[: len(knots)]
    return ProbabilityMap("isotonic", tuple(knots[keep].tolist()), tuple(steps[keep].tolist()), n=len(x))


def _platt(x: np.ndarray, y: np.ndarray) -> ProbabilityMap:
    from scipy.optimize import minimize
    from scipy.special import expit

    positives, negatives = y.sum(), len(y) - y.sum()
    targets = np.where(y > 0.5, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    centre, spread = float(x.mean()), float(x.std()) or 1.0
    z = (x - centre) / spread

    def loss(parameters: np.ndarray) -> tuple[float, np.ndarray]:
        logits = parameters[0] * z + parameters[1]
        error = expit(logits) - targets
        return float((np.logaddexp(0, logits) - targets * logits).sum()), np.array([(error * z).sum(), error.sum()])

    prior = (positives + 1) / (len(y) + 2)
    start = np.array([0.0, math.log(prior / (1 - prior))])
    # A slope below 0 would turn the order round: such a measure says nothing, and gets the share of right answers.
    solution = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(0, None), (None, None)]).x
    slope = float(solution[0]) / spread
    return ProbabilityMap("platt", (slope,), (float(solution[1]) - slope * centre,), n=len(x))
