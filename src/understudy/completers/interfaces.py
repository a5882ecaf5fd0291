"""How a request is put to an endpoint over HTTP, and how what comes back is read: chat, and the contract of others."""

from __future__ import annotations

from typing import Any, Protocol

from understudy.completers.cache import CachedAnswer, clean
from understudy.completers.response_parsing import read_body
from understudy.completers.usage import Usage
from understudy.recipe import EndpointConfig
from understudy.types import Request


class Interface(Protocol):
    """One way to ask an endpoint; it may learn, while it asks, what this one does not take."""

    def address(self, base_url: str) -> str:
        """Where is asked: a path below `base_url`, or a whole address."""
        ...

    def body(self, request: Request) -> dict[str, Any]:
        """What is sent."""
        ...

    def read(self, content: bytes, request: Request, seconds: float) -> CachedAnswer:
        """The answer that a body of status 200 holds.

        Raises:
            EndpointError: it is an error, whatever its status was.
            Fault: it holds no answer.
            TeacherError: the endpoint will give no such answer at all.
        """
        ...

    def value(self, text: str, request: Request) -> Any:
        """What the text of an answer means, where it is no text to read.

        Raises:
            Fault: it means nothing.
        """
        ...

    def learn(self, body: dict[str, Any], message: str) -> bool:
        """Whether the endpoint complained of a parameter that it can be asked without from now on."""
        ...


class Chat:
    """Chat completions.

    An endpoint that does not know a parameter is asked without it from then on, and the usage says so: not all
    know `response_format`, some have renamed `max_tokens`, some choose the temperature themselves.
    """

    def __init__(self, config: EndpointConfig, usage: Usage) -> None:
        self._config, self._usage = config, usage
        self._unknown: set[str] = set()

    def address(self, base_url: str) -> str:
        """See `Interface`."""
        return "/chat/completions"

    def read(self, content: bytes, request: Request, seconds: float) -> CachedAnswer:
        """See `Interface`."""
        return read_body(content, seconds)

    def value(self, text: str, request: Request) -> None:
        """See `Interface`: it is a text."""
        return

    def body(self, request: Request) -> dict[str, Any]:
        """See `Interface`."""
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

    def learn(self, body: dict[str, Any], message: str) -> bool:
        """See `Interface`."""
        named = {"response_format": ("response_format", "json_schema"), "temperature": ("temperature",)}
        named["max_tokens"] = ("max_completion_tokens",)
        for parameter, words in named.items():
            if parameter in body and any(word in message for word in words):
                self._unknown.add(parameter)
                self._usage.note(f"the endpoint does not take {parameter}; it was asked without ({message})")
                return True
        return False
