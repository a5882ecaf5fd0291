"""`understudy compare`: who is better, by how much, how sure that is, and what it would take to be sure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from understudy.cli import comparison_options

Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where comparison.json, .csv and .tex go.")]


def compare(
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
    out: Out = Path("comparison"),
) -> None:
    """Set runs, arms or files of predictions side by side; one run alone compares its arms."""
    from understudy.cli import comparison_tables
    from understudy.files import atomic, write_json
    from understudy.report.tables import csv_table, latex_table

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
    write_json(out / "comparison.json", found)
    for name, text in (("comparison.csv", csv_table(found)), ("comparison.tex", latex_table(found))):
        with atomic(out / name) as handle:
            handle.write(text)
    comparison_tables.comparison(found)
    typer.echo(f"figures: {out / 'comparison.json'}, .csv, .tex; a page of them: understudy report {out}")
