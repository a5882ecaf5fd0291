"""Who answers where no step asks: nobody."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from understudy.errors import ConfigError
from understudy.types import Completion, Request


class Nobody:
    """A completer that must not be asked."""

    name = "nobody"

    def complete(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Nothing for nothing.

        Raises:
            ConfigError: something is asked.
        """
        for request in requests:
            raise ConfigError(f"there is no teacher to ask about {request.id}", hint="name one in generate.teacher")
        return iter(())
