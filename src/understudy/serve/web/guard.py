"""What stands before every request: hosts, origins, sizes, slow bodies, and headers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from understudy.serve.web.faults import ApiError, response_of
from understudy.web.protection import HEADERS, LONGEST_URL, replayed, same_origin, short_body


class ApiGuard:
    """Refuses bodies that are too long or too slow, hosts and origins that are not ours; adds the headers.

    A page of another site can send a body without being asked whether it may, so on a server without keys the origin is
    looked at as well; whoever sends none is no browser.

    Args:
        app: what is guarded.
        hosts: names by which the server may be called; empty: any.
        origins: of other sites whose pages may ask.
        longest: bytes of a body.
        patience: seconds for a body to come in.
        whole: seconds for a response to be taken, however slowly a client reads.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        hosts: Collection[str],
        origins: Collection[str],
        longest: int,
        patience: float,
        whole: float,
    ) -> None:
        self._app, self._hosts, self._origins = app, frozenset(hosts), frozenset(origins)
        self._longest, self._patience, self._whole = longest, patience, whole

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        try:
            self._check(scope)
            if scope["method"] in ("POST", "PUT", "PATCH", "DELETE"):
                receive = replayed(await self._body(receive), receive)
        except ApiError as error:
            # What is still on its way is not read, so the connection cannot be used again.
            error.headers["Connection"] = "close"
            await response_of(error)(scope, receive, send_with_headers)
            return
        # Without a word: whoever does not read gets no answer that would have to be read.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._whole):
                await self._app(scope, receive, send_with_headers)

    def _check(self, scope: Scope) -> None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts and _hostname(host) not in self._hosts:
            raise ApiError(400, "this server does not go by that name; see --public-url", "bad_host")
        if len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > LONGEST_URL:
            raise ApiError(414, "the address is too long", "url_too_long")
        origin = headers.get("origin")
        if scope["method"] != "OPTIONS" and origin not in self._origins and not same_origin(origin, host):
            raise ApiError(403, "pages of other sites may not ask here; see --cors", "bad_origin")
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._longest:
            raise self._too_long()

    async def _body(self, receive: Receive) -> bytes:
        try:
            body = await asyncio.wait_for(short_body(receive, self._longest), self._patience)
        except TimeoutError:
            raise ApiError(408, f"the body did not come in {self._patience:g} s", "slow_body") from None
        if body is None:
            raise self._too_long()
        try:
            body.decode("utf-8")
        except UnicodeDecodeError:
            raise ApiError(400, "the body is no UTF-8", "bad_utf8") from None
        return body

    def _too_long(self) -> ApiError:
        return ApiError(413, f"the body is longer than {self._longest:,} bytes", "body_too_long")


def _hostname(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
