"""`understudy evaluate`: every score of a run or of a file of predictions, and what was not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.cli import comparison_options

Source = Annotated[
    str, typer.Argument(metavar="RUN|RUN:ARM|FILE", help="A run folder, one arm of it, or a file of predictions.")
]
Tasks = Annotated[
    str | None,
    typer.Option("--lm-eval", metavar="TASK,...", help="Run these lm-eval tasks on a student folder instead."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, help="Items a task, with --lm-eval.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE|FOLDER", help="Where scores.json goes. Default: beside the source."),
]


def evaluate(
    source: Source,
    references: comparison_options.References = None,
    metrics: comparison_options.Metrics = None,
    judge_url: comparison_options.JudgeUrl = None,
    judge_model: comparison_options.JudgeModel = None,
    judge: comparison_options.JudgeField = None,
    embedding_model: comparison_options.EmbeddingModel = None,
    bertscore_model: comparison_options.BertscoreModel = None,
    resamples: comparison_options.Resamples = None,
    confidence: comparison_options.Confidence = None,
    lm_eval: Tasks = None,
    limit: Limit = None,
    out: Out = None,
) -> None:
    """Score every arm of a run, or a file of predictions of any tool: values, intervals, signatures."""
    from understudy.cli import comparison_tables
    from understudy.evaluation.evaluate import evaluation
    from understudy.evaluation.metric_models import tools_for
    from understudy.evaluation.systems import read_systems
    from understudy.files import write_json
    from understudy.metrics.significance import Resampling

    if lm_eval is not None:
        _harness(source, lm_eval, limit, out)
        return
    config = comparison_options.settings_of(
        [source],
        judge_url=judge_url,
        judge_model=judge_model,
        judge=judge,
        embedding_model=embedding_model,
        bertscore_model=bertscore_model,
        resamples=resamples,
        confidence=confidence,
    )
    names = comparison_options.metrics_of([source], config, metrics)
    systems = read_systems([source], references=references or ())
    resampling = Resampling(config.resamples, config.confidence)
    found = evaluation(systems, names, tools_for(config), resampling=resampling)
    path = _target(source, out)
    write_json(path, found)
    comparison_tables.scores(found)
    typer.echo(f"scores: {path}")


def _target(source: str, out: Path | None, name: str = "scores.json") -> Path:
    """Where the scores go: the file or folder asked for, else beside what they were made from."""
    if out is not None:
        return out if out.suffix == ".json" else out / name
    from understudy.evaluation.systems import run_of

    run, arm = run_of(source)
    if run is not None:
        return run.folder / "evaluation" / (f"{arm}.{name}" if arm else name)
    path = Path(source)
    return path / name if path.is_dir() else path.with_name(f"{path.stem}.{name}")


def _harness(source: str, tasks: str, limit: int | None, out: Path | None) -> None:
    from understudy.cli import comparison_tables
    from understudy.evaluation.harness import run_tasks
    from understudy.files import write_json

    found: dict[str, Any] = run_tasks(Path(source), [task.strip() for task in tasks.split(",")], limit=limit)
    path = _target(source, out, "lm_eval.json")
    write_json(path, found)
    comparison_tables.tasks(found)
    typer.echo(f"scores: {path}")
