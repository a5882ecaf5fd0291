"""`understudy report`: a comparison as one HTML file to show around."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.cli import comparison_options

Out = Annotated[Path, typer.Option("--out", metavar="FILE.html", help="Where the page goes.")]
Title = Annotated[str, typer.Option("--title", help="Heading of the page.")]


def report(
    sources: comparison_options.Sources,
    arm: comparison_options.Arm = None,
    baseline: comparison_options.Baseline = None,
    references: comparison_options.References = None,
    metrics: comparison_options.Metrics = None,
    judge_url: comparison_options.JudgeUrl = None,
    judge_model: comparison_options.JudgeModel = None,
    judge: comparison_options.JudgeField = None,
    embedding_model: comparison_options.EmbeddingModel = None,
    bertscore_model: comparison_options.BertscoreModel = None,
    resamples: comparison_options.Resamples = None,
    confidence: comparison_options.Confidence = None,
    title: Title = "",
    out: Out = Path("report.html"),
) -> None:
    """Write the page of a comparison: of runs and files as in `compare`, or of a folder that `compare` wrote."""
    from understudy.report.comparison_page import render_comparison

    found = saved(sources)
    if found is None:
        config = comparison_options.settings_of(
            sources,
            judge_url=judge_url,
            judge_model=judge_model,
            judge=judge,
            embedding_model=embedding_model,
            bertscore_model=bertscore_model,
            resamples=resamples,
            confidence=confidence,
        )
        found = comparison_options.compared(
            sources, config, metrics=metrics, arm=arm, references=references, baseline=baseline
        ).to_dict()
    render_comparison(found, out, title=title)
    typer.echo(f"report: {out}")


def saved(sources: list[str]) -> dict[str, Any] | None:
    """The comparison that `compare` wrote, where the one source is its folder or its file."""
    if len(sources) != 1:
        return None
    path = Path(sources[0])
    path = path / "comparison.json" if path.is_dir() and not (path / "recipe.yaml").is_file() else path
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
    return found if isinstance(found, dict) and {"comparison", "overall", "systems"} <= found.keys() else None
