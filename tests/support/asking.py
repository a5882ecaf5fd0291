"""Short ways to ask a server of `servers.py`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from support.servers import Server
from understudy.completers.openai_completer import ApiCompleter
from understudy.recipe import EndpointConfig
from understudy.types import Completion, Message, Request

KEY_VARIABLE = "UNDERSTUDY_TEST_KEY"


def completer(server: Server | str, folder: Path | None = None, *, account: str = "", **settings: Any) -> ApiCompleter:
    """A completer that waits little between its attempts, and takes no key but that of `KEY_VARIABLE`."""
    address = server if isinstance(server, str) else server.base_url
    fields = {"model": "m", "base_url": address, "timeout": 30.0, "api_key_env": KEY_VARIABLE, **settings}
    return ApiCompleter(EndpointConfig(**fields), folder, account=account, backoff=0.01)


def question(text: str, *, name: str | None = None, **others: Any) -> Request:
    return Request(text if name is None else name, (Message("user", text),), **others)


def questions(num: int, **others: Any) -> list[Request]:
    return [question(f"q{number}", **others) for number in range(num)]


def by_id(completions: Iterable[Completion]) -> dict[str, Completion]:
    """Completions by id; no id may come twice."""
    found: dict[str, Completion] = {}
    for completion in completions:
        assert completion.id not in found
        found[completion.id] = completion
    return found
