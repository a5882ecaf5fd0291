"""The command line: one file a command. Nothing here imports torch before a command needs it."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from understudy import __version__
from understudy.cli import (
    ask,
    cache,
    calibrate,
    compare,
    docs,
    doctor,
    evaluate,
    export,
    generate,
    grid,
    harvest,
    init,
    init_student,
    inspect,
    monitor,
    pilot,
    plan,
    recipes,
    report,
    run,
    serve,
    sessions,
    study,
    tune,
)
from understudy.distribution import namesake_note
from understudy.errors import UnderstudyError, shortened

app = typer.Typer(
    name="understudy",
    help="Train a small model to stand in for a large one, and prove how well it does.",
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("run")(run.run)
app.command("init")(init.init)
app.command("recipes")(recipes.recipes)
app.command("docs")(docs.docs)
app.command("inspect")(inspect.inspect)
app.command("doctor")(doctor.doctor)
app.command("generate")(generate.generate)
app.command("cache")(cache.cache)
app.command("init-student")(init_student.init_student)
app.command("tune")(tune.tune)
app.command("plan")(plan.plan)
app.command("pilot")(pilot.pilot)
app.command("evaluate")(evaluate.evaluate)
app.command("calibrate")(calibrate.calibrate)
app.command("export")(export.export)
app.command("compare")(compare.compare)
app.command("report")(report.report)
app.command("ask")(ask.ask)
app.add_typer(serve.app, name="serve")
app.add_typer(grid.app, name="grid")
app.add_typer(monitor.app, name="monitor")
app.add_typer(harvest.app, name="harvest")
app.add_typer(study.app, name="study")
app.add_typer(sessions.app, name="sessions")


def _version(requested: bool) -> None:
    if requested:
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
    """The command line: one clear line for what a user can mend, a traceback for a bug.

    Raises:
        KeyboardInterrupt: it was stopped; `understudy.__main__` says how to go on.
    """
    if note := namesake_note():
        print(note, file=sys.stderr)
    try:
        # Standalone, typer would handle Ctrl-C itself, and print a mistyped option in its own style.
        code = app(args=sys.argv[1:] or ["--help"], prog_name="understudy", standalone_mode=False)
    except UnderstudyError as error:
        print_error(error.message, error.hint)
        sys.exit(1)
    except _UsageError as error:
        print_error(
            error.format_message(), "`understudy --help` lists the commands, `understudy COMMAND --help` its options"
        )
        sys.exit(2)
    except typer.Abort as error:
        raise KeyboardInterrupt from error
    if code == 130:
        raise KeyboardInterrupt
    sys.exit(code if isinstance(code, int) else 0)


# Typer brings a copy of click or depends on it, by version; its own errors tell which.
_UsageError: Any = typer.BadParameter.__bases__[0]


_LONGEST = 4000
"""Characters of an error or a hint; what is longer has a text in it that somebody else wrote."""


def print_error(message: str, hint: str = "") -> None:
    """One `error:` line and one hint line on standard error, whatever characters the texts are made of."""
    print(f"error: {shortened(one_line(message), _LONGEST)}", file=sys.stderr)
    if hint:
        print(f"  hint: {shortened(one_line(hint), _LONGEST)}", file=sys.stderr)


def one_line(text: str) -> str:
    """Line breaks become spaces; other control characters, which could steer the terminal, are written out."""
    text = " ".join(part.strip() for part in text.splitlines() if part.strip())
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
