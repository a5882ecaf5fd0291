"""`understudy inspect`: is my loss silently wrong? Answered before hours are spent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def inspect(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change.")] = None,
    save: Annotated[Path | None, typer.Option("--save", metavar="FILE.html", help="Keep the output as HTML.")] = None,
) -> None:
    """Show what is prompt, what is learned, what is masked; templates, head probe, gradients, memory and time."""
    from understudy.inspection import inspect_recipe
    from understudy.recipe import load_recipe
    from understudy.recipe.shipped import find_recipe

    inspect_recipe(load_recipe(find_recipe(recipe), overrides or ()), save=save)
