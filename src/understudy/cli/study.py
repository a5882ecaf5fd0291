"""`understudy study`: from runs to raters' answers."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from understudy import bounds
from understudy.cli import study_analysis

if TYPE_CHECKING:
    from understudy.study.sources import MethodTexts
    from understudy.study.store import Store

app = typer.Typer(help="Have people rate explanations blindly: create, serve, export, analyse.", no_args_is_help=True)

StudyFolder = Annotated[Path, typer.Argument(metavar="STUDY", help="The folder of a study.")]
DatabaseUrl = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        envvar="UNDERSTUDY_STUDY_DATABASE",
        show_envvar=False,
        help="postgresql://USER@HOST/NAME or sqlite:///FILE, or set UNDERSTUDY_STUDY_DATABASE. Default: STUDY/study.db",
    ),
]
PublicUrl = Annotated[str, typer.Option("--public-url", help="The address under which raters reach the study.")]
Who = Annotated[str, typer.Argument(metavar="RATER", help="A rater's number (r0007), link or panel id.")]
Address = "http://127.0.0.1:8000"


@app.command("create")
def create(
    sources: Annotated[
        list[str],
        typer.Argument(metavar="RUN...", help="Run folders, NAME=RUN, or files of texts (`understudy docs study`)."),
    ],
    out: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="Where the study goes.")],
    items: Annotated[int, typer.Option(min=1, max=bounds.ROWS, help="Items.")] = 40,
    raters: Annotated[int, typer.Option(min=1, max=bounds.PROCESSES, help="Raters.")] = 30,
    per_rater: Annotated[int, typer.Option(min=1, max=1000, help="Explanations (or pairs) a rater.")] = 12,
    by: Annotated[
        Literal["random", "disagreement"], typer.Option(help="How items are drawn; disagreement: by who is right.")
    ] = "random",
    length_ratio: Annotated[
        float | None, typer.Option(min=1, help="Longest over shortest text of an item, at most.")
    ] = None,
    pairwise: Annotated[bool, typer.Option("--pairwise", help="Ask which of two explanations is better.")] = False,
    simulation: Annotated[
        bool, typer.Option("--simulation", help="Before the ratings, have the model's answer foreseen.")
    ] = False,
    unfinished: Annotated[bool, typer.Option("--unfinished", help="Take texts that were cut too.")] = False,
    languages: Annotated[str, typer.Option(help="Languages of the pages, the first one as default.")] = "en,zh",
    open_recruitment: Annotated[bool, typer.Option("--open", help="Give a place to whoever comes to /join.")] = False,
    panel: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Parameter of /join that tells raters apart (PROLIFIC_PID); opens it."),
    ] = None,
    completion_code: Annotated[str | None, typer.Option(help="Default: each rater gets a code of their own.")] = None,
    seed: Annotated[int, typer.Option(min=0, max=bounds.SEED, help="Of items, places and checks.")] = 0,
) -> None:
    """Make a study of the explanations of several runs: items, places, texts, and what to register beforehand."""
    from understudy.study.folder import create_study
    from understudy.study.sources import read_methods

    methods = read_methods(sources, finished_only=not unfinished)
    settings: dict[str, Any] = {
        "items": items,
        "raters": raters,
        "per_rater": min(per_rater, items),
        "selection": by,
        "length_ratio": length_ratio,
        "pairwise": pairwise,
        "simulation": simulation,
        "seed": seed,
        "languages": tuple(languages.replace(" ", "").split(",")),
        "completion_code": completion_code,
        "open_recruitment": open_recruitment or panel is not None,
        "panel": {"id": panel} if panel else None,
    }
    _say_what_was_left_out(methods)
    study = create_study(out, methods, settings)
    strata: dict[str, int] = {}
    for item in study.items.values():
        strata[item.stratum] = strata.get(item.stratum, 0) + 1
    counts = ", ".join(f"{name} {number}" for name, number in sorted(strata.items()))
    typer.echo(f"{len(study.config.methods)} methods: {', '.join(study.config.methods)}")
    typer.echo(f"{len(study.items)} items ({counts}); {len(study.slots)} raters of {study.config.per_rater} each")
    typer.echo(f"study: {out}. Read study.yaml and preregistration.md, then: understudy study serve {out}")


def _say_what_was_left_out(methods: list[MethodTexts]) -> None:
    for method in methods:
        for reason, number in method.left_out.items():
            typer.echo(f"{method.name}: {number:,} items left out: {reason}")


@app.command("serve")
def serve(
    study: StudyFolder,
    host: Annotated[str, typer.Option(help="Address to listen on; by default none but this machine reaches it.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 8000,
    database: DatabaseUrl = None,
    public_url: PublicUrl = "",
    proxy: Annotated[str, typer.Option(help="Address of a proxy whose X-Forwarded-For is believed.")] = "",
) -> None:
    """Serve a study until Ctrl-C. Stop and start it as you like: what was answered is on the disk."""
    from understudy.study.web.server import admin_token
    from understudy.study.web.server import serve as serve_study
    from understudy.web.listening import listen

    with _store(study, database) as store:
        token = admin_token(study)
        listener = listen(host, port)
        address = public_url.rstrip("/") or f"http://{host}:{listener.getsockname()[1]}"
        typer.echo(f"admin: {address}/admin")
        typer.echo(f"token: {token.token} (kept in {token.source})" if token.new else f"token: see {token.source}")
        if store.study.config.open_recruitment:
            typer.echo(f"open address: {address}/join")
        typer.echo(f"links: understudy study links {study} --public-url {address}")
        serve_study(store, token.token, listener, public_url=address if public_url else "", proxy=proxy)


@app.command("links")
def links(
    study: StudyFolder,
    number: Annotated[int, typer.Option("--number", "-n", min=1, help="How many; default: one a free place.")] = (
        bounds.PROCESSES
    ),
    rater: Annotated[str | None, typer.Option(help="A further link for a rater who is there already.")] = None,
    public_url: PublicUrl = Address,
    database: DatabaseUrl = None,
) -> None:
    """Print links for raters, one a line: number, place, link. They are shown now and kept nowhere."""
    from understudy.errors import RunError
    from understudy.study.administration import Administration, named

    with _store(study, database) as store:
        if rater is not None:
            link = store.new_link(Administration(store).rater_of(rater))
            given = [link] if link else []
        else:
            given = store.invite(number)
        if not given:
            raise RunError("every place is taken", hint="exclude or wait for those who left, or plan more raters")
        for link in given:
            typer.echo(f"{named(link.rater)}\t{link.slot}\t{public_url.rstrip('/')}/r/{link.token}")


@app.command("export")
def export(
    study: StudyFolder,
    to: Annotated[Literal["csv", "parquet", "labelstudio"], typer.Option("--to", help="Format.")] = "csv",
    out: Annotated[Path | None, typer.Option("--out", metavar="FOLDER", help="Default: STUDY/export")] = None,
    database: DatabaseUrl = None,
) -> None:
    """Write down what was answered: ratings, raters, pairs, simulation, comments."""
    from understudy.study.export import export as export_study

    with _store(study, database) as store:
        for path in export_study(store, out or study / "export", to):
            typer.echo(str(path))


@app.command("pause")
def pause(
    study: StudyFolder,
    resume: Annotated[bool, typer.Option("--resume", help="Open the pages again.")] = False,
    database: DatabaseUrl = None,
) -> None:
    """Close the pages for the time being; what is on its way is stored all the same."""
    from understudy.study.administration import Administration

    with _store(study, database) as store:
        Administration(store).pause(not resume)
    typer.echo("resumed" if resume else "paused")


@app.command("exclude")
def exclude(
    study: StudyFolder,
    rater: Who,
    reason: Annotated[str, typer.Option(help="Why; it stands in the export.")] = "",
    undo: Annotated[bool, typer.Option("--undo", help="Take an exclusion back.")] = False,
    database: DatabaseUrl = None,
) -> None:
    """Leave a rater out of the analysis, with the reason; the place is given to somebody else."""
    from understudy.study.administration import Administration, named

    with _store(study, database) as store:
        administration = Administration(store)
        who = administration.rater_of(rater)
        administration.include(who) if undo else administration.exclude(who, reason)
    typer.echo(f"{named(who)} {'included' if undo else 'excluded'}")


@app.command("forget")
def forget(
    study: StudyFolder,
    rater: Who,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    database: DatabaseUrl = None,
) -> None:
    """Delete all that is stored of one person. Exports that were written before still have it."""
    from understudy.study.administration import Administration, named

    with _store(study, database) as store:
        administration = Administration(store)
        who = administration.rater_of(rater)
        if not yes:
            typer.confirm(f"Delete all that is stored of {named(who)}?", abort=True)
        rows = administration.forget(who)
    typer.echo(f"{named(who)}: {rows} rows deleted; exports that were written before still have them")


def _store(study: Path, database: str | None) -> AbstractContextManager[Store]:
    """The raters of a study, with its database open."""
    from understudy.study.opening import open_store

    return open_store(study, database)


app.command("plan")(study_analysis.plan)
app.command("simulate")(study_analysis.simulate)
app.command("judge")(study_analysis.judge)
app.command("analyse")(study_analysis.analyse)
