"""`understudy report`: a comparison as one HTML file to show around."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.cli import asked

Out = Annotated[Path, typer.Option("--out", metavar="FILE.html", help="Where the page goes.")]
Title = Annotated[str, typer.Option("--title", help="Heading of the page.")]


def report(
    sources: asked.Sources,
    arm: asked.Arm = None,
    baseline: asked.Baseline = None,
    references: asked.References = None,
    metrics: asked.Metrics = "all",
    judge_url: asked.JudgeUrl = None,
    judge_model: asked.JudgeModel = None,
    judge: asked.JudgeField = None,
    embedding_model: asked.EmbeddingModel = None,
    bertscore_model: asked.BertscoreModel = None,
    resamples: asked.Resamples = None,
    confidence: asked.Confidence = None,
    title: Title = "",
    out: Out = Path("report.html"),
) -> None:
    """Write the page of a comparison: of runs and files as in `compare`, or of a folder that `compare` wrote."""
    from understudy.report.side_by_side import render_comparison

    found = saved(sources)
    if found is None:
        config = asked.settings_of(
            sources,
            judge_url=judge_url,
            judge_model=judge_model,
            judge=judge,
            embedding_model=embedding_model,
            bertscore_model=bertscore_model,
            resamples=resamples,
            confidence=confidence,
        )
        found = asked.compared(
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
    return found if isinstance(found, dict) and {"comparison", "table", "systems"} <= found.keys() else None
