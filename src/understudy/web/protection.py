"""What stands before every page: headers, sizes, hosts, and how often somebody may ask."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LONGEST_BODY = 65_536
"""Bytes of a posted form; the longest one has some free text and twenty ratings."""
LONGEST_URL = 4096

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # The address of a page is a rater's key: it goes to no other site. Forms still say where they come from.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    # Going back asks anew, and so shows what was stored.
    "Cache-Control": "no-store",
}


@dataclass(frozen=True)
class Limit:
    """How often something may happen.

    Attributes:
        per_second: in the long run.
        burst: at once.
    """

    per_second: float
    burst: float


class RateLimiter:
    """One bucket of tokens for each key, of the keys that were seen last.

    Args:
        limit: of each bucket.
        most: buckets that are kept; whoever has not asked for longest is forgotten first.
        clock: seconds that never go backwards.
    """

    def __init__(self, limit: Limit, most: int = 10_000, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._most, self._clock = limit, most, clock
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        """Number of buckets."""
        return len(self._buckets)

    def allows(self, key: str) -> bool:
        """Whether a key may do it once more; if so, it is counted."""
        now = self._clock()
        tokens, since = self._buckets.pop(key, (self._limit.burst, now))
        tokens = min(self._limit.burst, tokens + (now - since) * self._limit.per_second)
        self._buckets[key] = (tokens - 1 if tokens >= 1 else tokens, now)
        while len(self._buckets) > self._most:
            self._buckets.popitem(last=False)
        return tokens >= 1


class Guard:
    """Refuses bodies that are too long, hosts that are not ours and forms from other sites; adds the headers.

    Args:
        app: what is guarded.
        hosts: names by which the server may be called; empty: any.
    """

    def __init__(self, app: ASGIApp, hosts: Collection[str] = ()) -> None:
        self._app, self._hosts = app, frozenset(hosts)
        self._limiter = RateLimiter(Limit(per_second=200, burst=600))

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

        refusal = self._refusal(scope)
        if refusal is not None:
            await refusal(scope, receive, send_with_headers)
            return
        body = await short_body(receive, LONGEST_BODY) if scope["method"] == "POST" else b""
        if body is None:
            await PlainTextResponse("The form is too long.", 413)(scope, receive, send_with_headers)
            return
        await self._app(scope, replayed(body, receive), send_with_headers)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if self._hosts and (urlsplit(f"//{host}").hostname or "") not in self._hosts:
            return PlainTextResponse("This server does not go by that name; see --public-url.", 400)
        if len(scope.get("raw_path") or b"") + len(scope.get("query_string") or b"") > LONGEST_URL:
            return PlainTextResponse("The address is too long.", 414)
        if not self._limiter.allows(client(scope)):
            return PlainTextResponse("Too many requests. Wait a moment and try again.", 429, {"Retry-After": "2"})
        if scope["method"] == "POST" and not same_origin(headers.get("origin"), host):
            return PlainTextResponse("This form comes from another site.", 403)
        return None


def client(scope: Scope) -> str:
    """The address that asks; behind a proxy, whatever the server was told to trust."""
    return scope["client"][0] if scope.get("client") else ""


def same_origin(origin: str | None, host: str) -> bool:
    """Whether a form comes from one of our own pages; what sends no origin is no browser of today."""
    return origin is None or urlsplit(origin).netloc == host


async def short_body(receive: Receive, longest: int) -> bytes | None:
    """The whole body; None as soon as it is longer than so many bytes."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            break
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > longest:
            return None
        more = message.get("more_body", False)
    return b"".join(parts)


def replayed(body: bytes, receive: Receive) -> Receive:
    """A channel that gives a body that was read already, then whatever comes."""
    waiting = [body]

    async def again() -> Message:
        if waiting:
            return {"type": "http.request", "body": waiting.pop(), "more_body": False}
        return await receive()

    return again
