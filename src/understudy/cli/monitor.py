"""`understudy monitor`: look at what a served student does, and change which student is served."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from understudy.monitor.pointer import Pointer

app = typer.Typer(help="Watch a served student; try, promote and roll back another.", no_args_is_help=True)
DatabaseArgument = Annotated[
    str,
    typer.Argument(metavar="MONITOR_DB", help="File, or postgresql://…, that `serve --monitor` writes."),
]
SettingsOption = Annotated[
    Path | None, typer.Option("--settings", metavar="FILE", help="monitor.yaml. Default: all defaults.")
]
PointerArgument = Annotated[Path, typer.Argument(metavar="POINTER", help="The file that says which student is served.")]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


@app.command("page")
def page(
    database: DatabaseArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs a token.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 8001,
    token_env: Annotated[
        str, typer.Option("--token-env", metavar="NAME", help="Environment variable with the token of readers.")
    ] = "UNDERSTUDY_MONITOR_TOKEN",
) -> None:
    """Show the dashboard of a monitor's database until Ctrl-C; `understudy docs monitoring` explains it."""
    import os

    from understudy.errors import ConfigError
    from understudy.monitor.serving import serve_page
    from understudy.monitor.store import MonitorStore
    from understudy.web.listening import LOOPBACK, listen

    token = os.environ.get(token_env, "")
    if host not in LOOPBACK and not token:
        raise ConfigError(f"--host {host} is reached from elsewhere", hint=f"set {token_env} to a token of readers")
    store = MonitorStore(database, new=False)
    listener = listen(host, port)
    typer.echo(f"the dashboard is at http://{host}:{listener.getsockname()[1]}/")
    serve_page(store, listener, token=token)


@app.command("status")
def status(database: DatabaseArgument) -> None:
    """Say in a few lines what is known: requests, agreement with the teacher, candidate, last alerts."""
    from understudy.monitor.dashboard import dashboard, moment
    from understudy.monitor.store import MonitorStore

    data = dashboard(MonitorStore(database, new=False), 24)
    for tile in data["tiles"]:
        typer.echo(f"{tile['name']}: {tile['value']}")
    for name, value in (("agreement", "estimate"), ("canary", "difference")):
        if (known := data["state"][name]) and known["n"]:
            verdict = f", better: {known['verdict']}" if "verdict" in known else ""
            bounds = f"[{known['lower']:.3f}, {known['upper']:.3f}]"
            since = f", since it changed at {moment(known['since'])} UTC" if known.get("since") else ""
            typer.echo(f"{name}: {known[value]:.3f} {bounds} over {known['n']} requests{since}{verdict}")
    for alert in data["alerts"][:5]:
        typer.echo(f"{alert['when']} {alert['rule']}: {alert['message']}")


@app.command("forget")
def forget(database: DatabaseArgument, settings: SettingsOption = None) -> None:
    """Delete what is older than the settings say; a watching server does so every hour."""
    from understudy.monitor.config import read_config
    from understudy.monitor.store import MonitorStore

    typer.echo(f"{MonitorStore(database, read_config(settings), new=False).forget_old()} requests deleted")


@app.command("begin")
def begin(pointer: PointerArgument, run: RunArgument) -> None:
    """Write a pointer to the first student; `understudy serve POINTER` follows it."""
    from understudy.monitor.pointer import PointerFile

    _say(PointerFile(pointer).begin(_folder(run)))


@app.command("try")
def attempt(
    pointer: PointerArgument,
    run: RunArgument,
    share: Annotated[
        float, typer.Option(min=0, max=0.99, help="Of the requests that it answers; 0: compared in the shadow alone.")
    ] = 0.0,
) -> None:
    """Try a candidate beside the student in use: both are compared with the teacher on sampled requests."""
    from understudy.monitor.pointer import PointerFile

    _say(PointerFile(pointer).attempt(_folder(run), share))


@app.command("promote")
def promote(pointer: PointerArgument) -> None:
    """Make the candidate the student in use, for all requests from the next one on."""
    from understudy.monitor.pointer import PointerFile

    _say(PointerFile(pointer).promote())


@app.command("rollback")
def rollback(pointer: PointerArgument) -> None:
    """Give the candidate up; without one, go back to the student before."""
    from understudy.monitor.pointer import PointerFile

    _say(PointerFile(pointer).roll_back())


def _folder(run: Path) -> str:
    from understudy.run import Run

    return str(Run.open(run).folder.resolve())


def _say(pointer: Pointer) -> None:
    tried = f"; tried beside it: {pointer.candidate} (share {pointer.share:g})" if pointer.candidate else ""
    typer.echo(f"in use: {pointer.current}{tried}")
