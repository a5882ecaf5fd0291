"""`understudy run`: everything a recipe asks for that is not there yet."""

from __future__ import annotations

from typing import Annotated

import typer


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one (`understudy recipes`).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="With axes: show cells and shared stages; run nothing.")] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="Ask the teacher again about examples set aside without an answer.")
    ] = False,
) -> None:
    """Run a recipe: teacher, distillation, evaluation, report. Run it again to go on where it stopped.

    A recipe with `axes` is a grid: every cell of it is run, and stages that cells share only once.
    """
    from understudy.api import distil
    from understudy.cli import grid
    from understudy.errors import ConfigError
    from understudy.recipe import is_grid, load_grid, load_yaml
    from understudy.recipe.shipped import find_recipe

    path = find_recipe(recipe)
    if is_grid(load_yaml(path)):
        loaded = load_grid(path, overrides or ())
        grid.show_plan(loaded) if plan else grid.run(loaded, retry=retry)
        return
    if plan:
        raise ConfigError("--plan is for a recipe with axes", hint=f"leave it off: understudy run {recipe}")
    distil(path, overrides or (), retry=retry)
