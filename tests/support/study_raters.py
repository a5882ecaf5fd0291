"""Raters that are programs: each fills in whatever form comes, and writes down what the server said it has stored."""

from __future__ import annotations

import asyncio
import html
import random
import re
import time
from dataclasses import dataclass, field
from urllib.parse import urlencode, urlsplit

_INPUT = re.compile(r"<(?:input|textarea|button)\b[^>]*>")
_ATTRIBUTE = re.compile(r'([\w-]+)(?:="([^"]*)")?')
_ACTION = re.compile(r'<form method="post" action="([^"]*)"')
_CODE = re.compile(r'id="code">([^<]+)<')
RIGHT = {"ask-judged": "1", "ask-scale": "2"}
"""Answers to the questions about the task that a study has unless told otherwise."""


@dataclass
class Reply:
    """What a server answered."""

    status: int
    location: str
    text: str
    cookie: str = ""


@dataclass
class SimulatedRater:
    """One rater with a browser: it thinks, answers, and asks again until it is answered.

    Attributes:
        url: of the server.
        name: the panel's id; it draws what is answered.
        pause: shortest and longest seconds before a page is sent.
        twice: share of forms that are sent twice.
        stored: page -> ratings that the server said it has stored.
        seconds: of each request that was answered, when it was sent and how long it took.
        failures: attempts that nobody answered.
        code: of completion; empty before the end.
    """

    url: str
    name: str
    pause: tuple[float, float] = (0.0, 0.0)
    twice: float = 0.1
    stored: dict[int, dict[str, int]] = field(default_factory=dict)
    seconds: list[tuple[float, float]] = field(default_factory=list)
    failures: int = 0
    code: str = ""

    def __post_init__(self) -> None:
        """Draws of its own."""
        self._rng = random.Random(self.name)
        address = urlsplit(self.url)
        self._host, self._port = address.hostname or "", address.port or 80
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        """From the open address to the completion code."""
        reply = await self.ask("POST", f"/join?PROLIFIC_PID={self.name}", {})
        path = reply.location
        while not self.code:
            reply = await self.follow(await self.ask("GET", path))
            if found := _CODE.search(reply.text):
                self.code = html.unescape(found[1])
                break
            action = html.unescape(_ACTION.search(reply.text)[1])  # type: ignore[index]
            form = self.fill_in(reply.text)
            await asyncio.sleep(self._rng.uniform(*self.pause))
            after = await self.ask("POST", action, form)
            assert after.status == 303, (after.status, action, after.text[:600])
            rated = {name[5:]: int(value) for name, value in form.items() if name.startswith("rate-")}
            if rated:
                self.stored[int(action.rsplit("/", 1)[1])] = rated
            if self._rng.random() < self.twice:
                assert (await self.ask("POST", action, form)).status == 303
            path = after.location
        await self.close()

    async def follow(self, reply: Reply) -> Reply:
        """The page that a reply leads to."""
        while reply.status == 303:
            reply = await self.ask("GET", reply.location)
        assert reply.status == 200, (reply.status, reply.text[:300])
        return reply

    def fill_in(self, page: str) -> dict[str, str]:
        """A form that answers everything on a page."""
        form, options = {}, {}
        for tag in _INPUT.findall(page):
            attributes = {name: html.unescape(value) for name, value in _ATTRIBUTE.findall(tag.split(None, 1)[1])}
            kind, name = attributes.get("type"), attributes.get("name", "")
            if kind == "hidden" or kind == "checkbox":
                form[name] = attributes.get("value", "")
            elif kind == "radio":
                options.setdefault(name, []).append(attributes.get("value", ""))
            elif tag.startswith("<textarea"):
                form[name] = self._rng.choice(("", f"a word of {self.name}'s; DROP TABLE ratings; --"))
        wanted = re.search(r"Please choose (\d) for every", page)
        for name, values in options.items():
            form[name] = RIGHT.get(name) or (wanted[1] if wanted else self._rng.choice(values))
        return form

    async def ask(self, method: str, path: str, form: dict[str, str] | None = None) -> Reply:
        """Send a request until somebody answers; a dead server is asked again, with the same form."""
        while True:
            try:
                begun = time.perf_counter()
                reply = await asyncio.wait_for(self._once(method, path, form), 20)
                if reply.status < 500:
                    self.seconds.append((begun, time.perf_counter() - begun))
                    return reply
                self.failures += 1
            except (OSError, asyncio.IncompleteReadError, ValueError, IndexError, TimeoutError):
                self.failures += 1
                await self.close()
            await asyncio.sleep(self._rng.uniform(0.1, 0.4))

    async def _once(self, method: str, path: str, form: dict[str, str] | None) -> Reply:
        if self._connection is None:
            self._connection = await asyncio.open_connection(self._host, self._port)
        reader, writer = self._connection
        body = urlencode(form or {}).encode()
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}:{self._port}", f"Origin: {self.url}"]
        lines += ["Content-Type: application/x-www-form-urlencoded", f"Content-Length: {len(body)}"]
        writer.write("\r\n".join([*lines, "", ""]).encode() + body)
        await writer.drain()
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:])}
        text = (await reader.readexactly(int(headers.get("content-length", 0)))).decode()
        if headers.get("connection") == "close":
            await self.close()
        return Reply(int(head[0].split()[1]), headers.get("location", ""), text, headers.get("set-cookie", ""))

    async def close(self) -> None:
        """Let go of the connection."""
        if self._connection is not None:
            self._connection[1].close()
            self._connection = None
