"""Text as it comes: whole characters, no thoughts, nothing behind a stop text, and nothing taken back."""

from __future__ import annotations

from collections.abc import Sequence

from understudy.tokens.template import Template
from understudy.tokens.thoughts import without_thought

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"
_LONGEST_TAG = 12


class TextStream:
    """The text of one answer while it is written; in the end it is what a run writes into its predictions.

    Args:
        stop: texts that end the answer.
        plain: whether it goes on behind a text, so that blanks count and tags are no thoughts.

    Attributes:
        sent: all characters so far.
        stopped: whether a stop text has come.
    """

    def __init__(self, stop: Sequence[str] = (), *, plain: bool = False) -> None:
        self._stop, self._plain = tuple(stop), plain
        self.sent = ""
        self.stopped = False

    def advance(self, text: str, *, last: bool = False) -> str:
        """The characters that are new and certain.

        Args:
            text: all that the model has written.
            last: whether it is at its end, so that nothing is held back.
        """
        if self.stopped:
            return ""
        text = self._visible(text, last)
        places = [place for stop in self._stop if (place := text.find(stop)) >= 0]
        if places:
            text, self.stopped = text[: min(places)], True
        elif not last:
            text = text[: len(text) - self._held(text)]
        if not text.startswith(self.sent):
            return ""  # A character is being put together anew; it comes with the next token.
        further, self.sent = text[len(self.sent) :], text
        return further

    def _visible(self, text: str, last: bool) -> str:
        if self._plain:
            return text
        text = text.strip()
        if not last and text.startswith("<") and len(text) <= _LONGEST_TAG and ">" not in text:
            return ""  # It may become the tag of a thought.
        return without_thought(text) or ""

    def _held(self, text: str) -> int:
        """Characters at the end that may be half of a character or the beginning of a stop text."""
        unfinished = len(text) - len(text.rstrip(_UNFINISHED))
        return max([unfinished, *(_overlap(text, stop) for stop in self._stop)])


class TokenStream:
    """A text stream that is fed with token ids.

    Args:
        template: of the model.
        stream: of the text.
        plain: as of the stream.
        at_once: whether nobody looks at the text before its end and nothing in it ends it.
    """

    def __init__(self, template: Template, stream: TextStream, *, plain: bool, at_once: bool) -> None:
        self._template, self._stream, self._plain, self._at_once = template, stream, plain, at_once
        self._ids: list[int] = []

    @property
    def stopped(self) -> bool:
        """Whether a stop text has come."""
        return self._stream.stopped

    def add(self, token: int) -> str:
        """The characters that are certain with one token more."""
        self._ids.append(token)
        return "" if self._at_once else self._stream.advance(self._text())

    def end(self) -> str:
        """The characters that were held back."""
        return self._stream.advance(self._text(), last=True)

    def _text(self) -> str:
        return self._template.spelled(self._ids) if self._plain else self._template.decode(self._ids)


def _overlap(text: str, stop: str) -> int:
    """How much of the beginning of a stop text stands at the end of a text."""
    return next((n for n in range(min(len(stop), len(text)), 0, -1) if text.endswith(stop[:n])), 0)
