"""`understudy harvest`: from live requests to rows that the next student learns from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup


class _RunByDefault(TyperGroup):
    """`understudy harvest MONITOR_DB` is `understudy harvest run MONITOR_DB`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command there where none is named."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    help="Make training rows of what a served student could not do: `understudy harvest MONITOR_DB --out DIR`.",
)
Share = Annotated[float, typer.Option(min=0, max=1)]


@app.command("run")
def run(
    database: Annotated[str, typer.Argument(metavar="MONITOR_DB", help="As `serve --monitor` writes it.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Where candidates and the review page go.")],
    disagreement: Annotated[
        float, typer.Option(min=0, max=1, help="Agreement with the teacher below which the student was wrong.")
    ] = 0.5,
    unsure: Annotated[float, typer.Option(min=0, max=1, help="Confidence below which it was unsure.")] = 0.5,
    key_share: Annotated[float, typer.Option(min=0.001, max=1, help="Of the rows from one key, at most.")] = 0.1,
    near: Annotated[
        float, typer.Option(min=0.05, max=1, help="Jaccard index of word 3-grams from which two questions are one.")
    ] = 0.7,
    most: Annotated[int, typer.Option(min=1, max=10_000_000, help="Rows, at most.")] = 10_000,
    terms: Annotated[
        str, typer.Option(help="What the teacher's terms of use say of training on its answers; kept with every row.")
    ] = "",
) -> None:
    """Collect disagreements, unsure answers and thumbs-down; nothing is learned before somebody has accepted it."""
    from understudy.monitor.harvest import HarvestRules, harvest, write_harvest
    from understudy.monitor.store import MonitorStore

    rules = HarvestRules(disagreement, unsure, near, key_share, most, terms)
    harvested = harvest(MonitorStore(database, new=False), rules)
    source = database if "://" not in database else "a PostgreSQL database"
    write_harvest(harvested, out, rules, source)
    dropped = ", ".join(f"{number} {reason}" for reason, number in harvested.dropped.items())
    typer.echo(f"{len(harvested.rows)} candidates, {len(harvested.test)} held-out rows; left out: {dropped or 'none'}")
    for note in harvested.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"look at {out / 'review.html'} and save the decisions, then:")
    typer.echo(f"understudy harvest accept {out} decisions.json")


@app.command("accept")
def accept(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Of a harvest.")],
    decisions: Annotated[Path | None, typer.Argument(metavar="DECISIONS", help="What the review page saved.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Accept every candidate, unseen.")] = False,
) -> None:
    """Write what was accepted as train.jsonl (`data.source`) and unlabelled.jsonl (`data.unlabelled_source`)."""
    from understudy.errors import ConfigError, DataError
    from understudy.files import read_json
    from understudy.monitor.harvest import accept as write_accepted

    if (decisions is None) == (not everything):
        raise ConfigError("name the file of decisions, or --all", hint="the review page saves decisions.json")
    value = None if decisions is None else read_json(decisions)
    if value is not None and not (isinstance(value, dict) and set(value.values()) <= {"accept", "reject"}):
        raise DataError(f"{decisions} holds no decisions", hint="take what the review page saved")
    labelled, unlabelled = write_accepted(folder, value)
    typer.echo(f"{labelled} rows in {folder / 'train.jsonl'}, {unlabelled} without an answer in unlabelled.jsonl")
    if labelled:
        # An empty file of questions would be refused.
        more = f" data.unlabelled_source={folder / 'unlabelled.jsonl'}" if unlabelled else ""
        sources = f"'data.sources={{usual: FILE, live: {folder / 'train.jsonl'}}}'"
        typer.echo(f"learn from it beside what was learned before: understudy run RECIPE {sources}{more}")
