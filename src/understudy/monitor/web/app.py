"""The monitor over HTTP: dashboard, figures for Prometheus, thumbs."""

from __future__ import annotations

import base64
import hmac
import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from fastapi import FastAPI, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import HTMLResponse, JSONResponse, Response

from understudy.database import DATABASE_FAULTS
from understudy.monitor.dashboard import WINDOWS, dashboard
from understudy.monitor.figures import CONTENT_TYPE, Figures
from understudy.monitor.rendering import rendered, static
from understudy.monitor.store import MonitorStore
from understudy.serve.exchange import Thumb

log = logging.getLogger("understudy.monitor")
_TYPES = {"style.css": "text/css; charset=utf-8", "dashboard.js": "text/javascript; charset=utf-8"}
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src data:; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_MOST_BODY = 65_536
Hours = Annotated[int, Query(ge=1, le=720)]


class ThumbBody(BaseModel):
    """What a client sends of an answer that it was given."""

    model_config = ConfigDict(extra="forbid")
    id: str = Field(min_length=1, max_length=100)
    verdict: Literal["up", "down"]
    correction: str | None = Field(default=None, max_length=20_000)


def monitor_app(store: MonitorStore, *, figures: Figures | None = None, token: str = "") -> FastAPI:
    """The application.

    Args:
        store: of the monitor.
        figures: of the watching process; None: those of the state in the database.
        token: what a reader must know; empty: whoever reaches the address may read.
    """
    app = FastAPI(title="understudy monitor", docs_url=None, redoc_url=None, openapi_url=None)

    @app.middleware("http")
    async def guard(request: Request, call: Callable[[Request], Awaitable[Response]]) -> Response:
        response = await call(request) if _knows(request, token) else _unknown()
        response.headers.update(_HEADERS)
        return response

    @app.exception_handler(DATABASE_FAULTS)
    async def down(request: Request, error: Exception) -> Response:
        log.error("the database failed: %s", type(error).__name__)
        return JSONResponse({"error": "the database does not answer"}, 503)

    def shown(hours: int) -> dict[str, Any]:
        value = dashboard(store, hours)
        if figures is not None and figures.load_now is not None:
            # Known to the process that serves, and of no other moment than now.
            load = figures.load_now()
            value["tiles"].append({"name": "answers under way", "value": f"{load['under_way']:,}"})
        return value

    @app.get("/", response_model=None)
    def page(hours: Hours = 24) -> Response:
        return HTMLResponse(rendered("dashboard", data=shown(hours), windows=WINDOWS))

    @app.get("/data", response_model=None)
    def data(hours: Hours = 24) -> Response:
        return JSONResponse(shown(hours))

    @app.get("/metrics", response_model=None)
    def metrics() -> Response:
        return Response((figures or of_state(store.state())).text(), media_type=CONTENT_TYPE)

    @app.get("/healthz", response_model=None)
    def health() -> Response:
        store.state()
        return JSONResponse({"ok": True})

    @app.post("/thumbs", response_model=None)
    def thumbs(body: ThumbBody) -> Response:
        return _thumb(store, body)

    @app.get("/{name}", response_model=None)
    def file(name: str) -> Response:
        if name not in _TYPES:
            return JSONResponse({"error": "there is no such page"}, 404)
        return Response(static(name), media_type=_TYPES[name])

    return app


def _thumb(store: MonitorStore, body: ThumbBody) -> Response:
    """Kept for a request that there is; on the disk when this answers."""
    request = store.request(body.id)
    if request is None:
        return JSONResponse({"error": "no request of that id is kept"}, 404)
    answer = request.student_answer or request.answer or ""
    store.write_thumb(
        Thumb(
            body.verdict,
            request.question,
            answer,
            request.model,
            correction=body.correction,
            id=body.id,
            key=request.key,
        )
    )
    return JSONResponse({"kept": True}, 201)


def _knows(request: Request, token: str) -> bool:
    if not token:
        return True
    kind, _, value = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "basic":
        try:
            value = base64.b64decode(value, validate=True).decode("utf-8", "replace").partition(":")[2]
        except ValueError:
            return False
    return hmac.compare_digest(value.encode("utf-8", "replace"), token.encode())


def _unknown() -> Response:
    return JSONResponse({"error": "the token is needed"}, 401, {"WWW-Authenticate": 'Basic realm="monitor"'})


def of_state(state: dict[str, Any]) -> Figures:
    """The gauges that can be known from the database alone."""
    figures = Figures()
    for rule, level in (state.get("drift") or {}).items():
        figures.drift.labels(rule).set(level)
    for name, gauge in (("agreement", figures.agreement), ("psi", figures.psi), ("canary", figures.canary)):
        for bound, value in (state.get(name) or {}).items():
            if bound in ("estimate", "psi", "difference", "lower", "upper") and value is not None:
                gauge.labels(bound).set(value)
    return figures
