"""Where a server listens, and how uvicorn runs it."""

from __future__ import annotations

import logging
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from understudy.errors import RunError

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

LOOPBACK = ("localhost", "127.0.0.1", "::1")


def hosts_of(host: str, public_url: str) -> tuple[str, ...]:
    """Names by which the server may be called; empty, so any, where it listens everywhere and was told no address."""
    public = urlsplit(public_url).hostname or ""
    if host in LOOPBACK or public:
        return tuple(name for name in (*LOOPBACK, host, public) if name)
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


def settings(app: ASGIApp, proxy: str = "", **options: Any) -> uvicorn.Config:
    """How an application is served: without a log of requests, for an address may hold a key.

    Args:
        app: the application.
        proxy: address of a proxy whose word on who asks is taken; empty: nobody's.
        options: of uvicorn, in place of those here.
    """
    import uvicorn

    defaults: dict[str, Any] = {
        "log_level": logging.WARNING,
        "access_log": False,
        "server_header": False,
        "proxy_headers": bool(proxy),
        "forwarded_allow_ips": proxy or "127.0.0.1",
        # Longer than people read, or a form meets a connection that is just being closed.
        "timeout_keep_alive": 75,
        "timeout_graceful_shutdown": 10,
        "lifespan": "off",
    }
    return uvicorn.Config(app, **{**defaults, **options})
