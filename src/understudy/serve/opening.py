"""From a run and what an operator wants to a gateway that is ready."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from understudy.confidence import Calibration, read_calibration
from understudy.confidence.calibration import CALIBRATION
from understudy.errors import ConfigError, RunError
from understudy.files import fingerprint_folder
from understudy.pipeline.stages.evaluation import arm_model
from understudy.run import Run
from understudy.serve.cascade import Cascade, Mode
from understudy.serve.exchange import Observer
from understudy.serve.gateway import CASCADE, Bounds, Gateway
from understudy.serve.keys import KeyFile, KeyLimits
from understudy.serve.limits import Admission, KeyMeter
from understudy.serve.sides import STUDENT, TEACHER_SIDE, Opening, Side, open_side

CALIBRATION_FOLDER = "calibration"
AUTO = "auto"


@dataclass(frozen=True)
class Plan:
    """What is to be served.

    Attributes:
        models: names of the models; the student is always among them.
        cascade: a threshold from 0 to 1, or `auto`: that of the run's calibration; None: no cascade.
        mode: when a cascade decides.
        patience: seconds that its teacher is given for the first piece.
        opening: device, batch, servers.
        most_waiting: answers under way or waiting, at most.
        bounds: of one request.
        keys: the file of keys; None: nobody needs one.
        limits: of whoever needs no key.
        feedback: where thumbs go; None: nowhere.
    """

    models: Sequence[str] = (STUDENT,)
    cascade: float | str | None = None
    mode: Mode = "hold"
    patience: float = 60.0
    opening: Opening = field(default_factory=Opening)
    most_waiting: int = 128
    bounds: Bounds = field(default_factory=Bounds)
    keys: Path | None = None
    limits: KeyLimits = field(default_factory=KeyLimits)
    feedback: Path | None = None


def open_gateway(run: Run, plan: Plan, observers: Sequence[Observer] = ()) -> Gateway:
    """Load the models and put the gateway before them.

    Args:
        run: the run folder.
        plan: what is to be served.
        observers: who is told of finished requests.

    Raises:
        ConfigError: there is no such model, or no threshold.
        RunError: a model was not trained yet, or there is no calibration.
        ModelError: a model cannot be loaded.
    """
    calibration = calibration_of(run)
    rule = cascade_of(plan, calibration)
    wanted: list[str] = [STUDENT, *([TEACHER_SIDE] if rule else []), *plan.models]
    names = list(dict.fromkeys(wanted))
    if CASCADE in names:
        raise ConfigError("cascade is no model to load", hint="turn it on with --cascade THRESHOLD")
    sides: dict[str, Side] = {name: open_side(run, name, plan.opening) for name in names}
    if rule and sides[TEACHER_SIDE].pointer is None and not sides[TEACHER_SIDE].writes:
        raise ConfigError("the teacher of a cascade has to answer")
    return Gateway(
        run,
        sides,
        Admission(plan.most_waiting, plan.opening.batch),
        KeyMeter(plan.limits),
        keys=KeyFile(plan.keys) if plan.keys else None,
        cascade=rule,
        calibration=calibration,
        bounds=plan.bounds,
        feedback=plan.feedback,
        observers=observers,
    )


def calibration_of(run: Run) -> Calibration | None:
    """The calibration of a run's student; None where there is none yet.

    Raises:
        RunError: it is of another run, or of other weights than the run has now.
        DataError: it cannot be read.
    """
    folder, recipe = run.folder / CALIBRATION_FOLDER, run.recipe
    if not (folder / CALIBRATION).is_file():
        return None
    calibration = read_calibration(folder, run=recipe.fingerprint())
    _, weights = arm_model(run, recipe, calibration.arm)
    if weights is None or not Path(weights).is_dir():
        return calibration
    return read_calibration(folder, student=fingerprint_folder(weights))


def cascade_of(plan: Plan, calibration: Calibration | None) -> Cascade | None:
    """The rule of a plan.

    Raises:
        ConfigError: the threshold is no probability.
        RunError: the threshold is that of a calibration, and there is none.
    """
    if plan.cascade is None:
        return None
    if plan.cascade == AUTO:
        if calibration is None:
            raise RunError("this run has no calibration", hint="`understudy calibrate RUN`, or --cascade THRESHOLD")
        early = calibration.threshold if calibration.early_threshold is None else calibration.early_threshold
        return Cascade(calibration.threshold, early, plan.mode, calibration, plan.patience)
    threshold = -1.0
    with contextlib.suppress(ValueError):
        threshold = float(plan.cascade)
    if not 0 <= threshold <= 1:
        raise ConfigError(f"--cascade {plan.cascade}: a threshold lies between 0 and 1", hint="or `--cascade auto`")
    return Cascade(threshold, threshold, plan.mode, calibration, plan.patience)
