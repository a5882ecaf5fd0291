"""Words of an endpoint without what looks like a key: they end in messages, reasons, files and reports."""

from __future__ import annotations

import re
from urllib.parse import quote, urlsplit

from understudy.completers.cache import clean

HIDDEN = "***"
LONGEST_MESSAGE = 300
"""Characters of an endpoint's words that are shown."""

_SHORTEST_PART = 8
_LONGEST_TEXT = 10_000
_KEY_LIKE = re.compile(r"\b(?:sk|pk|rk|hf|gsk|xai|nvapi|key)[-_][\w.-]{8,}|\bAIza[\w-]{20,}", re.IGNORECASE)
_LABELLED = re.compile(
    r"""((?:authorization|bearer|api[-_ ]?key|token|password|secret)[\w ]{0,20}["']?\s*[:=\s]\s*["']?(?:bearer\s+)?)"""
    r"""(?=[^\s"',;]*\d)[^\s"',;]{12,}""",
    re.IGNORECASE,
)


def redacted(text: str, key: str = "") -> str:
    """A text in one line, without the key, its beginning or its end, and without what looks like another key.

    An endpoint that refuses a key often gives it back, cut or whole. Hidden are also keys that are not ours: a proxy
    may echo its own.

    Args:
        text: an endpoint's words.
        key: what was sent as key; empty where none was.

    Returns:
        At most `LONGEST_MESSAGE` characters.
    """
    line = " ".join(clean(text[:_LONGEST_TEXT]).split())
    for whole in dict.fromkeys((key, quote(key, safe=""))):
        line = _without(line, whole)
    line = _LABELLED.sub(rf"\g<1>{HIDDEN}", _KEY_LIKE.sub(HIDDEN, line))
    return line[:LONGEST_MESSAGE]


def _without(line: str, key: str) -> str:
    if not key:
        return line
    line = line.replace(key, HIDDEN)
    for length in range(len(key) - 1, _SHORTEST_PART - 1, -1):
        line = line.replace(key[:length], HIDDEN).replace(key[-length:], HIDDEN)
    return line


def shown_address(address: str) -> str:
    """An address without name, password and query."""
    parts = urlsplit(address)
    host = parts.hostname or ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{host}{port}{parts.path}"
