"""Every error that a user can cause, in one tree.

```text
UnderstudyError
├── ConfigError          the recipe or the command line is wrong
├── DataError            a file, a row or a split is wrong
│   └── TooLong              a row does not fit into the tokens that a model is given
├── ModelError           a model or tokenizer cannot be used as asked
│   └── VocabularyMismatch   the method needs one vocabulary and got two
├── TeacherError         a teacher did not answer (`retryable` says whether asking again can help)
└── RunError             a run folder, a stage or the machine under it failed
```

The command line prints `message` as one line and `hint` as a second; anything else is a bug and shows its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UnderstudyError(Exception):
    """What went wrong in one line (`message`) and what to do about it (`hint`)."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple:
        """Pickled with its hint, for errors of worker processes are raised again in the parent."""
        return (_rebuild, (type(self), self.message, self.__dict__))

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


def _rebuild(kind: type[UnderstudyError], message: str, state: dict) -> UnderstudyError:
    error = kind(message)
    error.__dict__.update(state)
    return error


class ConfigError(UnderstudyError):
    """The recipe or the command line is wrong."""


class DataError(UnderstudyError):
    """A file, a row or a split is wrong."""


class TooLong(DataError):
    """A row does not fit into `data.max_length` tokens; `needed` would do."""

    def __init__(self, message: str, *, needed: int = 0, hint: str = "raise data.max_length") -> None:
        super().__init__(message, hint=hint)
        self.needed = needed


class ModelError(UnderstudyError):
    """A model or tokenizer cannot be used as asked."""


class VocabularyMismatch(ModelError):
    """The method needs teacher and student to share a vocabulary, and they do not."""


class TeacherError(UnderstudyError):
    """A teacher did not answer."""

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable


class RunError(UnderstudyError):
    """A run folder, a stage or the machine under it failed."""


MOST_LISTED = 12
"""Names of a user's own that one line lists: a file may have 10,000 keys."""
MOST_CHARACTERS = 60
"""Longest name in a line; of a longer one its beginning is shown."""


_MOST_KNOWN = 40


def listed(
    names: Iterable[object], most: int = MOST_LISTED, *, separator: str = ", ", longest: int = MOST_CHARACTERS
) -> str:
    """Names in a line, the first of them where there are many: `a, b … and 9,998 more`; `none` where there is none.

    Args:
        names: whatever a user, a file or a model brought; empty ones are left out.
        most: how many are shown.
        separator: what stands between them.
        longest: how many characters are shown of one.
    """
    filled = [shortened(name, longest) for name in map(str, names) if name]
    more = f" … and {len(filled) - most:,} more" if len(filled) > most else ""
    return (separator.join(filled[:most]) or "none") + more


def shortened(text: str, most: int = MOST_CHARACTERS) -> str:
    """A text of somebody else's as a message shows it, cut where it is long."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def nearest(name: str, known: Iterable[str], *, cutoff: float = 0.5) -> str:
    """The known name that a mistyped one most resembles; empty where none comes near.

    Args:
        name: as it was typed.
        known: the names there are.
        cutoff: least similarity, from 0 (whichever is the nearest) to 1 (the same).
    """
    return next(iter(difflib.get_close_matches(name, list(known), n=1, cutoff=cutoff)), "")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Advice about a mistyped name: the nearest known one, or where none comes near all of them."""
    known = list(known)
    near = nearest(name, known)
    return f"did you mean `{near}`?" if near else f"known here: {listed(known, _MOST_KNOWN)}"


def unknown(kind: str, name: str, known: Iterable[str], *, where: str = "", hint: str = "") -> ConfigError:
    """The error of a name that nothing is called by.

    Args:
        kind: of thing, as a noun: `metric`, `divergence`.
        name: as the user wrote it.
        known: the names there are; the hint has the nearest, and all of them.
        where: the field that it stands in, before the message.
        hint: what else can be done, behind the names.
    """
    known = list(known)
    near = nearest(name, known)
    parts = [f"did you mean `{near}`?"] if near else []
    parts.append(f"known: {listed(known, _MOST_KNOWN)}" + (f"; {hint}" if hint else ""))
    return ConfigError(f"{where + ': ' if where else ''}there is no {kind} {shortened(name)!r}", hint=" ".join(parts))
