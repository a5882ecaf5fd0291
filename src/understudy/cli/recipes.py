"""`understudy recipes`: the recipes that come with the package."""

from __future__ import annotations

import typer

from understudy.recipe.shipped import shipped


def recipes() -> None:
    """List the shipped recipes."""
    for name, path in shipped().items():
        first = path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
        typer.echo(f"{name:<24} {first}")
