"""`understudy cache`: what the teacher says of the training rows, written to disk once."""

from __future__ import annotations

from typing import Annotated

import typer


def cache(
    recipe: Annotated[str, typer.Argument(help="A recipe with teacher.cache: a file, or the name of a shipped one.")],
    overrides: Annotated[list[str] | None, typer.Argument(help="key=value, for example teacher.cache.k=16")] = None,
) -> None:
    """Write what the teacher says of the training rows to disk. Run it again to go on, mend or add rows.

    Only what this needs is done before: data, answers, and the teacher's own training. `understudy run` goes on from
    there.
    """
    from understudy.api import perform
    from understudy.errors import ConfigError
    from understudy.pipeline.stages.cache import reopen_if_damaged
    from understudy.recipe import is_grid, load_recipe, load_yaml
    from understudy.recipe.shipped import find_recipe
    from understudy.records import CacheNotes
    from understudy.run import Run

    path = find_recipe(recipe)
    if is_grid(load_yaml(path)):
        raise ConfigError(
            f"{recipe} has axes: it is a grid, not one run", hint="`understudy run` writes caches as it goes"
        )
    loaded = load_recipe(path, overrides or [])
    if loaded.teacher is None or loaded.teacher.cache is None:
        raise ConfigError(f"{recipe} has no teacher.cache", hint="add teacher.cache={}, or a field: teacher.cache.k=16")
    if not loaded.signal_arms:
        raise ConfigError(
            "no arm of evaluate.arms reads what the teacher says", hint="add one that does: evaluate.arms=[distilled]"
        )
    reopen_if_damaged(Run.of(loaded), loaded)
    perform(loaded, until="cache")
    notes = Run.of(loaded).notes("cache", CacheNotes)
    if notes.repaired:
        typer.echo(f"found damaged and written anew: {notes.repaired}")
    typer.echo(
        f"{notes.rows:,} rows, {notes.target_tokens:,} target tokens, {notes.bytes_per_token:g} bytes each; "
        f"{notes.written:,} rows were new; pays after {notes.pays_after_epochs:g} epochs"
    )
    typer.echo(f"cache: {notes.folder}")
