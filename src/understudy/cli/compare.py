"""`understudy compare`: who is better, by how much, how sure that is, and what it would take to be sure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from understudy.cli import asked

Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where comparison.json, .csv and .tex go.")]


def compare(
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
    out: Out = Path("comparison"),
) -> None:
    """Set runs, arms or files of predictions side by side; one run alone compares its arms."""
    from understudy.cli import shown
    from understudy.files import atomic, write_json
    from understudy.report.tables import csv_table, latex_table

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
    write_json(out / "comparison.json", found)
    for name, text in (("comparison.csv", csv_table(found)), ("comparison.tex", latex_table(found))):
        with atomic(out / name) as handle:
            handle.write(text)
    shown.comparison(found)
    typer.echo(f"figures: {out / 'comparison.json'}, .csv, .tex; a page of them: understudy report {out}")
