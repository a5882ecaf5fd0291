"""JSON that nobody here wrote, read without surprises: every fault is one class, and none brings the process down.

Python's own reader answers a number of 5,000 digits with a bare `ValueError`, 100,000 brackets with a `RecursionError`,
a key that stands twice with the last of its values, and `1e400` with infinity. Whoever reads rows, cells, files or the
body of an endpoint reads them by `parse_json` and catches `JsonFault`, which is all that it raises:

```python
try:
    value = parse_json(body, finite=True)
except JsonFault as fault:
    ...  # fault.reason in words; fault.line, counted from 1, or 0 where it is not known
```
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from typing import Any, NoReturn

MAX_DEPTH = 100
"""Deepest nesting of lists and objects. What is deeper is no data, and code that walks it would run out of stack."""
MAX_DIGITS = 4300
"""Longest integer, as Python bounds it: the time to read one grows with the square of its digits."""

_LONG_NUMBER = re.compile(rf"\d{{{MAX_DIGITS + 1}}}")


class JsonFault(ValueError):
    """Why a text is no JSON that can be used.

    Attributes:
        reason: in words, to stand behind a place: `not valid JSON: Expecting value`.
        line: where it is, counted from 1; 0 where that is not known.
        syntax: whether it is no JSON at all, rather than JSON beyond a bound.
    """

    def __init__(self, reason: str, line: int = 0, *, syntax: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.line = line
        self.syntax = syntax

    def at(self, name: object) -> str:
        """File, line where it is known, and reason: `rows.json:3: not valid JSON: …`."""
        return f"{name}{f':{self.line}' if self.line else ''}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Stands where a value stood that could not be read, so that its neighbours can be."""

    reason: str

    def __str__(self) -> str:
        return f"<{self.reason}>"


def parse_json(text: str | bytes, *, finite: bool = False, keep_going: bool = False) -> Any:
    """The value of a JSON text.

    Args:
        text: one JSON document; bytes are UTF-8, UTF-16 or UTF-32, as JSON allows.
        finite: refuse `NaN`, `Infinity` and numbers beyond a float's range, which JSON knows not. Off for data, where
            `NaN` is what pandas writes for nothing.
        keep_going: put `Unreadable` where a number is too long or an object has one key twice, instead of raising.

    Raises:
        JsonFault: no JSON, no Unicode, nested deeper than `MAX_DEPTH`, an integer longer than `MAX_DIGITS`, one key
            twice in an object, or a number that `finite` refuses.
    """

    def refuse(reason: str) -> Any:
        if keep_going:
            return Unreadable(reason)
        raise JsonFault(reason)

    def integer(digits: str) -> Any:
        return int(digits) if len(digits) <= MAX_DIGITS else refuse(f"a number of {len(digits):,} digits")

    def fields(pairs: list[tuple[str, Any]]) -> Any:
        value = dict(pairs)
        return value if len(value) == len(pairs) else refuse(f"the key {_repeated(pairs)!r} stands twice")

    hooks: dict[str, Any] = {"parse_float": _finite, "parse_constant": _constant} if finite else {}
    try:
        value = json.loads(text, parse_int=integer, object_pairs_hook=fields, **hooks)
    except JsonFault as fault:
        raise JsonFault(fault.reason, _line_of_long_number(text)) from None
    except json.JSONDecodeError as error:
        raise JsonFault(f"not valid JSON: {error.msg}", error.lineno, syntax=True) from error
    except UnicodeDecodeError as error:
        raise JsonFault(f"not valid Unicode (byte {error.start})", syntax=True) from error
    except RecursionError as error:
        raise JsonFault(_TOO_DEEP) from error
    if _is_deep(value):
        raise JsonFault(_TOO_DEEP)
    return value


_TOO_DEEP = f"not valid JSON: nested deeper than {MAX_DEPTH} levels"


def unreadable_in(value: Any) -> str:
    """Why some part of a value read with `keep_going` could not be read; empty where all could."""
    level = [value]
    while level:
        for part in level:
            if isinstance(part, Unreadable):
                return part.reason
        level = _children(level)
    return ""


def _children(level: list[Any]) -> list[Any]:
    """Whatever stands one level deeper, numbers and texts left out."""
    containers = (part.values() if isinstance(part, dict) else part for part in level if isinstance(part, dict | list))
    return [child for parts in containers for child in parts if isinstance(child, dict | list | Unreadable)]


def _is_deep(value: Any) -> bool:
    level = [value] if isinstance(value, dict | list) else []
    for _ in range(MAX_DEPTH):
        level = _children(level)
        if not level:
            return False
    return True


def _repeated(pairs: list[tuple[str, Any]]) -> str:
    seen: set[str] = set()
    name = next(key for key, _ in pairs if key in seen or seen.add(key))
    return name if len(name) <= 60 else f"{name[:59]}…"


def _line_of_long_number(text: str | bytes) -> int:
    number = _LONG_NUMBER.search(text) if isinstance(text, str) else None
    return text.count("\n", 0, number.start()) + 1 if isinstance(text, str) and number else 0


def _finite(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _constant(digits)


def _constant(name: str) -> NoReturn:
    raise JsonFault(f"the number {name[:20]}, which JSON does not have")
