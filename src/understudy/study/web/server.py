"""Serving a study, and the token of its admin page."""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path

from understudy.errors import ConfigError
from understudy.files import unwritable
from understudy.study.store import Store
from understudy.web.listening import hosts_of, settings

TOKEN_VARIABLE, TOKEN_FILE = "UNDERSTUDY_STUDY_TOKEN", "admin-token"
_SHORTEST_TOKEN = 16


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
