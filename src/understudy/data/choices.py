"""From the many ways to name the right option, or several, to the options themselves."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from understudy.data.rows import BadRow, Row, as_text, as_texts, missing, required, unpack

_PREFIX = r"(?:(?:(?:the\s+)?(?:correct|right)\s+)?(?:option|choice|answer)s?(?:\s+is)?)?[\s_:#]*"
_LABEL = re.compile(rf"{_PREFIX}[(\[]?(\d{{1,4}}|[A-Z])[)\]]?[.):]?", re.IGNORECASE)
_LABELLED = re.compile(
    r"(?:(?:option|choice|answer)[\s_]*(\d{1,4}|[A-Z])|[(\[]?(\d{1,4}|[A-Z])[.):\]]|(\d{1,4}|[A-Z])\s+[-–—])"
    r"\s*[:.)]?\s*(.+)",
    re.IGNORECASE | re.DOTALL,
)
_OPTION_COLUMN = re.compile(r"(?:option|choice)(?:[\s_.#-]*(\d{1,4})|[\s_.#-]+([a-z]))", re.IGNORECASE)
_LETTER_COLUMN = re.compile("[A-Z]")
_BULLET = re.compile(r"\A(?:[-*•·–—+]\s+)+")
_EMPHASIS = re.compile(r"\A(\*\*\*|\*\*|\*|___|__|_|`)(?=\S)(.*?\S)\1", re.DOTALL)
_SEPARATOR = re.compile(r"\s*(?:[,;/&|+\n]|\b(?:and|or|und|oder)\b)\s*")
_BEFORE_A_LABEL = re.compile(
    r"\s*(?:[,;&|\n]|\band\b)\s*(?=(?:[-*•]\s+)?(?:\*\*|__)?"
    r"(?:(?:option|choice|answer)[\s_]*(?:\d{1,4}|[A-Z])\b|[(\[]?(?:\d{1,4}|[A-Z])[.):\]]))",
    re.IGNORECASE,
)
_DIFFERENT_SPELLING = "answers told from their option by blanks, case or a full stop"


def choice_label(place: int) -> str:
    """The letter of an option counted from 0: A … Z, AA, AB …."""
    prefix = choice_label(place // 26 - 1) if place >= 26 else ""
    return prefix + chr(ord("A") + place % 26)


def option_columns(fields: Mapping[str, Any]) -> list[str]:
    """The columns of options in their order: `option 1`, `Option_2`, `choice a` …, else `A`, `B`, `C` …."""
    labelled = [(label, str(name)) for name in fields if (label := column_label(str(name)))]
    if labelled:
        return [name for _, name in sorted(labelled, key=lambda pair: (len(pair[0]), pair[0]))]
    letters = sorted(name for name in map(str, fields) if _LETTER_COLUMN.fullmatch(name))
    # A lone `A` may be an answer; A, B, C … without a gap are options.
    return letters if len(letters) > 1 and letters == [choice_label(n) for n in range(len(letters))] else []


def column_label(name: str) -> str:
    """The number or letter in the name of a column of options; empty where it is none."""
    match = _OPTION_COLUMN.fullmatch(name.strip())
    return ((match[1] or match[2]).lower()) if match else ""


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


def option_labels(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Labels of options whose columns are counted from 0; empty where they are counted from 1 or lettered."""
    labels = tuple(column_label(name) for name in option_columns(fields))
    return labels if labels[:1] == ("0",) else ()


def read_choices(value: Any, field: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Options and their labels (empty where they have none).

    Read are lists of texts, lists of `{label, text}` objects, `{label: […], text: […]}`, `{A: …, B: …}` and JSON text
    of these.

    Raises:
        BadRow: fewer than two options, or one that is empty or no text.
    """
    value = unpack(value, field, never_text=True)
    labels: tuple[str, ...] = ()
    if isinstance(value, Mapping) and value and all(_LABEL.fullmatch(str(key)) for key in value):
        labels, value = tuple(map(str, value)), list(value.values())
    elif isinstance(value, Mapping) and "label" in value:
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
    a number in text, counted from 1 (`3`, `Option 4`, `(2)`); a letter (`B`, `b)`, `**B**`, `- B.`); the option's text
    but for blanks; label and text together (`option 3: …`, `B) …`), which must name the same option. Equal options
    resolve to the first of them.

    Raises:
        BadRow: the answer names no option, or several that differ in case or blanks alone.
    """
    if isinstance(answer, int) and not isinstance(answer, bool):
        return _within(answer, choices, field, f"{answer} (counted from 0)")
    text = as_text(answer, field)
    plain = _without_markup(text)
    for label in (text, plain):
        if label in labels:
            return list(labels).index(label)
    for spelled in dict.fromkeys((text, plain)):
        place = _place_of_text(spelled, choices, field)
        if place is not None:
            return place
    if match := _LABEL.fullmatch(plain):
        if "answer" in plain.casefold() and match[1] in choices:  # "Answer: 3" where 3 is an option
            return list(choices).index(match[1])
        return _within(_place_of_label(match[1], labels), choices, field, _shorten(text))
    place = _place_of_text(plain, choices, field, spellings=(_without_blanks,))
    return _label_and_text(plain, choices, field, labels) if place is None else place


def resolve_all(answer: Any, choices: Sequence[str], field: str, labels: Sequence[str] = ()) -> list[int]:
    """The places of all options that an answer names, in its order: `A, C`, `1 and 3`, `A) …; C) …`, a list of these.

    Raises:
        BadRow: the answer, or a part of it, names no option.
    """
    answer = unpack(answer, field)
    if isinstance(answer, list | tuple):
        if not answer:
            raise BadRow(field, "empty")
        return list(dict.fromkeys(resolve(part, choices, field, labels) for part in answer))
    try:
        return [resolve(answer, choices, field, labels)]
    except BadRow:
        for parts in _parts(answer, choices, labels):
            try:
                return list(dict.fromkeys(resolve(part, choices, field, labels) for part in parts))
            except BadRow:
                continue
        raise


def chosen(
    row: Row, answer: Any, choices: Sequence[str], field: str, labels: Sequence[str] = ()
) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The right options' texts, and their places for `meta` (two options of a row may read the same).

    The first that is named is the one to learn. `answer_index` is its place, `answer_indices` has all where there are
    several. An answer that is spelled otherwise than its option is counted in the row's notes.
    """
    places = resolve_all(answer, choices, field, labels)
    if isinstance(answer, str) and _is_spelled_otherwise(answer, choices[places[0]], choices):
        row.note(_DIFFERENT_SPELLING)
    several = {"answer_indices": places} if len(places) > 1 else {}
    return tuple(choices[place] for place in places), {"answer_index": places[0]} | several


def _is_spelled_otherwise(answer: str, choice: str, choices: Sequence[str]) -> bool:
    text = answer.strip()
    match = _LABELLED.fullmatch(_without_markup(text))
    texts = (text, match[4].strip()) if match else (text,)
    alike = any(_without_blanks(part) == _without_blanks(choice) for part in texts)
    return alike and choice not in texts and text not in choices


Spelling = Callable[[str], str]


def _single_blanks(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def _fold(text: str) -> str:
    return _single_blanks(text.casefold())


def _without_blanks(text: str) -> str:
    return "".join(text.casefold().split()).rstrip(".")


def _place_of_text(
    text: str, choices: Sequence[str], field: str, *, spellings: Sequence[Spelling] = (_single_blanks, _fold)
) -> int | None:
    """The option that reads like a text in the narrowest spelling in which any does; None where none does.

    Raises:
        BadRow: several different options do.
    """
    if text in choices:
        return list(choices).index(text)
    for spelling in spellings:
        places = [place for place, choice in enumerate(choices) if spelling(choice) == spelling(text)]
        if len({choices[place] for place in places}) > 1 and spelling(text):
            first, second = places[:2]
            raise BadRow(field, f"{_shorten(text)} may be option {first + 1} or option {second + 1}")
        if places and spelling(text):
            return places[0]
    return None


def _place_of_label(label: str, labels: Sequence[str]) -> int:
    """The place that a number counted from 1 or a letter stands for, unless the row's own labels say otherwise."""
    own = [name.casefold() for name in labels]
    if label.casefold() in own:
        return own.index(label.casefold())
    return int(label) - 1 if label.isdigit() else ord(label.upper()) - ord("A")


def _label_and_text(text: str, choices: Sequence[str], field: str, labels: Sequence[str]) -> int:
    match = _LABELLED.fullmatch(text)
    if match is None:
        place = _place_behind_labels(text, choices, field)
        if place is None:
            raise BadRow(field, f"{_shorten(text)} is not among the {len(choices)} options")
        return place
    label = match[1] or match[2] or match[3]
    place = _within(_place_of_label(label, labels), choices, field, _shorten(text))
    choice = _without_own_label(choices[place]) if _are_labelled(choices) else choices[place]
    if _without_blanks(_without_markup(match[4])) not in (_without_blanks(choices[place]), _without_blanks(choice)):
        raise BadRow(field, f"{_shorten(text)} does not agree with option {label}, {_shorten(choices[place])}")
    return place


def _place_behind_labels(text: str, choices: Sequence[str], field: str) -> int | None:
    """The option whose text a label stands before, where that is so of all."""
    if not _are_labelled(choices):
        return None
    return _place_of_text(text, [_without_own_label(choice) for choice in choices], field)


def _are_labelled(choices: Sequence[str]) -> bool:
    matches = [_LABELLED.fullmatch(choice) for choice in choices]
    return all(match and _place_of_label(match[1] or match[2] or match[3], ()) == n for n, match in enumerate(matches))


def _without_own_label(choice: str) -> str:
    match = _LABELLED.fullmatch(choice)
    return match[4].strip() if match else choice


def _parts(answer: Any, choices: Sequence[str], labels: Sequence[str]) -> list[list[str]]:
    """The ways to take an answer apart that names several options: labels alone, labels with texts, texts."""
    if not isinstance(answer, str):
        return []
    ways = []
    names = _SEPARATOR.split(_without_markup(answer.strip()))
    # "1,5" beside options that are numbers is a number.
    numbers = "," in answer and ", " not in answer and any(re.fullmatch(r"[\d.,\s]+", choice) for choice in choices)
    if not numbers and all(name in labels or _LABEL.fullmatch(_without_markup(name)) for name in names):
        ways.append(names)
    ways += [_BEFORE_A_LABEL.split(answer), re.split(r"\s*[;|\n]\s*", answer), re.split(r",\s+", answer)]
    filled = ([part for part in parts if part.strip()] for parts in ways)
    return [parts for parts in filled if len(parts) > 1]


def _without_markup(text: str) -> str:
    """A text without bullets before it and without Markdown's emphasis around it, or around what it begins with."""
    text = _BULLET.sub("", text.strip())
    while match := _EMPHASIS.match(text):
        text = f"{match[2]}{text[match.end() :]}".strip()
    return text


def _within(place: int, choices: Sequence[str], field: str, answer: str) -> int:
    if not 0 <= place < len(choices):
        raise BadRow(field, f"{answer} is not among the {len(choices)} options")
    return place


def _blank_list(value: Any) -> bool:
    return value is None or (isinstance(value, str | list) and not value)


def _shorten(text: str, width: int = 60) -> str:
    return repr(text if len(text) <= width else text[: width - 1] + "…")
