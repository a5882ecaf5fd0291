"""Bundles as an answer writes them: the text a student learns, and whatever a model says read back.

Items are named by their number in the session, counted from 1. What a student learns is JSON:

```text
{"bundles": [{"items": [1, 12], "intent": "travel power"}, {"items": [3, 4]}]}
```

Reading is lenient in form and strict in content: JSON first – ours, `{"bundle1": ["product1", "product2"]}`, lists of
numbers, several objects, an answer cut short – then free text, line by line or bundle by bundle. A number is read
whole, whatever its length. What cannot be read is None, which a metric counts as no bundle at all.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

UNKNOWN = 0
"""Stands for whatever an answer names that is no number: it is in no session, so its bundle hits nothing."""
_TRIES = 100  # places where JSON may begin; an answer of brackets alone would take quadratic time

_ITEM_KEYS = ("items", "products", "item_ids", "ids")
_INTENT_KEYS = ("intent", "intention", "name", "theme")
_ITEM = re.compile(r"\s*(?:item|product|no\.?|number|#)?\s*[-_ #]?\s*(\d{1,18})\s*", re.IGNORECASE)
_WORD = r"(?:(?:items?|products?|nos?\.|#)\s*#?\s*)"
_NUMBER = r"\d{1,18}(?![\d%]|\.\d)"
_MORE = rf"(?:\s*(?:,\s*and|,|and|&|\+)\s*{_WORD}?{_NUMBER})*"
_NAMED = re.compile(rf"\b{_WORD}{_NUMBER}{_MORE}|#\s*{_NUMBER}{_MORE}", re.IGNORECASE)
_BARE = re.compile(rf"\s*[\[({{]?\s*{_NUMBER}{_MORE}\s*[\])}}]?", re.IGNORECASE)
_MARK = re.compile(r"^\W*bundle\s*#?\d*[^\w#\[({]*", re.IGNORECASE)
_BULLET = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+")
_INTENT = re.compile(r"\bintent(?:ion)?\s*[:=–—-]\s*[\"“']?([^\"”\n]+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Bundle:
    """Items that are bought together, by their number in the session, and what for.

    Attributes:
        items: numbers counted from 1, each once, ascending; `UNKNOWN` for whatever is no number.
        intent: a few words; empty where none is given.
    """

    items: tuple[int, ...]
    intent: str = ""

    @classmethod
    def of(cls, items: Iterable[int], intent: str = "") -> Bundle:
        """A bundle of these items in whatever order, twice or not."""
        return cls(tuple(sorted(set(items))), " ".join(intent.split()))


def write_answer(bundles: Iterable[Bundle]) -> str:
    """The answer of a session as a student learns it; a bundle without intent has none."""
    rows = [{"items": list(b.items)} | ({"intent": b.intent} if b.intent else {}) for b in bundles]
    return json.dumps({"bundles": rows}, ensure_ascii=False)


def read_answer(text: str) -> tuple[Bundle, ...] | None:
    """The bundles of an answer, in its order, as often as they stand there; None where there is nothing to read."""
    found = _from_json(text)
    if found is None and "'" in text and '"' not in text:
        found = _from_json(text.replace("'", '"'))  # a Python dictionary
    return _from_text(text) if found is None else found


# JSON -----------------------------------------------------------------------------------------------------------------


def _from_json(text: str) -> tuple[Bundle, ...] | None:
    """Of several values the last that holds a list of bundles, else all that are one."""
    parts = [part for value in _values(text) if (part := _bundles_of(value)) is not None]
    whole = [bundles for bundles, is_list in parts if is_list]
    if whole:
        return whole[-1]
    return tuple(bundle for bundles, _ in parts for bundle in bundles) if parts else None


def _values(text: str) -> list[Any]:
    """JSON objects and lists in a text, from left to right, those within another left out."""
    decoder, values, place = json.JSONDecoder(), [], 0
    for _ in range(_TRIES):
        start = min((n for mark in "{[" if (n := text.find(mark, place)) >= 0), default=-1)
        if start < 0:
            break
        try:
            value, place = decoder.raw_decode(text, start)
            values.append(value)
        except (ValueError, RecursionError):
            place = start + 1
    return values


def _bundles_of(value: Any) -> tuple[tuple[Bundle, ...], bool] | None:
    """The bundles that a value stands for, and whether it is a list of them; None where it is something else."""
    if isinstance(value, Mapping) and "bundles" in value:
        value = value["bundles"]
        if value in ([], {}):
            return (), True
    if (single := _bundle_of(value)) is not None:
        return (single,), False
    parts = list(value.values()) if isinstance(value, Mapping) else value
    if not isinstance(parts, list) or not parts:
        return None
    bundles = [_bundle_of(part) for part in parts]
    return None if None in bundles else (tuple(filter(None, bundles)), True)


def _bundle_of(value: Any) -> Bundle | None:
    """One bundle: a list of items, or an object with a field of these."""
    if isinstance(value, Mapping):
        items = next((value[key] for key in _ITEM_KEYS if isinstance(value.get(key), list)), None)
        intent = next((value[key] for key in _INTENT_KEYS if isinstance(value.get(key), str)), "")
        return None if items is None else Bundle.of(map(_item_of, items), intent)
    if isinstance(value, list) and value and all(isinstance(item, int | float | str) for item in value):
        numbers = [_item_of(item) for item in value]
        return Bundle.of(numbers) if any(numbers) else None
    return None


def _item_of(value: Any) -> int:
    if isinstance(value, bool):
        return UNKNOWN
    if isinstance(value, int | float):
        return int(value) if value == value and 0 < value < 10**18 and value == int(value) else UNKNOWN
    match = _ITEM.fullmatch(value) if isinstance(value, str) else None
    return int(match[1]) if match else UNKNOWN


# Free text ------------------------------------------------------------------------------------------------------------


def _from_text(text: str) -> tuple[Bundle, ...] | None:
    bundles = [bundle for block in _blocks(text) if (bundle := _bundle_in(block)) is not None]
    return tuple(bundles) or None


def _blocks(text: str) -> list[Sequence[str]]:
    """Lines that speak of one bundle: from one `Bundle …` to the next, or each by itself where none is so marked."""
    lines = [line for line in re.split(r"[\n;]+", text) if line.strip()]
    starts = [number for number, line in enumerate(lines) if _MARK.match(_BULLET.sub("", line))]
    if not starts:
        return [[line] for line in lines]
    return [lines[start:end] for start, end in zip(starts, [*starts[1:], len(lines)], strict=True)]


def _bundle_in(block: Sequence[str]) -> Bundle | None:
    lines = [_BULLET.sub("", line) for line in block]
    marked = _MARK.match(lines[0]) is not None
    lines[0] = _MARK.sub("", lines[0])
    numbers = [number for line in lines for number in _numbers_in(_INTENT.sub("", line))]
    if len(numbers) < (1 if marked else 2):
        return None
    return Bundle.of(numbers, _intent_in(lines))


def _numbers_in(line: str) -> list[int]:
    """Items that a line names: those called so, or else the numbers that it begins with."""
    named = [match[0] for match in _NAMED.finditer(line)]
    bare = _BARE.match(line)
    mentions = named or ([bare[0]] if bare else [])
    return [int(number) for mention in mentions for number in re.findall(r"\d+", mention)]


def _intent_in(lines: Sequence[str]) -> str:
    """What stands behind `intent:`, else behind the items of the first line."""
    explicit = next((match[1] for line in lines if (match := _INTENT.search(line))), None)
    if explicit is None:
        rest = _BARE.sub("", _NAMED.sub("", lines[0]), count=1)
        explicit = re.sub(r"^\W*(?:for|because of|go together)?\W*", "", rest)
    return explicit.strip(" .,:;()[]\"'”“–—-")
