"""`understudy plan`: what will this recipe cost, and does it fit?"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy import bounds

if TYPE_CHECKING:
    from understudy.planning.plan import Plan
    from understudy.recipe import Recipe


def plan(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change.")] = None,
    gpu: Annotated[
        str, typer.Option(metavar="NAME", help="A GPU that need not be here, such as h200: planned on paper.")
    ] = "",
    num: Annotated[int, typer.Option(min=1, max=bounds.WORKERS, help="How many of them train side by side.")] = 1,
    watts: Annotated[
        float | None, typer.Option(min=0.0, max=1e9, help="Power of the whole machine, for the energy.")
    ] = None,
    no_probe: Annotated[bool, typer.Option("--no-probe", help="Run nothing, load no weights: shapes alone.")] = False,
    save: Annotated[Path | None, typer.Option("--json", metavar="FILE.json", help="Keep all figures as JSON.")] = None,
) -> None:
    """Memory by part, time, tokens, disk and energy of every stage, before anything is run.

    A short probe measures this machine. Ends with 1 where the recipe does not fit into the memory.
    """
    from understudy.files import write_json
    from understudy.planning.plan import plan_recipe

    chosen = _recipe(recipe, overrides or [])
    made = plan_recipe(
        chosen, lambda text: typer.echo(text, err=True), gpu=gpu, num=num, watts=watts, measure=not no_probe
    )
    if save is not None:
        write_json(save, json.loads(json.dumps(made.to_json())))
    print_plan(made)
    if made.fits is False:
        raise typer.Exit(1)


def _recipe(name: str, overrides: list[str]) -> Recipe:
    """The recipe, or of a grid its first cell, which is said."""
    from understudy.recipe import is_grid, load_grid, load_recipe, load_yaml
    from understudy.recipe.shipped import find_recipe

    path = find_recipe(name)
    if not is_grid(load_yaml(path)):
        return load_recipe(path, overrides)
    cells = load_grid(path, overrides).cells
    levels = ", ".join(f"{axis} {level}" for axis, level in cells[0].levels.items())
    typer.echo(f"a grid of {len(cells)} cells; this is the first: {levels}")
    return cells[0].recipe


def print_plan(made: Plan) -> None:
    """Print the table and the lines under it, as wide as they are."""
    from understudy.planning.render import lines_of, table_of

    rows = table_of(made)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.ljust(width) if place in (0, len(widths) - 1) else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        typer.echo("  ".join(cells).rstrip())
    typer.echo()
    for line in lines_of(made):
        typer.echo(line)
