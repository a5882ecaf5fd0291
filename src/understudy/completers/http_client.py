"""One call over HTTP, with OpenAI's own client: bytes out, bytes back, every fault by its name."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient, Omit

from understudy.completers.cache import CachedAnswer, clean
from understudy.completers.faults import Fault, status_fault
from understudy.completers.response_parsing import read_body
from understudy.completers.usage import Usage
from understudy.errors import TeacherError
from understudy.recipe import EndpointConfig
from understudy.types import Request

_LONGEST_MESSAGE = 300


class Wire:
    """Sends requests to one endpoint.

    An endpoint that does not know a parameter is asked without it from then on, and the usage says so: not all
    know `response_format`, some have renamed `max_tokens`, some choose the temperature themselves.
    """

    def __init__(self, client: AsyncOpenAI, config: EndpointConfig, key: str, usage: Usage) -> None:
        self._client = client
        self._config = config
        self._key = key
        self._usage = usage
        self._unknown: set[str] = set()
        self._headers = {name: Omit() for name in ("OpenAI-Organization", "OpenAI-Project")}
        if not key:
            self._headers["Authorization"] = Omit()

    async def send(self, request: Request) -> CachedAnswer:
        """Ask once.

        Raises:
            Fault: no answer, by kind.
            TeacherError: the endpoint will answer nothing at all.
        """
        while True:
            body = self._body(request)
            try:
                return await self._send(body)
            except APIStatusError as error:
                message = self._words(error)
                if error.status_code in (400, 422) and self._learn(body, message):
                    continue
                raise status_fault(
                    error.status_code, message, error.response.headers, key_variable=self._config.api_key_env
                ) from error

    async def _send(self, body: dict[str, Any]) -> CachedAnswer:
        begin = time.perf_counter()
        try:
            # `chat.completions.create` would walk body and answer field by field, for a third of the time of a call.
            # The client's own timeout counts from byte to byte; an endpoint that trickles would hold on for ever.
            async with asyncio.timeout(self._config.timeout):
                response = await self._client.post(
                    "/chat/completions", cast_to=httpx2.Response, body=body, options={"headers": self._headers}
                )
        except TimeoutError as error:
            raise self._timeout(charged=True) from error
        except APIConnectionError as error:
            raise self._unconnected(error) from error
        return read_body(response.content, time.perf_counter() - begin)

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
        reason = " ".join(f"{type(cause).__name__} {clean(str(cause))}".split())
        return Fault("connection", reason[:_LONGEST_MESSAGE], retryable=True, charged=not never_sent)

    def _timeout(self, *, charged: bool) -> Fault:
        return Fault("timeout", f"no answer within {self._config.timeout:g} s", retryable=True, charged=charged)

    def _body(self, request: Request) -> dict[str, Any]:
        config = self._config
        longest = config.max_tokens if request.max_tokens is None else request.max_tokens
        body: dict[str, Any] = {
            "model": config.model,
            "messages": [{"role": turn.role, "content": clean(turn.content)} for turn in request.messages],
            "temperature": config.temperature if request.temperature is None else request.temperature,
            "max_completion_tokens" if "max_tokens" in self._unknown else "max_tokens": longest,
        }
        if request.schema is not None:
            form = {"name": "answer", "schema": dict(request.schema)}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        for name in self._unknown & {"temperature", "response_format"}:
            body.pop(name, None)
        return body

    def _learn(self, body: dict[str, Any], message: str) -> bool:
        """Whether the endpoint complained of a parameter that it can be asked without."""
        named = {"response_format": ("response_format", "json_schema"), "temperature": ("temperature",)}
        named["max_tokens"] = ("max_completion_tokens",)
        for parameter, words in named.items():
            if parameter in body and any(word in message for word in words):
                self._unknown.add(parameter)
                self._usage.note(f"the endpoint does not take {parameter}; it was asked without ({message})")
                return True
        return False

    def _words(self, error: APIStatusError) -> str:
        """The endpoint's message in one line, without the key, whatever form it came in."""
        body = error.body
        message = body.get("message") if isinstance(body, dict) else body
        text = " ".join(clean(str(message or "")).split())[:_LONGEST_MESSAGE]
        return text.replace(self._key, "***") if self._key else text


@asynccontextmanager
async def open_wire(config: EndpointConfig, key: str, usage: Usage) -> AsyncIterator[Wire]:
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
            http_client=DefaultAioHttpClient(limits=limits, timeout=config.timeout),
        )
    except Exception as error:
        raise TeacherError(f"cannot speak to {config.base_url}: {error}", hint="check base_url") from error
    async with client:
        yield Wire(client, config, key, usage)
