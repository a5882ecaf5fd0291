"""What a search found, as plain values for its page and for the terminal."""

from __future__ import annotations

import warnings
from collections.abc import Iterable

import optuna
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from understudy.files import read_json
from understudy.report.tune_page import TrialLine, TuneInputs
from understudy.tuning.search import FINAL, METRIC, REFUSED, RUNGS, STATES, Search, is_kept

LEAST = 5
"""Trials below which no importance is worked out."""


def outcome(search: Search) -> TuneInputs:
    """All that the page says."""
    final = read_json(search.path / FINAL) if (search.path / FINAL).is_file() else None
    complete = search.study.get_trials(states=(TrialState.COMPLETE,))
    distil = search.recipe.distil
    return TuneInputs(
        title=search.recipe.name,
        space=[(axis.path, axis.words(), ", ".join(axis.methods)) for axis in search.space],
        trials=[_line(search, trial) for trial in search.study.trials if is_kept(trial)],
        best=search.best.number if complete else None,
        importance=importance(search, complete),
        final=final and final["comparison"],
        seeds=final["seeds"] if final else (),
        metric=search.study.user_attrs.get(METRIC, "rougeL"),
        evaluations=RUNGS if distil.eval_every is None and distil.steps else 0,
    )


def _line(search: Search, trial: FrozenTrial) -> TrialLine:
    scores = tuple(trial.intermediate_values.values())
    score = trial.value if trial.state == TrialState.COMPLETE else (scores[-1] if scores else None)
    state = STATES.get(trial.state, "unfinished")
    return TrialLine(trial.number, state, score, search.settings_of(trial), scores, trial.user_attrs.get(REFUSED, ""))


def importance(search: Search, trials: Iterable[FrozenTrial]) -> dict[str, tuple[float, int]]:
    """Field → its share among the settings that the same trials have, and how many trials these are.

    A setting of some methods alone is weighed among their trials.
    """
    trials = list(trials)
    shares: dict[str, tuple[float, int]] = {}
    for name in dict.fromkeys(name for trial in trials for name in trial.params):
        having = [trial for trial in trials if name in trial.params]
        values = {trial.params[name] for trial in having}
        if len(having) >= LEAST and len(values) > 1 and len({trial.value for trial in having}) > 1:
            shares[name] = _share(name, having), len(having)
    return shares


def _share(name: str, trials: list[FrozenTrial]) -> float:
    study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator()).get(name, 0.0)
