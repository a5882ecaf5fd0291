"""The search: settings by a tree-structured Parzen estimator, hopeless trials stopped early by successive halving.

```text
FOLDER/
  search.jsonl     every trial as Optuna keeps it: settings, development scores step by step, how it ended
  space.json       what is searched; another space needs another folder
  stages/ cells/   as in a grid: what trials agree in is made once
  best.yaml        the recipe with the best settings
  final.json       the one look at the test split: best settings beside the recipe's own
  tune.html        all that as a page
```

A killed search goes on where it stopped: the trial that was at work is begun again with the same settings, and its
training resumes from its last checkpoint.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.pruners import SuccessiveHalvingPruner
from optuna.samplers import TPESampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from understudy.errors import ConfigError, UnderstudyError
from understudy.files import atomic, read_json, write_json
from understudy.grid.folder import GridFolder
from understudy.pipeline.stage import Stage
from understudy.recipe import Recipe, dump_recipe, parse_recipe
from understudy.report.tune_page import value_text
from understudy.tuning.space import METHOD, Axis, Range, applied, taken
from understudy.tuning.trial import TrialRun

RUNGS = 9
"""How often a trial answers the development rows: successive halving stops at the 1st, 3rd and 9th."""
REDUCTION = 3
SEARCH, SPACE, BEST, FINAL = "search.jsonl", "space.json", "best.yaml", "final.json"
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "stopped early", TrialState.FAIL: "refused"}
REFUSED = "refused"
"""Why a trial could not be run, in a line: kept with it."""
METRIC = "metric"
"""Of the development scores: kept with the search."""


@dataclass
class Search:
    """A search of a recipe's settings.

    Attributes:
        recipe: what is tuned; how long a trial trains is its `distil.steps`.
        space: what is searched.
        path: the folder.
        arm: whose student.
        seed: of the draws.
        say: is called with a line for each trial that begins or ends.
    """

    recipe: Recipe
    space: Sequence[Axis]
    path: Path
    arm: str = "distilled"
    seed: int = 0
    say: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        self.folder = GridFolder(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        self._bind_space()
        quiet()
        storage = JournalStorage(JournalFileBackend(str(self.path / SEARCH)))
        self.study = optuna.create_study(
            study_name="search",
            storage=storage,
            direction="maximize",
            sampler=self._sampler(),
            pruner=SuccessiveHalvingPruner(min_resource=1, reduction_factor=REDUCTION),
            load_if_exists=True,
        )

    def _sampler(self) -> TPESampler:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return TPESampler(seed=self.seed, multivariate=True, group=True, n_startup_trials=8)

    def _bind_space(self) -> None:
        """A folder keeps to one space and one recipe: scores of different ones do not compare."""
        bound = {
            "recipe": self.recipe.fingerprint(),
            "arm": self.arm,
            "space": [{"kind": type(axis).__name__, **asdict(axis)} for axis in self.space],
        }
        path = self.path / SPACE
        if path.is_file() and read_json(path) != _plain(bound):
            raise ConfigError(
                f"{self.path} holds a search of another recipe or over other values",
                hint="give this one another --out, or remove that folder",
            )
        write_json(path, bound)

    # -- trials --------------------------------------------------------------------------------------------------

    def run(self, seconds: float, trials: int | None = None) -> None:
        """Try settings until the time is over or so many trials have ended.

        Args:
            seconds: of this call; a trial at work when they are over is left at its last checkpoint.
            trials: all in all, those of earlier calls counted.
        """
        if (self.path / FINAL).is_file():
            raise ConfigError(
                f"the test split was looked at already for this search ({self.path / FINAL})",
                hint="further trials would be chosen after it; give a new search another --out",
            )
        deadline = time.monotonic() + seconds
        self._take_up_again()
        with self.folder.lock():
            while time.monotonic() < deadline and (trials is None or len(self.ended) < trials):
                if not self._one(deadline):
                    break
        self.write_best()

    def _take_up_again(self) -> None:
        """A trial that a killed process left at work is begun again, with the same settings and its own checkpoints."""
        for trial in self.study.get_trials(states=(TrialState.RUNNING,)):
            self.study.enqueue_trial(trial.params, user_attrs={"again": trial.number})
            self.study.tell(trial.number, state=TrialState.FAIL)

    def _one(self, deadline: float) -> bool:
        """One trial; False where it had to be left for lack of time."""
        trial = self.study.ask()
        settings = self.draw(trial)
        self.say(f"trial {trial.number}: " + " ".join(f"{name}={value_text(v)}" for name, v in settings.items()))
        run: TrialRun | None = None
        try:
            run = TrialRun.of(self.folder, self.recipe_of(settings), self.arm)
            run.train(self._watch(trial, run, deadline))
            self._report(trial, run)
            value = run.score()
        except _OutOfTime:
            return False
        except optuna.TrialPruned:
            assert run is not None
            run.drop_checkpoints()
            self._end(trial, TrialState.PRUNED)
        except UnderstudyError as error:
            trial.set_user_attr(REFUSED, str(error))
            self._end(trial, TrialState.FAIL)
        else:
            self._end(trial, TrialState.COMPLETE, value)
        return True

    def _end(self, trial: Trial, state: TrialState, value: float | None = None) -> None:
        self.study.tell(trial, value, state=state)
        reason = self.study.trials[trial.number].user_attrs.get(REFUSED)
        score = "" if value is None else f", development score {100 * value:.1f}"
        self.say(f"trial {trial.number} {STATES[state]}{score}{f': {reason}' if reason else ''}")

    def _watch(self, trial: Trial, run: TrialRun, deadline: float) -> Callable[[Stage, int, int, str], None]:
        def watch(stage: Stage, done: int, total: int, note: str) -> None:
            if stage.name == run.stage and self._report(trial, run) and trial.should_prune():
                raise optuna.TrialPruned
            if time.monotonic() >= deadline:
                raise _OutOfTime

        return watch

    def _report(self, trial: Trial, run: TrialRun) -> bool:
        """Write down the development scores that are new; whether there were any."""
        scores = run.scores()
        if scores and METRIC not in self.study.user_attrs:
            self.study.set_user_attr(METRIC, scores[0][0])
        known = len(self.study.trials[trial.number].intermediate_values)
        for place, (_, score) in enumerate(scores[known:], start=known + 1):
            trial.report(score, place)
        return len(scores) > known

    def draw(self, trial: Trial) -> dict[str, Any]:
        """The settings of a trial, field by field; an option only where its method has it."""
        settings: dict[str, Any] = {}
        method = self.recipe.distil.method
        for axis in sorted(self.space, key=lambda axis: axis.path != METHOD):
            if axis.methods and method not in axis.methods:
                continue
            settings[axis.path] = _suggest(trial, axis, method)
            method = settings.get(METHOD, method)
        return settings

    def recipe_of(self, settings: Mapping[str, Any]) -> Recipe:
        """The recipe of a trial: it answers the development rows often enough to be stopped early.

        Raises:
            ConfigError: the settings do not go together.
        """
        value = applied(self.recipe.model_dump(mode="json"), settings)
        if value["distil"].get("eval_every") is None and value["distil"].get("steps"):
            value["distil"]["eval_every"] = max(1, value["distil"]["steps"] // RUNGS)
        return parse_recipe({**value, "name": "trial"}, origin="trial")

    # -- what came out -------------------------------------------------------------------------------------------

    @property
    def ended(self) -> list[FrozenTrial]:
        """The trials that count: complete, stopped early, or refused; one that was taken up again counts once."""
        return [trial for trial in self.study.trials if trial.state.is_finished() and is_kept(trial)]

    @property
    def best(self) -> FrozenTrial:
        """The trial with the best development score.

        Raises:
            ConfigError: none is complete.
        """
        complete = self.study.get_trials(states=(TrialState.COMPLETE,))
        if not complete:
            reasons = [trial.user_attrs[REFUSED] for trial in self.ended if REFUSED in trial.user_attrs]
            raise ConfigError(
                f"no trial of {self.path} is complete{f': {reasons[0]}' if reasons else ''}",
                hint="give it more --budget" if not reasons else "narrow the space with --over",
            )
        return max(complete, key=lambda trial: (trial.value, -trial.number))

    def settings_of(self, trial: FrozenTrial) -> dict[str, Any]:
        """The settings of a trial by field."""
        return {name.partition(" of ")[0]: value for name, value in trial.params.items()}

    def write_best(self) -> Recipe:
        """Write the recipe with the best settings, and give it."""
        recipe = self.recipe_of(self.settings_of(self.best))
        recipe = recipe.model_copy(update={"name": f"{self.recipe.name}-tuned", "output": self.recipe.output})
        with atomic(self.path / BEST) as handle:
            handle.write(dump_recipe(recipe))
        return recipe


def is_kept(trial: FrozenTrial) -> bool:
    """Whether a trial counts: one that was left at work and taken up again counts once."""
    return trial.state != TrialState.FAIL or REFUSED in trial.user_attrs


class _OutOfTime(Exception):
    """The budget is over; the trial goes on next time."""


def _suggest(trial: Trial, axis: Axis, method: str) -> Any:
    if isinstance(axis, Range):
        if axis.whole:
            return trial.suggest_int(axis.path, int(axis.low), int(axis.high), log=axis.log)
        return trial.suggest_float(axis.path, axis.low, axis.high, log=axis.log)
    values = taken(axis, method)
    # A parameter keeps its values for good, so one that a method narrows has a name of its own.
    name = axis.path if len(values) == len(axis.values) else f"{axis.path} of {method}"
    return trial.suggest_categorical(name, values)


def quiet() -> None:
    """What Optuna would print of every trial stands on the page."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)


def _plain(value: Any) -> Any:
    """The value as it comes back from JSON."""
    return json.loads(json.dumps(value))
