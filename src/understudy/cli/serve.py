"""`understudy serve`: a student for others to ask, and the keys by which they may."""

from __future__ import annotations

import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from understudy import bounds

if TYPE_CHECKING:
    from understudy.monitor.live import Watching
    from understudy.run import Run
    from understudy.serve.keys import KeyFile
    from understudy.serve.opening import Plan
    from understudy.serve.sides import Upstream


class _RunByDefault(TyperGroup):
    """`understudy serve RUN` is `understudy serve run RUN`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the command there where none is named."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault,
    no_args_is_help=True,
    help="Serve a run's student by an OpenAI-compatible API: `understudy serve RUN`; `keys` makes keys for clients.",
)
keys_app = typer.Typer(help="Keys of clients: kept as hashes, shown once.", no_args_is_help=True)
app.add_typer(keys_app, name="keys")

KeysOption = Annotated[
    Path | None, typer.Option("--keys", metavar="FILE", help="File of keys. Default: serve-keys.json in the run.")
]
RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run folder.")]


@app.command("run")
def run(
    folder: RunArgument,
    host: Annotated[str, typer.Option(help="Address to listen on; any but this machine's own needs keys.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any that is free.")] = 8000,
    models: Annotated[
        str, typer.Option("--models", metavar="NAME,...", help="student, teacher, undistilled, or arms of the run.")
    ] = "student",
    cascade: Annotated[
        str | None,
        typer.Option(
            "--cascade",
            metavar="THRESHOLD|auto",
            help="Ask the teacher where the student's confidence lies below it; auto: as calibrated.",
        ),
    ] = None,
    decide: Annotated[
        Literal["hold", "first"],
        typer.Option("--decide", help="When a streamed cascade decides: on the whole answer, or on its first tokens."),
    ] = "hold",
    patience: Annotated[
        float, typer.Option(min=0.1, max=bounds.SECONDS, help="Seconds that the teacher has for its first token.")
    ] = 60.0,
    upstream: Annotated[
        str | None,
        typer.Option("--upstream", metavar="URL", help="A server (…/v1) that writes in place of this process."),
    ] = None,
    upstream_model: Annotated[
        str | None, typer.Option("--upstream-model", metavar="NAME", help="The student's name there.")
    ] = None,
    upstream_key_env: Annotated[
        str, typer.Option("--upstream-key-env", metavar="NAME", help="Environment variable with the key for it.")
    ] = "OPENAI_API_KEY",
    upstream_renders: Annotated[
        bool,
        typer.Option("--upstream-renders", help="Send it conversations, for it takes no token ids; compare first."),
    ] = False,
    teacher_url: Annotated[
        str | None, typer.Option("--teacher-url", metavar="URL", help="A server that is the teacher.")
    ] = None,
    teacher_model: Annotated[
        str | None, typer.Option("--teacher-model", metavar="NAME", help="The teacher's name there.")
    ] = None,
    teacher_key_env: Annotated[
        str, typer.Option("--teacher-key-env", metavar="NAME", help="Environment variable with the key for it.")
    ] = "OPENAI_API_KEY",
    device: Annotated[str | None, typer.Option(help="Where the models go. Default: as the recipe says.")] = None,
    batch: Annotated[int, typer.Option(min=1, max=bounds.AT_ONCE, help="Answers written side by side.")] = 16,
    queue: Annotated[int, typer.Option(min=1, max=1_000_000, help="Answers under way or waiting; more get 429.")] = 128,
    timeout: Annotated[float, typer.Option(min=0.1, max=bounds.SECONDS, help="Seconds for one request.")] = 120.0,
    max_body: Annotated[int, typer.Option(min=1024, max=1 << 30, help="Bytes of a body.")] = 262_144,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, max=bounds.TOKENS, help="Longest answer that may be asked for.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=2, max=bounds.TOKENS, help="In place of the recipe's data.max_length.")
    ] = None,
    keys: KeysOption = None,
    no_keys: Annotated[
        bool, typer.Option("--no-keys", help="Whoever reaches this address may ask; something else guards it.")
    ] = False,
    cors: Annotated[
        list[str] | None, typer.Option("--cors", metavar="ORIGIN", help="A site whose pages may ask; may be repeated.")
    ] = None,
    public_url: Annotated[str, typer.Option("--public-url", help="The address under which clients reach it.")] = "",
    proxy: Annotated[str, typer.Option(help="Address of a proxy whose X-Forwarded-For is believed.")] = "",
    feedback: Annotated[
        Path | None, typer.Option("--feedback", metavar="FILE", help="Where thumbs go. Default: in the run.")
    ] = None,
    no_page: Annotated[bool, typer.Option("--no-page", help="No page at `/`.")] = False,
    drain: Annotated[int, typer.Option(min=0, max=86_400, help="Seconds for what is under way at the end.")] = 30,
    monitor: Annotated[
        str | None,
        typer.Option("--monitor", metavar="DB", help="Watch it, and write requests to a file or postgresql://…."),
    ] = None,
    monitor_settings: Annotated[
        Path | None, typer.Option("--monitor-settings", metavar="FILE", help="monitor.yaml. Default: all defaults.")
    ] = None,
    monitor_port: Annotated[
        int, typer.Option("--monitor-port", min=0, max=65535, help="Port of dashboard and /metrics.")
    ] = 8001,
    monitor_host: Annotated[
        str,
        typer.Option("--monitor-host", help="Its address; beyond this machine, UNDERSTUDY_MONITOR_TOKEN is needed."),
    ] = "127.0.0.1",
    traces: Annotated[
        bool, typer.Option("--traces", help="A span of each request, without texts, to OTEL_EXPORTER_OTLP_ENDPOINT.")
    ] = False,
) -> None:
    """Serve the student of a run until Ctrl-C; `understudy docs serving` says what an operator must know."""
    from understudy.run import Run

    pointer = folder if folder.is_file() else None
    opened = Run.open(_pointed(folder) if pointer else folder)
    folder = opened.folder
    key_file = _key_file(opened, keys, host=host, no_keys=no_keys)
    token = _monitor_token(monitor_host)
    servers = _servers(upstream, upstream_model, upstream_key_env, upstream_renders, timeout)
    servers |= _teacher_server(teacher_url, teacher_model, teacher_key_env, timeout)
    _check_packages("serve", "fastapi", "uvicorn")
    if monitor or pointer:
        _check_packages("monitor", "sqlalchemy", "prometheus_client", "sklearn")
    if traces:
        _check_packages("traces", "opentelemetry", "opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
    from understudy.serve.gateway import Bounds
    from understudy.serve.opening import Plan, open_gateway
    from understudy.serve.server import serve
    from understudy.serve.sides import Opening
    from understudy.serve.tracing import traced
    from understudy.web.listening import listen

    plan = Plan(
        models=[name.strip() for name in models.split(",") if name.strip()],
        cascade=cascade,
        mode=decide,
        patience=patience,
        opening=Opening(device, batch, max_length, servers),
        most_waiting=queue,
        bounds=Bounds(body=max_body, seconds=timeout, max_tokens=max_tokens),
        keys=key_file,
        feedback=feedback or folder / "feedback.jsonl",
    )
    # The port first: whoever cannot have it need not wait for the models.
    listener = listen(host, port)
    watching = _watching(opened, plan, pointer, monitor, monitor_settings) if monitor or pointer else None
    gateway = watching.gateway if watching else open_gateway(opened, plan)
    for name, side in gateway.sides.items():
        typer.echo(f"{name}: {side.title}")
    if gateway.cascade:
        typer.echo(f"cascade: below {gateway.cascade.threshold:g} the teacher is asked ({gateway.cascade.mode})")
    address = public_url.rstrip("/") or f"http://{host}:{listener.getsockname()[1]}"
    typer.echo(f"keys: {key_file}" if key_file else "keys: none needed")
    typer.echo(f"serving {opened.folder.name} at {address}/v1")
    spans = traced(gateway) if traces else nullcontext()
    page_of_monitor = (
        watching.page(monitor_port, typer.echo, host=monitor_host, token=token) if watching else nullcontext()
    )
    with page_of_monitor, spans:
        serve(
            gateway,
            listener,
            public_url=public_url,
            proxy=proxy,
            origins=cors or (),
            page=not no_page,
            drain_seconds=drain,
        )


def _monitor_token(host: str) -> str:
    """What readers of the dashboard and of /metrics must know.

    Raises:
        ConfigError: the address is reached from elsewhere, and there is no token.
    """
    import os

    from understudy.errors import ConfigError
    from understudy.web.listening import LOOPBACK

    token = os.environ.get("UNDERSTUDY_MONITOR_TOKEN", "")
    if host in LOOPBACK:
        return ""
    if not token:
        raise ConfigError(
            f"--monitor-host {host} is reached from elsewhere",
            hint="set UNDERSTUDY_MONITOR_TOKEN to a token of readers",
        )
    return token


def _pointed(pointer: Path) -> Path:
    from understudy.monitor.pointer import PointerFile

    return Path(PointerFile(pointer).read().current)


def _watching(run: Run, plan: Plan, pointer: Path | None, database: str | None, settings: Path | None) -> Watching:
    """The gateway with whoever watches it, and with the pointer that it follows."""
    from understudy.monitor.config import read_config
    from understudy.monitor.live import open_watching

    return open_watching(run, plan, pointer, database, read_config(settings))


def _check_packages(extra: str, *packages: str) -> None:
    from importlib.util import find_spec

    from understudy.distribution import install_command
    from understudy.errors import ConfigError

    for package in packages:
        try:
            found = find_spec(package) is not None
        except ModuleNotFoundError:
            found = False
        if not found:
            raise ConfigError(f"this needs the package {package}", hint=install_command(extra))


def _key_file(run: Run, keys: Path | None, *, host: str, no_keys: bool) -> Path | None:
    """The file of keys that clients must come from; None where none is needed.

    Raises:
        ConfigError: the address can be reached from elsewhere, and there is no key.
    """
    from understudy.errors import ConfigError
    from understudy.serve.keys import KeyFile
    from understudy.web.listening import LOOPBACK

    if no_keys:
        return None
    path = keys or default_keys(run)
    if any(key.revoked is None for key in KeyFile(path).all()):
        return path
    if keys is None and host in LOOPBACK:
        return None
    where = f"--keys {keys}" if keys else f"--host {host}"
    raise ConfigError(f"{where}: there is no key yet", hint=f"make one: understudy serve keys add {run.folder} NAME")


def default_keys(run: Run) -> Path:
    """Where the keys of a run stand, unless somebody says otherwise."""
    return run.folder / "serve-keys.json"


def _servers(url: str | None, model: str | None, key_env: str, renders: bool, timeout: float) -> dict[str, Upstream]:
    from understudy.errors import ConfigError
    from understudy.serve.sides import STUDENT, Upstream

    if (url is None) != (model is None):
        raise ConfigError("--upstream and --upstream-model belong together")
    if url is None or model is None:
        return {}
    return {STUDENT: Upstream(_address(url, "--upstream"), model, key_env, renders, timeout)}


def _teacher_server(url: str | None, model: str | None, key_env: str, timeout: float) -> dict[str, Upstream]:
    from understudy.errors import ConfigError
    from understudy.serve.sides import TEACHER_SIDE, Upstream

    if (url is None) != (model is None):
        raise ConfigError("--teacher-url and --teacher-model belong together")
    if url is None or model is None:
        return {}
    return {TEACHER_SIDE: Upstream(_address(url, "--teacher-url"), model, key_env, timeout=timeout)}


def _address(url: str, option: str) -> str:
    from urllib.parse import urlsplit

    from understudy.errors import ConfigError

    if urlsplit(url).scheme not in ("http", "https"):
        raise ConfigError(f"{option} {url!r} is no address", hint="for example http://localhost:8001/v1")
    return url


# -- keys --------------------------------------------------------------------------------------------------------------


@keys_app.command("add")
def add(
    folder: RunArgument,
    name: Annotated[str, typer.Argument(help="Whose key it is.")],
    requests_per_minute: Annotated[int | None, typer.Option("--rpm", min=1, max=1_000_000, help="A minute.")] = None,
    tokens_per_minute: Annotated[
        int | None, typer.Option("--tpm", min=1, max=1_000_000_000, help="Tokens a minute, read and written.")
    ] = None,
    concurrent: Annotated[int | None, typer.Option(min=1, max=1_000_000, help="Requests under way at once.")] = None,
    keys: KeysOption = None,
) -> None:
    """Make a key and show it, once; a running server knows it at once."""
    from understudy.serve.keys import KeyLimits

    limits = KeyLimits(requests_per_minute, tokens_per_minute, concurrent)
    secret, key = _file(folder, keys).add(name, limits)
    typer.echo(f"{key.id} ({name}); this is the only time that the key is shown:", err=True)
    typer.echo(secret)


@keys_app.command("revoke")
def revoke(
    folder: RunArgument,
    id: Annotated[str, typer.Argument(metavar="KEY", help="Id or name of a key.")],
    keys: KeysOption = None,
) -> None:
    """Refuse a key from the next request on."""
    key = _file(folder, keys).revoke(id)
    typer.echo(f"{key.id} ({key.name}) is revoked")


@keys_app.command("list")
def list_keys(folder: RunArgument, keys: KeysOption = None) -> None:
    """List the keys: id, name, when it was made, limits, whether it is revoked."""
    from understudy.cli import one_line

    for key in _file(folder, keys).all():
        made = time.strftime("%Y-%m-%d", time.gmtime(key.created))
        named = zip(("rpm", "tpm", "at once"), key.limits.to_json().values(), strict=True)
        limits = [f"{name} {value:,}" for name, value in named if value is not None]
        state = ["revoked"] if key.revoked else []
        typer.echo("  ".join([key.id, one_line(key.name), made, *limits, *state]))


def _file(folder: Path, keys: Path | None) -> KeyFile:
    from understudy.run import Run
    from understudy.serve.keys import KeyFile

    return KeyFile(keys or default_keys(Run.open(folder)))
