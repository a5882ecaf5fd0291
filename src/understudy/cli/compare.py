"""`understudy compare`: who is better, by how much, how sure that is, and what it would take to be sure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from understudy.cli.comparison_options import CompareOptions, Sources, Why, with_options

Out = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where comparison.json, .csv and .tex go.")]


@with_options(CompareOptions)
def compare(
    sources: Sources,
    options: CompareOptions,
    out: Out = Path("comparison"),
    why: Why = False,
) -> None:
    """Set runs, arms or files of predictions side by side; one run alone compares its arms."""
    from understudy.cli import comparison_tables
    from understudy.files import atomic, write_json
    from understudy.report.tables import csv_table, latex_table

    comparison = options.compare(sources).to_dict()
    write_json(out / "comparison.json", comparison)
    for name, text in (("comparison.csv", csv_table(comparison)), ("comparison.tex", latex_table(comparison))):
        with atomic(out / name) as handle:
            handle.write(text)
    comparison_tables.comparison(comparison, why=why)
    typer.echo(f"figures: {out / 'comparison.json'}, .csv, .tex; a page of them: understudy report {out}")
