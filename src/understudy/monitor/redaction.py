"""Texts without what nobody should keep, before anything is written."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

HIDDEN = "[redacted]"


class Redaction:
    """Replaces whatever a pattern matches.

    Args:
        patterns: regular expressions.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = [re.compile(pattern) for pattern in patterns]

    def __call__(self, value: Any) -> Any:
        """The same value with every string in it redacted; keys of objects too, for a client chooses them."""
        if isinstance(value, str):
            return self._text(value)
        if isinstance(value, dict):
            return {self(key): self(content) for key, content in value.items()}
        if isinstance(value, list | tuple):
            return [self(content) for content in value]
        return value

    def _text(self, text: str) -> str:
        for pattern in self._patterns:
            text = pattern.sub(HIDDEN, text)
        # PostgreSQL takes neither a zero nor half a surrogate pair.
        return text.replace("\0", "").encode("utf-8", "replace").decode()
