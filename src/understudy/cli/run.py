"""`understudy run`: everything a recipe asks for that is not there yet."""

from __future__ import annotations

from typing import Annotated

import typer


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one (`understudy recipes`).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change.")] = None,
    plan: Annotated[bool, typer.Option("--plan", help="With axes: show cells and shared stages; run nothing.")] = False,
) -> None:
    """Run a recipe: teacher, distillation, evaluation, report. Run it again to go on where it stopped.

    A recipe with `axes` is a grid: every cell of it is run, and stages that cells share only once.
    """
    import os

    from understudy.cli import grid
    from understudy.cli.progress import Console
    from understudy.cli.recipes import find
    from understudy.errors import ConfigError
    from understudy.pipeline.scheduler import execute
    from understudy.recipe import is_grid, load_grid, load_recipe, load_yaml
    from understudy.run import Run

    path = find(recipe)
    if is_grid(load_yaml(path)):
        loaded = load_grid(path, overrides or ())
        grid.show_plan(loaded) if plan else grid.run(loaded)
        return
    if plan:
        raise ConfigError("--plan is for a recipe with axes", hint=f"leave it off: understudy run {recipe}")
    loaded = load_recipe(path, overrides or ())
    target = Run.of(loaded)
    if int(os.environ.get("RANK", "0")) > 0:
        execute(target, loaded, Console(quiet=True))
        return
    with target.lock():
        target.prepare(loaded)
        with Console() as console:
            console.say(f"run folder: {target.folder}")
            execute(target, loaded, console)
        console.close_with(target)
