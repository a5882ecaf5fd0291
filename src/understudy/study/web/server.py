"""Serving a study: the address it listens on and the token of its admin page."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from understudy.errors import ConfigError, RunError
from understudy.files import unwritable
from understudy.study.store import Store

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

TOKEN_VARIABLE, TOKEN_FILE = "UNDERSTUDY_STUDY_TOKEN", "admin-token"
_SHORTEST_TOKEN = 16
_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class AdminToken:
    """What opens the admin page.

    Attributes:
        token: the token.
        source: where it comes from, for the line that says so.
        new: whether it was made just now.
    """

    token: str
    source: str
    new: bool


def admin_token(folder: Path) -> AdminToken:
    """The token from the environment, or the one in the study's folder, made where there is none (mode 600).

    Raises:
        ConfigError: the token in the environment is too short.
        RunError: the file cannot be written.
    """
    given = os.environ.get(TOKEN_VARIABLE, "")
    if given:
        if len(given) < _SHORTEST_TOKEN:
            raise ConfigError(f"{TOKEN_VARIABLE} has {len(given)} characters", hint=f"take {_SHORTEST_TOKEN} or more")
        return AdminToken(given, TOKEN_VARIABLE, False)
    path = folder / TOKEN_FILE
    if path.is_file() and (kept := path.read_text(encoding="utf-8").strip()):
        return AdminToken(kept, str(path), False)
    token = secrets.token_urlsafe(24)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as handle:
            handle.write(token + "\n")
        path.chmod(0o600)
    except OSError as error:
        raise unwritable(path, error) from error
    return AdminToken(token, str(path), True)


def hosts_of(host: str, public_url: str) -> tuple[str, ...]:
    """Names by which the server may be called; empty, so any, where it listens everywhere and was told no address."""
    public = urlsplit(public_url).hostname or ""
    if host in _LOOPBACK or public:
        return tuple(name for name in (*_LOOPBACK, host, public) if name)
    return ()


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 takes any that is free.

    Raises:
        RunError: the port is taken, or the address is none of this machine.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Of TCP by name: only then does asyncio turn off Nagle, which would hold back each answer for 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise RunError(
            f"cannot listen on {host}:{port}: {error.strerror or error}", hint="choose another --port or --host"
        ) from error
    return listener


def serve(store: Store, token: str, listener: socket.socket, *, public_url: str, proxy: str) -> None:
    """Serve until somebody ends it.

    Args:
        store: of the study.
        token: of the admin page.
        listener: where requests come in.
        public_url: the address under which raters reach it.
        proxy: address of a proxy whose word on who asks is taken; empty: nobody's.
    """
    import uvicorn

    from understudy.study.web.app import study_app

    app = study_app(store, token, public_url=public_url, hosts=hosts_of(listener.getsockname()[0], public_url))
    uvicorn.Server(settings(app, proxy)).run(sockets=[listener])


def settings(app: ASGIApp, proxy: str = "") -> uvicorn.Config:
    """How the application is served: without a log of requests, for an address holds a rater's key.

    Args:
        app: the application.
        proxy: address of a proxy whose word on who asks is taken; empty: nobody's.
    """
    import uvicorn

    return uvicorn.Config(
        app,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxy),
        forwarded_allow_ips=proxy or "127.0.0.1",
        timeout_keep_alive=75,  # longer than people read, or a form meets a connection that is just being closed
        timeout_graceful_shutdown=10,
        lifespan="off",
    )
