"""`understudy run`: everything a recipe asks for that is not there yet."""

from __future__ import annotations

from typing import Annotated

import typer


def run(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one (`understudy recipes`).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change.")] = None,
) -> None:
    """Run a recipe: teacher, distillation, evaluation, report. Run it again to go on where it stopped."""
    import os

    from understudy.cli.display import Console
    from understudy.cli.recipes import find
    from understudy.experiments.scheduler import execute
    from understudy.recipe import load_recipe
    from understudy.run import Run

    loaded = load_recipe(find(recipe), overrides or ())
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
