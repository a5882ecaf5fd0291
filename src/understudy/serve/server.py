"""Serving a gateway: the process, its signals, and clients that do not speak."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Collection
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from understudy.serve.gateway import Gateway
from understudy.serve.web.app import serve_app
from understudy.web.listening import hosts_of, settings

SPEECHLESS = 15.0
"""Seconds that a new connection is given to send the head of its first request."""


def serve(
    gateway: Gateway,
    listener: socket.socket,
    *,
    public_url: str = "",
    proxy: str = "",
    origins: Collection[str] = (),
    page: bool = True,
    drain_seconds: int = 30,
    most_connections: int = 1024,
) -> None:
    """Serve until somebody ends it; what is under way is answered before the process goes.

    Args:
        gateway: the models.
        listener: where requests come in.
        public_url: the address under which clients reach it.
        proxy: address of a proxy whose word on who asks is taken; empty: nobody's.
        origins: other sites whose pages may ask.
        page: whether there is a page to try it on.
        drain_seconds: how long what is under way may take at the end.
        most_connections: more are refused with 503.
    """
    hosts = hosts_of(listener.getsockname()[0], public_url)
    app = serve_app(gateway, hosts=hosts, origins=origins, page=page)
    config = settings(
        app,
        proxy,
        timeout_graceful_shutdown=drain_seconds,
        limit_concurrency=most_connections,
        http=Impatient,
        timeout_keep_alive=30,
    )
    server = GatewayServer(config, gateway)
    server.run(sockets=[listener])


class GatewayServer(uvicorn.Server):
    """Tells the gateway that the end has begun, and closes its engines when the last answer is out."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    def handle_exit(self, sig: int, frame: Any) -> None:
        """A signal: nothing new is let in from here on; a second one, whichever, ends it at once."""
        self._gateway.draining = True
        # uvicorn would take a second SIGTERM for the first.
        self.force_exit = self.force_exit or self.should_exit
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wait for what is under way, then end the engines."""
        self._gateway.draining = True
        await super().shutdown(sockets)
        await self._gateway.close()
        # It has been heeded: raised once more, it would end the process as if something had gone wrong.
        self._captured_signals.clear()


class Impatient(H11Protocol):
    """Hangs up on a connection that does not come to say what it wants."""

    _hangup: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait."""
        super().connection_made(transport)
        self._hangup = self.loop.call_later(SPEECHLESS, self._hang_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        if self._hangup:
            self._hangup.cancel()
        super().connection_lost(exc)

    def _hang_up(self) -> None:
        if self.cycle is None and not self.transport.is_closing():
            self.transport.close()
