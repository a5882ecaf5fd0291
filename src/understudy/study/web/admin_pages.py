"""What whoever runs the study sees: progress by cell, raters, pause, exclusions, export, deletion; behind a token."""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import RedirectResponse, Response

from understudy.errors import UnderstudyError
from understudy.study import export
from understudy.study.administration import Administration
from understudy.study.web.forms import posted
from understudy.study.web.rendering import page
from understudy.web.protection import Limit, RateLimiter, client

COOKIE = "admin"
_SESSION_SECONDS = 12 * 3600
Form = Annotated[dict[str, str], Depends(posted)]


class Sessions:
    """Sessions that nobody but the holder of the token can begin, and that end when the token is changed.

    Args:
        token: of the admin page.
    """

    def __init__(self, token: str) -> None:
        self._token = hashlib.sha256(token.encode()).digest()

    def fits(self, token: str) -> bool:
        """Whether it is the token."""
        return hmac.compare_digest(hashlib.sha256(token.strip().encode("utf-8", "replace")).digest(), self._token)

    def begin(self) -> str:
        """The value of a new session's cookie."""
        body = f"{int(time.time()) + _SESSION_SECONDS}.{secrets.token_urlsafe(16)}"
        return f"{body}.{self._sign('session', body)}"

    def is_open(self, cookie: str) -> bool:
        """Whether a cookie is one of a session that has not ended."""
        body, _, digest = cookie.rpartition(".")
        if not hmac.compare_digest(digest.encode("utf-8", "replace"), self._sign("session", body).encode()):
            return False
        return int(body.split(".")[0]) > time.time()

    def form_token(self, cookie: str) -> str:
        """What every form of a session carries; no other site can know it."""
        return self._sign("form", cookie)

    def _sign(self, purpose: str, text: str) -> str:
        return hmac.new(self._token, f"{purpose}|{text}".encode("utf-8", "replace"), hashlib.sha256).hexdigest()


class AdminPages:
    """The admin page and what can be done there.

    Args:
        administration: of the study.
        sessions: of the admin page.
        secure: whether cookies are for https alone.
        public_url: the address under which raters reach the study; empty: the one that was asked.
    """

    def __init__(self, administration: Administration, sessions: Sessions, *, secure: bool, public_url: str) -> None:
        self._admin, self._sessions, self._secure, self._public_url = administration, sessions, secure, public_url
        self._logins = RateLimiter(Limit(per_second=0.2, burst=10))
        self._all_logins = RateLimiter(Limit(per_second=1, burst=30))
        self._actions: Mapping[str, Callable[[Mapping[str, str]], str]] = {
            "pause": lambda form: self._pause(True),
            "resume": lambda form: self._pause(False),
            "exclude": self._exclude,
            "include": self._include,
            "forget": self._forget,
        }

    def router(self) -> APIRouter:
        """The addresses."""
        router = APIRouter()
        router.add_api_route("/admin", self.overview, methods=["GET"], response_model=None)
        router.add_api_route("/admin/progress", self.progress, methods=["GET"], response_model=None)
        router.add_api_route("/admin/login", self.login, methods=["POST"], response_model=None)
        router.add_api_route("/admin/logout", self.logout, methods=["POST"], response_model=None)
        router.add_api_route("/admin/export/{name}", self.export, methods=["GET"], response_model=None)
        router.add_api_route("/admin/{action}", self.act, methods=["POST"], response_model=None)
        return router

    def _session(self, request: Request) -> str:
        """The cookie of an open session; empty without one."""
        cookie = request.cookies.get(COOKIE, "")
        return cookie if cookie and self._sessions.is_open(cookie) else ""

    def login(self, request: Request, form: Form) -> Response:
        """Begin a session."""
        if not (self._logins.allows(client(request.scope)) and self._all_logins.allows("")):
            return page("login", 429, problem="Too many attempts. Wait a minute and try again.")
        if not self._sessions.fits(form.get("token", "")):
            return page("login", 403, problem="That is not the token.")
        response = RedirectResponse("/admin", 303)
        cookie = self._sessions.begin()
        response.set_cookie(COOKIE, cookie, httponly=True, samesite="strict", secure=self._secure, path="/admin")
        return response

    def logout(self, request: Request, form: Form) -> Response:
        """End the session in this browser."""
        response = RedirectResponse("/admin", 303)
        response.delete_cookie(COOKIE, path="/admin")
        return response

    def overview(self, request: Request) -> Response:
        """The admin page, or the field for the token."""
        cookie = self._session(request)
        if not cookie:
            return page("login", problem="")
        return self._overview(request, cookie, request.query_params.get("said", "") and "Done.")

    def progress(self, request: Request) -> Response:
        """The part of the page that changes by itself."""
        if not self._session(request):
            return Response(status_code=403)
        return page("progress", progress=self._admin.progress())

    def _overview(self, request: Request, cookie: str, said: str = "", problem: str = "") -> Response:
        store, address = self._admin.store, self._public_url or str(request.base_url).rstrip("/")
        view = {
            "title": next(iter(store.study.config.title.values())),
            "progress": self._admin.progress(),
            "raters": [{**row, "at": _moment(row["seen"])} for row in self._admin.raters()],
            "pages": {slot: len(store.pages(slot)) for slot in store.study.slots},
            "events": [(_moment(at), what, detail) for at, what, detail in self._admin.events()],
            "tables": export.tables_of(store),
            "form_token": self._sessions.form_token(cookie),
            "join": f"{address}/join" if store.study.config.open_recruitment else "",
            "said": said,
            "problem": problem,
        }
        return page("admin", 400 if problem else 200, **view)

    def act(self, request: Request, action: str, form: Form) -> Response:
        """Pause, resume, exclude, include or forget; of a session's own form alone."""
        cookie = self._session(request)
        if not cookie:
            return page("login", 403, problem="The session has ended. Enter the token again.")
        given = form.get("form_token", "").encode("utf-8", "replace")
        if request.headers.get("origin") is None or not hmac.compare_digest(
            given, self._sessions.form_token(cookie).encode()
        ):
            return page("login", 403, problem="That form was not one of this page.")
        if action not in self._actions:
            return Response(status_code=404)
        try:
            problem = self._actions[action](form)
        except UnderstudyError as error:
            problem = error.message
        return (
            self._overview(request, cookie, problem=problem) if problem else RedirectResponse("/admin?said=done", 303)
        )

    def _pause(self, paused: bool) -> str:
        self._admin.pause(paused)
        return ""

    def _exclude(self, form: Mapping[str, str]) -> str:
        self._admin.exclude(self._admin.rater_of(form.get("rater", "")), form.get("reason", "")[:500])
        return ""

    def _include(self, form: Mapping[str, str]) -> str:
        self._admin.include(self._admin.rater_of(form.get("rater", "")))
        return ""

    def _forget(self, form: Mapping[str, str]) -> str:
        if form.get("sure") != "yes":
            return "Tick the box: deleting cannot be undone."
        self._admin.forget(self._admin.rater_of(form.get("rater", "")))
        return ""

    def export(self, request: Request, name: str) -> Response:
        """A table as a file."""
        if not self._session(request):
            return page("login", 403, problem="The session has ended. Enter the token again.")
        content, kind = self._file(name)
        if content is None:
            return Response(status_code=404)
        return Response(content, media_type=kind, headers={"Content-Disposition": f'attachment; filename="{name}"'})

    def _file(self, name: str) -> tuple[str | bytes | None, str]:
        store, (stem, _, suffix) = self._admin.store, name.partition(".")
        if name == "labelstudio.json":
            return json.dumps(export.as_label_studio(store), ensure_ascii=False), "application/json"
        if name == "labelstudio.xml":
            return export.label_studio_config(store), "application/xml"
        if stem in export.TABLES and suffix == "csv":
            return export.as_csv(*export.table(store, stem)), "text/csv; charset=utf-8"
        if stem in export.TABLES and suffix == "parquet":
            return export.as_parquet(*export.table(store, stem)), "application/vnd.apache.parquet"
        return None, ""


def _moment(seconds: Any) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")
