"""What went wrong, in OpenAI's form: a status, a sentence and a code, and nothing of what goes on inside."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.responses import Response

from understudy.completers.cache import clean
from understudy.errors import ConfigError, DataError, TooLong, UnderstudyError, shortened
from understudy.serve.limits import Refused
from understudy.serve.work import EngineFault

_KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class ApiError(Exception):
    """An answer that is a refusal.

    Attributes:
        status: of HTTP.
        code: what went wrong, in a word that a program can go by.
        headers: further ones.
    """

    def __init__(self, status: int, message: str, code: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, dict(headers or {})

    @property
    def body(self) -> dict[str, Any]:
        """In OpenAI's form."""
        kind = _KINDS.get(self.status, "invalid_request_error" if self.status < 500 else "server_error")
        message = shortened(clean(self.message), 1000)
        return {"error": {"message": message, "type": kind, "param": None, "code": self.code}}


def as_api_error(error: UnderstudyError) -> ApiError:
    """A fault of the house as a client is told it."""
    message = f"{error.message}; {error.hint}" if error.hint else error.message
    if isinstance(error, Refused):
        return ApiError(429, message, error.code, {"Retry-After": f"{error.wait:.0f}"})
    if isinstance(error, EngineFault):
        wait = 1 if error.wait is None else error.wait
        return ApiError(503, message, "engine", {"Retry-After": f"{max(1, round(wait))}"})
    if isinstance(error, TooLong):
        return ApiError(400, error.message, "context_length_exceeded")
    if isinstance(error, ConfigError):
        return ApiError(404, message, "model_not_found")
    if isinstance(error, DataError):
        return ApiError(400, message, "bad_question")
    return ApiError(500, "something failed in the server; its log says what", "internal")


def of_validation(error: RequestValidationError) -> ApiError:
    """A body that has not the form: the field and what is wrong with it, without a word of the body."""
    first = error.errors()[0] if error.errors() else {"loc": (), "msg": "the body has not the form that is wanted"}
    place = ".".join(str(part) for part in first["loc"] if part != "body")
    if first.get("type") == "json_invalid":
        return ApiError(400, "the body is no JSON", "bad_json")
    message = str(first["msg"]).removeprefix("Value error, ")
    return ApiError(400, f"{place}: {message}" if place and not message.startswith(place) else message, "bad_request")


class Json(Response):
    """JSON in ASCII: whatever characters a model or a client brings, it can be written."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """The bytes."""
        return json.dumps(content, allow_nan=False, separators=(",", ":")).encode("ascii")


def response_of(error: ApiError) -> Json:
    """The error as a response."""
    return Json(error.body, error.status, error.headers)
