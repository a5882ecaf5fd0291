"""What models think before they answer, and the tags between which they do, in the forms that the field uses."""

from __future__ import annotations

import re

_TAG = "(think|thinking|thought|reasoning)>"
OPENS = re.compile(f"<{_TAG}", re.IGNORECASE)
"""Begins a thought."""
CLOSES = re.compile(f"</{_TAG}", re.IGNORECASE)
"""Ends one."""
TAG = re.compile(f"</?{_TAG}", re.IGNORECASE)
"""Either of the two."""
ENDS_OPEN = re.compile(f"<{_TAG}\\s*$", re.IGNORECASE)
"""A text that ends just inside a thought."""
UNCLOSED = "a thought that was never closed"
"""Why a text is rejected of which `without_thought` leaves nothing."""


def without_thought(text: str) -> str | None:
    """A text without the thoughts that stand before it; as it is where there is none.

    Where the template has opened the thought in the prompt, a server gives its second half alone: whatever stands
    before a closing tag that nothing opens is thought too. Tags inside a text that begins otherwise are its own.

    Args:
        text: of a model.

    Returns:
        What stands behind the closing tag, without blanks around it; None where a thought never closes, so that
        nothing of the text is an answer.
    """
    rest = text.strip()
    while tag := TAG.search(rest):
        if tag.start() == 0 and not tag[0].startswith("</"):
            close = re.compile(f"</{tag[1]}>", re.IGNORECASE).search(rest)
            if close is None:
                return None
            rest = rest[close.end() :].strip()
        elif tag[0].startswith("</"):
            rest = rest[tag.end() :].strip()
        else:
            break
    return text if len(rest) == len(text.strip()) else rest


def has_thought(text: str) -> bool:
    """Whether a thought stands before a text, closed or not."""
    return without_thought(text) != text
