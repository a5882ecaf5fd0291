"""From the many ways to name the right option to the option itself."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from understudy.data.rows import BadRow, as_text, as_texts, missing, required, unpack

_NUMBER = re.compile(r"(?:option|choice|answer)?[\s_]*\(?(\d{1,4})\)?[.):]?", re.IGNORECASE)
_LETTER = re.compile(r"(?:option|choice|answer)?[\s_]*\(?([A-Z])\)?[.):]?", re.IGNORECASE)
_LABELLED = re.compile(
    r"(?:(?:option|choice|answer)[\s_]*(\d{1,4}|[A-Z])|\(?(\d{1,4}|[A-Z])[.):])\s*[:.)]?\s*(.+)", re.I | re.S
)
_OPTION_COLUMN = re.compile(r"(?:option|choice)(?:[\s_]?(\d+)|[\s_]([a-z]))", re.IGNORECASE)


def choice_label(place: int) -> str:
    """The letter of an option counted from 0: A … Z, AA, AB …."""
    prefix = choice_label(place // 26 - 1) if place >= 26 else ""
    return prefix + chr(ord("A") + place % 26)


def option_columns(fields: Mapping[str, Any]) -> list[str]:
    """The columns `option 1`, `Option_2`, `choice a` … in their order."""
    matches = ((_OPTION_COLUMN.fullmatch(str(name).strip()), name) for name in fields)
    labelled = [((match[1] or match[2]).lower(), name) for match, name in matches if match]
    return [name for _, name in sorted(labelled, key=lambda pair: (len(pair[0]), pair[0]))]


def option_texts(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """The options that stand in columns of their own; the last columns may be empty, one between may not.

    Raises:
        BadRow: fewer than two options, an empty one before the last, or one that is no text.
    """
    names = option_columns(fields)
    while names and missing(fields[names[-1]]):
        names.pop()
    if len(names) < 2:
        raise BadRow("option 2", "missing; a choice needs two options or more")
    return tuple(required(fields, name) for name in names)


def read_choices(value: Any, field: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Options and their labels (empty where they have none).

    Read are lists of texts, lists of `{label, text}` objects, `{label: […], text: […]}` and JSON text of these.

    Raises:
        BadRow: fewer than two options, or one that is empty or no text.
    """
    value = unpack(value, field, never_text=True)
    labels: tuple[str, ...] = ()
    if isinstance(value, Mapping) and "label" in value:
        labels = as_texts(value["label"], f"{field}.label")
    elif isinstance(value, list) and value and all(isinstance(item, Mapping) and "label" in item for item in value):
        labels = tuple(as_text(item["label"], f"{field}[{place}].label") for place, item in enumerate(value))
    texts = as_texts(value, field) if not _blank_list(value) else ()
    if len(texts) < 2:
        raise BadRow(field, f"{len(texts) or 'no'} option{'s' if len(texts) != 1 else ''}; a choice needs two or more")
    if labels and len(labels) != len(texts):
        raise BadRow(field, f"{len(labels)} labels for {len(texts)} options")
    return texts, labels


def resolve(answer: Any, choices: Sequence[str], field: str, labels: Sequence[str] = ()) -> int:
    """The place (from 0) of the option that an answer names.

    In this order: one of the row's own labels; the option's text; an integer, counted from 0 as label columns are;
    a number in text, counted from 1 (`3`, `Option 4`, `(2)`); a letter (`B`, `b)`); label and text together
    (`option 3: …`, `B) …`), which must name the same option. Equal options resolve to the first of them.

    Raises:
        BadRow: the answer names no option.
    """
    if isinstance(answer, int) and not isinstance(answer, bool):
        return _within(answer, choices, field, f"{answer} (counted from 0)")
    text = as_text(answer, field)
    if text in labels:
        return list(labels).index(text)
    folded = [_fold(choice) for choice in choices]
    if text in choices:
        return list(choices).index(text)
    if _fold(text) in folded:
        return folded.index(_fold(text))
    if match := _NUMBER.fullmatch(text):
        return _within(int(match[1]) - 1, choices, field, repr(text))
    if match := _LETTER.fullmatch(text):
        return _within(ord(match[1].upper()) - ord("A"), choices, field, repr(text))
    return _label_and_text(text, choices, field)


def chosen(
    answer: Any, choices: Sequence[str], field: str, labels: Sequence[str] = ()
) -> tuple[tuple[str], dict[str, int]]:
    """The right option's text, and its place for `meta` (two options of a row may read the same)."""
    place = resolve(answer, choices, field, labels)
    return (choices[place],), {"answer_index": place}


def _label_and_text(text: str, choices: Sequence[str], field: str) -> int:
    match = _LABELLED.fullmatch(text)
    if match is None:
        raise BadRow(field, f"{_shorten(text)} is not among the {len(choices)} options")
    label = match[1] or match[2]
    place = _within(
        int(label) - 1 if label.isdigit() else ord(label.upper()) - ord("A"), choices, field, _shorten(text)
    )
    if _fold(choices[place]) != _fold(match[3]):
        raise BadRow(field, f"{_shorten(text)} does not agree with option {label}, {_shorten(choices[place])}")
    return place


def _within(place: int, choices: Sequence[str], field: str, answer: str) -> int:
    if not 0 <= place < len(choices):
        raise BadRow(field, f"{answer} is not among the {len(choices)} options")
    return place


def _fold(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")


def _blank_list(value: Any) -> bool:
    return value is None or (isinstance(value, str | list) and not value)


def _shorten(text: str, width: int = 60) -> str:
    return repr(text if len(text) <= width else text[: width - 1] + "…")
