"""`understudy evaluate`: every score of a run or of a file of predictions, and what was not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from understudy import bounds
from understudy.cli.comparison_options import ScoreOptions, Why, with_options

Source = Annotated[
    str, typer.Argument(metavar="RUN|RUN:ARM|FILE", help="A run folder, one arm of it, or a file of predictions.")
]
Tasks = Annotated[
    str | None,
    typer.Option("--lm-eval", metavar="TASK,...", help="Run these lm-eval tasks on a student folder instead."),
]
Limit = Annotated[int | None, typer.Option("--limit", min=1, max=bounds.ROWS, help="Items a task, with --lm-eval.")]
Out = Annotated[
    Path | None,
    typer.Option("--out", metavar="FILE|FOLDER", help="Where scores.json goes. Default: beside the source."),
]


@with_options(ScoreOptions)
def evaluate(
    source: Source,
    options: ScoreOptions,
    lm_eval: Tasks = None,
    limit: Limit = None,
    out: Out = None,
    why: Why = False,
) -> None:
    """Score every arm of a run, or a file of predictions of any tool: values, intervals, signatures."""
    from understudy.cli import comparison_tables
    from understudy.files import write_json

    if lm_eval is not None:
        _harness(source, lm_eval, limit, out)
        return
    config = options.config([source])
    from understudy import api

    scores = api.evaluate(source, metrics=options.metrics, files=options.files(), config=config)
    path = _target(source, out)
    write_json(path, scores.to_dict())
    comparison_tables.scores(scores, why=why)
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

    figures = run_tasks(Path(source), [task.strip() for task in tasks.split(",")], limit=limit)
    path = _target(source, out, "lm_eval.json")
    write_json(path, figures.to_json())
    comparison_tables.tasks(figures)
    typer.echo(f"scores: {path}")
