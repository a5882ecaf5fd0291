"""One call over HTTP, with OpenAI's own client: bytes out, bytes back, every fault by its name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient, Omit

from understudy.completers.cache import CachedAnswer
from understudy.completers.faults import EndpointError, Fault, status_fault
from understudy.completers.interfaces import Interface
from understudy.completers.redaction import redacted, shown_address
from understudy.completers.response_parsing import error_message
from understudy.errors import TeacherError
from understudy.recipe import EndpointConfig
from understudy.types import Request

MAX_REDIRECTS = 3
"""So often one request is sent on within its host."""


class Wire:
    """Sends requests to one endpoint.

    Args:
        client: OpenAI's.
        config: the endpoint.
        key: what is sent as key; empty where none is.
        interface: how a request is put to it, and how its answers are read.
    """

    def __init__(self, client: AsyncOpenAI, config: EndpointConfig, key: str, interface: Interface) -> None:
        self._client = client
        self._config = config
        self._key = key
        self._interface = interface
        self._address = interface.address(config.base_url or "")
        self._headers = {name: Omit() for name in ("OpenAI-Organization", "OpenAI-Project")}
        if not key:
            self._headers["Authorization"] = Omit()

    async def send(self, request: Request) -> CachedAnswer:
        """Ask once.

        Raises:
            Fault: no answer, by kind.
            TeacherError: the endpoint will answer nothing at all.
        """
        address, left = self._address, []
        while True:
            body = self._interface.body(request)
            try:
                answer = await self._send(address, body, request)
            except EndpointError as error:
                if 300 <= error.status < 400:
                    left.append(error.url)
                    address = self._redirected(error, left)
                    continue
                message = redacted(error.message, self._key)
                if error.status in (400, 422) and self._interface.learn(body, message):
                    continue
                raise self._status_fault(error, message) from error
            except Fault as fault:
                fault.detail = redacted(fault.detail, self._key)
                raise
            self._address = address
            return answer

    async def _send(self, address: str, body: dict[str, Any], request: Request) -> CachedAnswer:
        begin = time.perf_counter()
        try:
            # `chat.completions.create` would walk body and answer field by field, for a third of the time of a call.
            # The client's own timeout counts from byte to byte; an endpoint that trickles would hold on for ever.
            async with asyncio.timeout(self._config.timeout):
                response = await self._client.post(
                    address, cast_to=httpx2.Response, body=body, options={"headers": self._headers}
                )
        except TimeoutError as error:
            raise self._timeout(charged=True) from error
        except APIStatusError as error:
            headers, url = error.response.headers, str(error.request.url)
            message = error_message(error.response.content)
            raise EndpointError(error.status_code, message, headers=headers, url=url) from error
        except APIConnectionError as error:
            raise self._unconnected(error) from error
        try:
            return self._interface.read(response.content, request, time.perf_counter() - begin)
        except EndpointError as error:
            error.headers = response.headers
            raise

    def _redirected(self, error: EndpointError, left: list[str]) -> str:
        """Where to ask instead: on the same host and without a step back from https, or the key would go astray.

        Raises:
            TeacherError: it leads elsewhere, or back to where it came from.
        """
        target = urljoin(error.url, error.headers.get("location", ""))
        before, after = urlsplit(error.url), urlsplit(target)
        same_origin = (before.scheme, before.netloc) == (after.scheme, after.netloc)
        upgraded = before.hostname == after.hostname and (before.scheme, after.scheme) == ("http", "https")
        circle = target in left or len(left) > MAX_REDIRECTS
        # The other kinds of redirect are for reading a page: the question would be lost on the way.
        if error.status in (307, 308) and (same_origin or upgraded) and not circle:
            return target
        where = redacted(shown_address(target), self._key)
        raise TeacherError(
            f"the endpoint redirects {'in a circle' if circle else 'elsewhere'} ({error.status}): {where}",
            hint="nothing was sent there, the key neither; set base_url to the address that answers",
        )

    def _status_fault(self, error: EndpointError, message: str) -> Fault | TeacherError:
        fault = status_fault(error.status, message, error.headers, key_variable=self._config.api_key_env)
        if isinstance(fault, Fault) and error.tokens:
            fault.tokens, fault.charged = error.tokens, True
        return fault

    def _unconnected(self, error: APIConnectionError) -> Fault:
        """What kept an answer from coming, by its first cause: the layers above rename it."""
        causes: list[BaseException] = [error]
        while causes[-1].__cause__ is not None:
            causes.append(causes[-1].__cause__)

        def among(*kinds: type[BaseException]) -> bool:
            return any(isinstance(cause, kinds) for cause in causes)

        never_sent = among(aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError)
        if among(aiohttp.ServerTimeoutError):
            return self._timeout(charged=not never_sent)
        cause = causes[-1]
        reason = redacted(f"{type(cause).__name__} {cause}", self._key)
        return Fault("connection", reason, retryable=True, charged=not never_sent)

    def _timeout(self, *, charged: bool) -> Fault:
        return Fault("timeout", f"no answer within {self._config.timeout:g} s", retryable=True, charged=charged)


@asynccontextmanager
async def open_wire(config: EndpointConfig, key: str, interface: Interface) -> AsyncIterator[Wire]:
    """A wire that is closed at the end.

    Raises:
        TeacherError: the address is none.
    """
    # aiohttp beneath: it drops a connection on which more came than was asked for, where the usual transport takes the
    # surplus for the answer to the next question; and it needs less time a call.
    limits = httpx2.Limits(max_connections=config.concurrency, max_keepalive_connections=config.concurrency)
    try:
        client = AsyncOpenAI(
            # Without one the client would look for a key of its own; the header is left out with every call.
            api_key=key or "none",
            base_url=config.base_url,
            max_retries=0,
            timeout=config.timeout,
            # The client would take the key along to wherever it is sent.
            http_client=DefaultAioHttpClient(limits=limits, timeout=config.timeout, follow_redirects=False),
        )
    except Exception as error:
        raise TeacherError(
            f"cannot speak to {shown_address(config.base_url or '')}: {error}", hint="check base_url"
        ) from error
    async with client:
        yield Wire(client, config, key, interface)
