"""The command line: one file a command. Nothing here imports torch before a command needs it."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from understudy import __version__
from understudy.cli import init, inspect, recipes, run
from understudy.errors import UnderstudyError

app = typer.Typer(
    name="understudy",
    help="Train a small model to stand in for a large one, and prove how well it does.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("init")(init.init)
app.command("recipes")(recipes.recipes)
app.command("inspect")(inspect.inspect)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"understudy {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it and stop.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Entry point: one clear line for what a user can mend, a traceback for a bug, 130 for Ctrl-C."""
    try:
        app()
    except UnderstudyError as error:
        print(f"error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"  hint: {error.hint}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again and it goes on from here", file=sys.stderr)
        sys.exit(130)
