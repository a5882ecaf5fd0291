"""What `evaluate`, `compare` and `report` share: their options, and the way from sources to scored systems."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from understudy.evaluation.compare import Comparison
    from understudy.recipe import EvaluateConfig

Sources = Annotated[
    list[str], typer.Argument(metavar="RUN|RUN:ARM|FILE...", help="Run folders, or files of predictions.")
]
Arm = Annotated[str | None, typer.Option("--arm", help="Which arm to take of each run. Default: distilled.")]
References = Annotated[
    list[Path] | None,
    typer.Option("--references", metavar="FILE", help="Right answers, where the predictions hold none. Repeatable."),
]
Metrics = Annotated[
    str | None,
    typer.Option(
        "--metrics", help="all, text (those without a model), or names with commas. Default: the run's; of files all."
    ),
]
JudgeUrl = Annotated[str | None, typer.Option("--judge-url", help="OpenAI-compatible endpoint of the judge.")]
JudgeModel = Annotated[
    str | None, typer.Option("--judge-model", help="The judge's name there; without a URL, a hub id or folder.")
]
JudgeField = Annotated[
    list[str] | None,
    typer.Option("--judge", metavar="KEY=VALUE", help="Any other field of the judge: repeats=3, max_calls=5000 …"),
]
EmbeddingModel = Annotated[
    str | None, typer.Option("--embedding-model", help="Model of answer_similarity: folder or hub id.")
]
BertscoreModel = Annotated[
    str | None, typer.Option("--bertscore-model", help="Encoder of bertscore_f1: folder or hub id.")
]
Resamples = Annotated[int | None, typer.Option("--resamples", min=100, help="Draws of bootstrap and randomisation.")]
Confidence = Annotated[float | None, typer.Option("--confidence", min=0.5, max=0.999, help="Level of the intervals.")]
Baseline = Annotated[
    str | None, typer.Option("--baseline", metavar="SYSTEM", help="Test every system against this one only.")
]


def settings_of(
    sources: list[str],
    *,
    judge_url: str | None = None,
    judge_model: str | None = None,
    judge: list[str] | None = None,
    embedding_model: str | None = None,
    bertscore_model: str | None = None,
    resamples: int | None = None,
    confidence: float | None = None,
) -> EvaluateConfig:
    """The `evaluate` section of the first run among the sources (else the defaults), with the options on top.

    Raises:
        ConfigError: a judge's URL without a model.
    """
    # Before numpy is loaded: the matrices here are small, and on a busy machine threads that wait for each other cost
    # many times what they share out.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from pydantic import ValidationError

    from understudy.errors import ConfigError
    from understudy.evaluation.systems import run_of
    from understudy.recipe import EvaluateConfig, JudgeConfig

    runs = [run for run, _ in map(run_of, sources) if run is not None]
    config = runs[0].recipe.evaluate if runs else EvaluateConfig()
    asked: dict[str, Any] = {
        "embedding_model": embedding_model,
        "bertscore_model": bertscore_model,
        "resamples": resamples,
        "confidence": confidence,
    }
    changed = {name: value for name, value in asked.items() if value is not None}
    fields = {"base_url": judge_url, "model": judge_model, **_fields(judge or [])}
    fields = {name: value for name, value in fields.items() if value is not None}
    if fields:
        fields = {**(config.judge.model_dump() if config.judge else {}), **fields}
        if "model" not in fields:
            raise ConfigError("the judge has no model", hint="name it with --judge-model")
        changed["judge"] = fields
    try:
        return EvaluateConfig.model_validate({**config.model_dump(), **changed})
    except ValidationError as error:
        fault = error.errors()[0]
        known = ", ".join(JudgeConfig.model_fields)
        raise ConfigError(
            f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}", hint=f"fields of a judge: {known}"
        ) from error


def _fields(judge: list[str]) -> dict[str, Any]:
    """The judge's fields that were given as KEY=VALUE, values in YAML.

    Raises:
        ConfigError: one that is no KEY=VALUE.
    """
    import yaml

    from understudy.errors import ConfigError

    found: dict[str, Any] = {}
    for given in judge:
        key, sign, value = given.partition("=")
        if not sign or not key:
            raise ConfigError(f"cannot read --judge {given!r}", hint="write it as KEY=VALUE, for example repeats=3")
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of --judge {given!r} is not valid YAML") from error
    return found


def metrics_of(sources: list[str], config: EvaluateConfig, metrics: str | None) -> tuple[str, ...]:
    """The metrics that were named; else those of the run's own report, so that both say the same; of files all."""
    from understudy.evaluation.metric_models import metric_names
    from understudy.evaluation.systems import run_of

    of_runs = any(run_of(source)[0] is not None for source in sources)
    return metric_names(metrics or (config.metrics if of_runs else "all"))


def compared(
    sources: list[str],
    config: EvaluateConfig,
    *,
    metrics: str | None = None,
    arm: str | None = None,
    references: list[Path] | None = None,
    baseline: str | None = None,
) -> Comparison:
    """Read, score and test what a command names."""
    from understudy.evaluation.compare import compare
    from understudy.evaluation.metric_models import tools_for
    from understudy.evaluation.scoring import score_systems
    from understudy.evaluation.systems import read_systems
    from understudy.metrics.significance import Resampling

    names = metrics_of(sources, config, metrics)
    systems = read_systems(sources, arm=arm, references=references or ())
    scored = score_systems(systems, names, tools_for(config))
    return compare(scored, baseline=baseline, resampling=Resampling(config.resamples, config.confidence))
