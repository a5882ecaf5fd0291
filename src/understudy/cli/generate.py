"""`understudy generate`: what a teacher writes about a recipe's examples, and nothing after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from understudy.records import StepCounts


def generate(
    recipe: Annotated[
        str | None, typer.Argument(help="A recipe file with a `generate` section, or the name of a shipped one.")
    ] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change.")] = None,
    prompts_to: Annotated[
        Path | None, typer.Option("--prompts-to", metavar="FOLDER", help="Copy our prompts there to edit; ask nothing.")
    ] = None,
    retry: Annotated[
        bool, typer.Option("--retry", help="Ask again about the examples that were set aside without an answer.")
    ] = False,
) -> None:
    """Have the teacher write explanations, critiques, counterfactuals … Run it again to go on where it stopped.

    Only what the texts need is done before: data, and the teacher where it is the recipe's own. `understudy run` goes
    on from the texts.
    """
    from understudy.errors import ConfigError

    if prompts_to is not None:
        from understudy.knowledge.prompting import write_prompts

        for path in write_prompts(prompts_to):
            typer.echo(f"wrote {path}")
        typer.echo(f"edit what you like, remove the rest, then set generate.prompts: {prompts_to}")
        return
    if recipe is None:
        raise ConfigError(
            "which recipe?", hint="understudy generate RECIPE; `understudy recipes` lists the shipped ones"
        )
    _generate(recipe, overrides or [], retry=retry)


def _generate(recipe: str, overrides: list[str], *, retry: bool) -> None:
    from understudy.api import perform
    from understudy.errors import ConfigError
    from understudy.knowledge.pipeline import check
    from understudy.pipeline.set_aside import set_aside_note
    from understudy.recipe import is_grid, load_recipe, load_yaml
    from understudy.recipe.shipped import find_recipe
    from understudy.run import Run

    path = find_recipe(recipe)
    if is_grid(load_yaml(path)):
        raise ConfigError(f"{recipe} has axes: it is a grid, not one run", hint="`understudy run` generates as it goes")
    loaded = load_recipe(path, overrides)
    if loaded.generate is None:
        raise ConfigError(
            f"{recipe} has no section `generate`",
            hint="add `generate: {}`, or one of its fields: generate.steps=[explain]",
        )
    check(loaded.generate)
    try:
        perform(loaded, until="generate", retry=retry)
    finally:
        # After a stop too: what was written stays, and is worth a look.
        _print_folder(Run.of(loaded).stage("generate"))
    if note := set_aside_note(Run.of(loaded)):
        typer.echo(note)


def _print_folder(folder: Path) -> None:
    from understudy.knowledge.step_counts import count_steps
    from understudy.knowledge.store import steps_in

    figures = count_steps(folder, steps_in(folder))
    if figures:
        print_counts(figures)
        typer.echo(f"texts: {folder}")


def print_counts(steps: Mapping[str, StepCounts]) -> None:
    """A line a step: what was asked, kept, rejected and why, and what it cost."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from understudy.cli import one_line

    priced = any(figures.cost is not None for figures in steps.values())
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ["step", "asked", "kept", "rejected", "no text", "tokens", *["cost"] * priced, "seconds"]:
        left_aligned = name in ("step", "rejected", "no text")
        table.add_column(name, justify="left" if left_aligned else "right", overflow="fold", no_wrap=name == "step")
    for name, figures in steps.items():
        cells = [
            name,
            f"{figures.asked:,}",
            f"{figures.kept:,}",
            _reasons(figures.rejected),
            _reasons(figures.missing),
            f"{figures.input_tokens + figures.output_tokens:,}",
            *[f"{figures.cost or 0:,.4f}"] * priced,
            f"{figures.seconds:,.0f}",
        ]
        table.add_row(*(Text("\n".join(map(one_line, cell.splitlines()))) for cell in cells))
    Console(highlight=False, markup=False, emoji=False).print(table)


def _reasons(counts: Mapping[str, int]) -> str:
    return "\n".join(f"{number:,} {reason}" for reason, number in sorted(counts.items(), key=lambda item: -item[1]))
