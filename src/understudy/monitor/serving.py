"""The monitor's own port: a process of its own, or a thread beside the gateway."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from understudy.monitor.figures import Figures
from understudy.monitor.store import MonitorStore
from understudy.monitor.web.app import monitor_app
from understudy.web.listening import settings


def serve_page(store: MonitorStore, listener: socket.socket, *, token: str = "") -> None:
    """Serve the dashboard until somebody ends it."""
    uvicorn.Server(settings(monitor_app(store, token=token))).run(sockets=[listener])


@contextmanager
def page_beside(
    store: MonitorStore, listener: socket.socket, figures: Figures | None = None, *, token: str = ""
) -> Iterator[str]:
    """The dashboard in a thread of this process while the block runs; gives its address."""
    server = uvicorn.Server(settings(monitor_app(store, figures=figures, token=token), timeout_graceful_shutdown=2))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, name="dashboard", daemon=True)
    thread.start()
    host, port = listener.getsockname()[:2]
    try:
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()
