"""What the commands do, from Python: a recipe becomes a run, runs are scored and set side by side.

```python
run = understudy.distil("telecom_qa", {"distil.steps": 100})
run.scores["overall"]["table"]["distilled"], run.student, run.predictions("distilled")
```

Locks, resuming and progress are those of the command line, which calls these functions.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from understudy.recipe import EvaluateConfig, Recipe, fields, load_yaml, parse_recipe
from understudy.recipe.shipped import find_recipe
from understudy.run import Run

if TYPE_CHECKING:
    from understudy.evaluation.compare import Comparison
    from understudy.evaluation.evaluate import Evaluation
    from understudy.evaluation.prediction_files import FileOptions

Source = Recipe | Mapping[str, Any] | str | os.PathLike[str]
"""A recipe, its mapping, its file, or the name of a shipped one."""
Overrides = Sequence[str] | Mapping[str, Any]
"""Fields to change: `["distil.steps=100"]` as on the command line, or `{"distil.steps": 100}`."""
Answers = Run | str | os.PathLike[str]
"""A run or its folder, `RUN:ARM`, or a file of predictions."""


def distil(recipe: Source, overrides: Overrides = (), *, quiet: bool = False, retry: bool = False) -> Run:
    """Run a recipe: teacher, distillation, evaluation, report. Called again it goes on where it stopped.

    Args:
        recipe: what to run.
        overrides: fields to change.
        quiet: show no progress and no result.
        retry: ask a teacher that writes texts again about the examples that were set aside.

    Returns:
        The finished run; `run.scores`, `run.report`, `run.student` and `run.predictions(arm)` are what came out.

    Raises:
        UnderstudyError: for a reason that a user can mend; what was done before stays.
    """
    return perform(recipe_of(recipe, overrides), quiet=quiet, retry=retry)


def recipe_of(source: Source, overrides: Overrides = ()) -> Recipe:
    """The validated recipe, with fields changed.

    Raises:
        ConfigError: there is no such recipe, or something in it or in the overrides is wrong.
    """
    if isinstance(source, Recipe):
        value, origin = source.model_dump(mode="json"), source.name
    elif isinstance(source, Mapping):
        value, origin = dict(source), "recipe"
    else:
        path = find_recipe(os.fspath(source))
        value, origin = load_yaml(path), str(path)
    if isinstance(overrides, Mapping):
        for path, new in overrides.items():
            value = fields.set_at(value, path.split("."), new)
        overrides = ()
    return parse_recipe(value, overrides, origin=origin)


def perform(recipe: Recipe, *, until: str | None = None, quiet: bool = False, retry: bool = False) -> Run:
    """Do what is missing of a run, its folder locked meanwhile.

    Args:
        recipe: of the run.
        until: a stage; only this one and what it needs. Default: all.
        quiet: show no progress and no result.
        retry: ask a teacher that writes texts again about the examples that were set aside.

    Raises:
        UnderstudyError: a stage failed for a reason that a user can mend, or another process works on the run.
    """
    from understudy.pipeline.progress import Console
    from understudy.pipeline.scheduler import execute
    from understudy.pipeline.set_aside import ask_again

    run = Run.of(recipe)
    if int(os.environ.get("RANK", "0")) > 0:
        # One of several processes of `torchrun`: the first one keeps the folder and shows progress.
        execute(run, recipe, Console(quiet=True), until=until)
        return run
    with run.lock():
        run.prepare(recipe)
        if retry:
            ask_again(run)
        with Console(quiet=quiet) as console:
            console.say(f"run folder: {run.folder}")
            execute(run, recipe, console, until=until)
        if until is None:
            console.print_outcome(run)
    return run


def evaluate(
    source: Answers,
    *,
    metrics: str | Sequence[str] | None = None,
    references: Sequence[str | Path] = (),
    files: FileOptions | None = None,
    config: EvaluateConfig | None = None,
) -> Evaluation:
    """Score every arm of a run, or a file of predictions of any tool: values, intervals, signatures.

    Args:
        source: what answered.
        metrics: `all`, `text` (those without a model), or names. Default: those of the run's own report; of files all.
        references: files with right answers, where the predictions hold none.
        files: how files are read: columns, format of `references`, marks of final answers.
        config: models, judge and resamples. Default: as the run's recipe has them.

    Raises:
        UnderstudyError: the source cannot be read, or a metric's model is not there.
    """
    from understudy.evaluation.evaluate import evaluation
    from understudy.evaluation.metric_models import metric_models_of
    from understudy.evaluation.systems import read_systems
    from understudy.metrics.significance import Resampling

    names = [_name(source)]
    config = config or config_of(names)
    chosen = _metrics(names, config, metrics)
    resampling = Resampling(config.resamples, config.confidence)
    return evaluation(
        read_systems(names, references=references, options=files),
        chosen,
        metric_models_of(config),
        resampling=resampling,
    )


def compare(
    *sources: Answers,
    metrics: str | Sequence[str] | None = None,
    arm: str | None = None,
    baseline: str | None = None,
    references: Sequence[str | Path] = (),
    files: FileOptions | None = None,
    config: EvaluateConfig | None = None,
) -> Comparison:
    """Set runs, arms or files of predictions side by side; one run alone compares its arms.

    Args:
        sources: who answered.
        metrics: `all`, `text` (those without a model), or names. Default: those of the run's own report; of files all.
        arm: which one to take of each run. Default: distilled.
        baseline: test every system against this one only.
        references: files with right answers, where the predictions hold none.
        files: how files are read: columns, format of `references`, marks of final answers.
        config: models, judge and resamples. Default: as the first run's recipe has them.

    Raises:
        UnderstudyError: a source cannot be read, a metric's model is not there, or there is nothing to compare.
    """
    from understudy.evaluation import compare as comparison
    from understudy.evaluation.metric_models import metric_models_of
    from understudy.evaluation.scoring import score_systems
    from understudy.evaluation.systems import read_systems
    from understudy.metrics.significance import Resampling

    names = [_name(source) for source in sources]
    config = config or config_of(names)
    chosen = _metrics(names, config, metrics)
    systems = read_systems(names, arm=arm, references=references, options=files)
    scored = score_systems(systems, chosen, metric_models_of(config))
    resampling = Resampling(config.resamples, config.confidence)
    return comparison.compare(scored, baseline=baseline, resampling=resampling)


def config_of(sources: Sequence[str]) -> EvaluateConfig:
    """The `evaluate` section of the first run among the sources, else the defaults."""
    from understudy.evaluation.systems import run_of

    return next((run.recipe.evaluate for run, _ in map(run_of, sources) if run is not None), EvaluateConfig())


def _metrics(sources: Sequence[str], config: EvaluateConfig, metrics: str | Sequence[str] | None) -> tuple[str, ...]:
    """The metrics that were named; else those of the run's own report, so that both say the same; of files all."""
    from understudy.evaluation.metric_models import metric_names
    from understudy.evaluation.systems import run_of

    of_runs = any(run_of(source)[0] is not None for source in sources)
    return metric_names(metrics or (config.metrics if of_runs else "all"))


def _name(source: Answers) -> str:
    return str(source.folder) if isinstance(source, Run) else os.fspath(source)
