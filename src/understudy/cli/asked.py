"""What `evaluate`, `compare` and `report` share: their options, and the way from sources to scored systems."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from understudy.evaluation.comparison import SideBySide
    from understudy.recipe import EvaluateConfig

Sources = Annotated[
    list[str], typer.Argument(metavar="RUN|RUN:ARM|FILE...", help="Run folders, or files of predictions.")
]
Arm = Annotated[str | None, typer.Option("--arm", help="Which arm to take of each run. Default: distilled.")]
References = Annotated[
    list[Path] | None,
    typer.Option("--references", metavar="FILE", help="Right answers, where the predictions hold none. Repeatable."),
]
Metrics = Annotated[str, typer.Option("--metrics", help="all, text (those without a model), or names with commas.")]
JudgeUrl = Annotated[str | None, typer.Option("--judge-url", help="OpenAI-compatible endpoint of the judge.")]
JudgeModel = Annotated[
    str | None, typer.Option("--judge-model", help="The judge's name there; without a URL, a hub id or folder.")
]
JudgeRepeats = Annotated[int | None, typer.Option("--judge-repeats", min=1, help="How often each item is judged.")]
JudgeKey = Annotated[str | None, typer.Option("--judge-key-env", help="Environment variable with the judge's key.")]
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
    judge_repeats: int | None = None,
    judge_key_env: str | None = None,
    embedding_model: str | None = None,
    bertscore_model: str | None = None,
    resamples: int | None = None,
    confidence: float | None = None,
) -> EvaluateConfig:
    """The `evaluate` section of the first run among the sources (else the defaults), with the options on top.

    Raises:
        ConfigError: a judge's URL without a model.
    """
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
    judge = {"base_url": judge_url, "model": judge_model, "repeats": judge_repeats, "api_key_env": judge_key_env}
    judge = {name: value for name, value in judge.items() if value is not None}
    if judge:
        judge = {**(config.judge.model_dump() if config.judge else {}), **judge}
        if "model" not in judge:
            raise ConfigError("the judge has no model", hint="name it with --judge-model")
        changed["judge"] = JudgeConfig(**judge)
    try:
        return EvaluateConfig.model_validate({**config.model_dump(), **changed})
    except ValidationError as error:
        fault = error.errors()[0]
        raise ConfigError(f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}") from error


def compared(
    sources: list[str],
    config: EvaluateConfig,
    *,
    metrics: str,
    arm: str | None = None,
    references: list[Path] | None = None,
    baseline: str | None = None,
) -> SideBySide:
    """Read, score and test what a command names."""
    from understudy.evaluation.comparison import side_by_side
    from understudy.evaluation.scoring import score_systems
    from understudy.evaluation.systems import read_systems
    from understudy.evaluation.tools import metric_names, tools_for

    names = metric_names(metrics)
    systems = read_systems(sources, arm=arm, references=references or ())
    scored = score_systems(systems, names, tools_for(config))
    return side_by_side(scored, baseline=baseline, resamples=config.resamples, confidence=config.confidence)
