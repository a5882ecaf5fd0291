"""The web application of a study, put together."""

from __future__ import annotations

from collections.abc import Collection
from importlib import resources

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from understudy.study import wording
from understudy.study.administration import Administration
from understudy.study.database import DATABASE_FAULTS
from understudy.study.store import Store
from understudy.study.web.admin_pages import AdminPages, Sessions
from understudy.study.web.forms import BadForm, Seal
from understudy.study.web.rater_pages import RaterPages
from understudy.study.web.rendering import page
from understudy.web.protection import Guard

_STATIC = {"style.css": "text/css; charset=utf-8", "admin.js": "text/javascript; charset=utf-8"}


def study_app(store: Store, admin_token: str, *, public_url: str = "", hosts: Collection[str] = ()) -> ASGIApp:
    """The application that uvicorn serves.

    Args:
        store: of the study.
        admin_token: opens the admin page.
        public_url: the address under which raters reach it; cookies are for https alone where it begins so.
        hosts: names by which the server may be called; empty: any.
    """
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    secure = public_url.startswith("https://")
    seal = Seal(store.database.meta("secret") or "")
    sessions = Sessions(admin_token)
    app.include_router(RaterPages(store, seal, secure=secure).router())
    admin = AdminPages(Administration(store), sessions, secure=secure, public_url=public_url)
    app.include_router(admin.router())
    app.add_api_route("/static/{name}", _static, methods=["GET"], response_model=None)
    app.add_api_route("/favicon.ico", lambda: Response(status_code=204), methods=["GET"], response_model=None)
    _handle_faults(app, store)
    return Guard(app, hosts)


def _static(name: str) -> Response:
    if name not in _STATIC:
        raise HTTPException(404)
    content = (resources.files("understudy.study.web") / "static" / name).read_bytes()
    return Response(content, media_type=_STATIC[name], headers={"Cache-Control": "public, max-age=300"})


def _handle_faults(app: FastAPI, store: Store) -> None:
    """One page for each kind of fault, in the first of the study's languages; none says what went on inside."""

    def problem(name: str, status: int) -> Response:
        config = store.study.config
        language = config.languages[0]
        say = wording.pages(language)
        view = {"say": say, "language": language, "languages": {}, "title": wording.in_language(config.title, language)}
        return page(
            "end", status, **view, heading=say[f"{name}_title"], message=say[f"{name}_text"], code="", back_to=""
        )

    @app.exception_handler(BadForm)
    async def _bad_form(request: Request, error: BadForm) -> Response:
        return problem("stale", 400)

    @app.exception_handler(HTTPException)
    async def _absent(request: Request, error: HTTPException) -> Response:
        return problem("link", error.status_code)

    @app.exception_handler(DATABASE_FAULTS)
    async def _database(request: Request, error: Exception) -> Response:
        return problem("error", 503)
