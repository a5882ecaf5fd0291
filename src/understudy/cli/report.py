"""`understudy report`: a comparison as one HTML file to show around."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from understudy.cli.comparison_options import CompareOptions, Sources, with_options
from understudy.strict_json import JsonFault, parse_json

Out = Annotated[Path, typer.Option("--out", metavar="FILE.html", help="Where the page goes.")]
Title = Annotated[str, typer.Option("--title", help="Heading of the page.")]


@with_options(CompareOptions)
def report(
    sources: Sources,
    options: CompareOptions,
    title: Title = "",
    out: Out = Path("report.html"),
) -> None:
    """Write the page of a comparison: of runs and files, or of what `compare` or `grid report` wrote."""
    from understudy.report.comparison_page import render_comparison

    document = saved(sources)
    if document is not None and "cells" in document:
        from understudy.report.grid_page import render_grid
        from understudy.report.grid_reading import grid_analysis

        render_grid(grid_analysis(document), out)
    else:
        render_comparison(document or options.compare(sources).to_dict(), out, title=title)
    typer.echo(f"report: {out}")


def saved(sources: list[str]) -> dict[str, Any] | None:
    """What `compare` wrote, where the one source is its folder or file, or the `report.json` of a grid."""
    if len(sources) != 1:
        return None
    path = Path(sources[0])
    path = path / "comparison.json" if path.is_dir() and not (path / "recipe.yaml").is_file() else path
    if path.suffix != ".json" or not path.is_file():
        return None
    try:
        document = parse_json(path.read_bytes())
    except JsonFault:
        return None
    kinds = ({"comparison", "overall", "systems"}, {"cells", "anova", "axes", "settings"})
    return document if isinstance(document, dict) and any(kind <= document.keys() for kind in kinds) else None
