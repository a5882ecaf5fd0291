"""`understudy tune`: the settings of a recipe, searched on its development split."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from understudy import bounds

if TYPE_CHECKING:
    from understudy.recipe import Recipe

UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def tune(
    recipe: Annotated[str, typer.Argument(help="A recipe file, or the name of a shipped one (`understudy recipes`).")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Fields to change.")] = None,
    budget: Annotated[str, typer.Option(metavar="TIME", help="Time of the search: 90s, 30m, 2h, 1d.")] = "2h",
    over: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=VALUES", help="A field to search: a,b,c or 0.1..0.9 or 1e-4..1e-2:log. Repeat it."),
    ] = None,
    trials: Annotated[int | None, typer.Option(min=1, max=bounds.ROWS, help="Stop after so many trials.")] = None,
    seeds: Annotated[
        str,
        typer.Option(metavar="N,...", help="Seeds of the last comparison on the test split. Default: the recipe's."),
    ] = "",
    final: Annotated[
        bool, typer.Option("--final/--no-final", help="Compare the best settings with the recipe on the test split.")
    ] = True,
    arm: Annotated[str, typer.Option(help="Whose student is tuned.")] = "distilled",
    seed: Annotated[int, typer.Option(min=0, max=bounds.SEED, help="Of the draws of settings.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Where the search goes.")] = None,
) -> None:
    """Search the settings of a recipe on its development split, and look at the test split once, at the end.

    Method, divergence, temperature, weights and learning rate by default. The same command goes on where it stopped.
    """
    from understudy.api import recipe_of
    from understudy.errors import ConfigError
    from understudy.tuning.space import read_axis, space_of

    try:
        from understudy.tuning.search import Search
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"the search needs the package {error.name}", hint="pip install 'understudy-distil[tune]'"
        ) from error
    from understudy.files import read_json
    from understudy.report.tune_page import counts, render_tune
    from understudy.tuning.final import finish
    from understudy.tuning.outcome import outcome
    from understudy.tuning.search import FINAL

    seconds, at = _seconds(budget), _seeds(seeds)
    loaded = recipe_of(recipe, overrides or ())
    if arm not in loaded.evaluate.arms:
        raise ConfigError(f"--arm {arm}: the recipe trains {', '.join(loaded.evaluate.arms)}")
    space = space_of(loaded, [read_axis(text) for text in over or ()])
    search = Search(loaded, space, out or _folder(loaded), arm, seed, lambda line: typer.echo(line, err=True))
    typer.echo(f"search: {search.path}")
    if not (search.path / FINAL).is_file() or (trials is not None and trials > len(search.ended)):
        search.run(seconds, trials)
        render_tune(outcome(search), search.path / "tune.html")
    if final and not (search.path / FINAL).is_file():
        finish(search, seeds=at)
    inputs = outcome(search)
    render_tune(inputs, search.path / "tune.html")
    best = search.best
    typer.echo(f"trials: {counts(inputs)}")
    typer.echo(f"best: trial {best.number}, development score {100 * (best.value or 0):.1f}")
    for name, value in search.settings_of(best).items():
        typer.echo(f"  {name}={value}")
    if (search.path / FINAL).is_file():
        from understudy.report.headline import headline

        outcome_line = headline(read_json(search.path / FINAL)["comparison"])
        typer.echo(f"test split: {outcome_line.verdict}")
    typer.echo(f"recipe: {search.path / 'best.yaml'}")
    typer.echo(f"page: {search.path / 'tune.html'}")


def _folder(recipe: Recipe) -> Path:
    return Path(recipe.output).expanduser() / f"{recipe.name}-search"


def _seconds(text: str) -> float:
    from understudy.errors import ConfigError

    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if match is None or not float(match[1]):
        raise ConfigError(f"--budget {text} is no time", hint="write 90s, 30m, 2h or 1d")
    return float(match[1]) * UNITS[match[2]]


def _seeds(text: str) -> tuple[int, ...]:
    from understudy.errors import ConfigError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if any(not part.isdigit() or int(part) > bounds.SEED for part in parts):
        raise ConfigError(f"--seeds {text}: seeds are whole numbers, separated by commas")
    return tuple(dict.fromkeys(map(int, parts)))
