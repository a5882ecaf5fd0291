"""What a text says of the options of a question: which of them it names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from understudy.types import Example


def mentioned(text: str, options: Sequence[str]) -> list[int]:
    """The places of the options that a text names, in their order.

    An option is named where its words stand in the text as whole words, letter case and spacing apart; `N1` is not
    named by `N1-MME`, nor `28` by `28.5`. Longer options are found first, and what they cover does not name a shorter
    one: "Registration Request" says nothing of an option "Request".
    """
    rest, found = text, []
    for place in sorted(range(len(options)), key=lambda place: -len(options[place])):
        rest, count = _pattern(options[place]).subn("\x00", rest)
        if count:
            found.append(place)
    # Two options that read the same are both named by what names one.
    read = {_fold(options[place]) for place in found}
    return [place for place, option in enumerate(options) if _fold(option) in read]


def mentions(text: str, phrase: str) -> bool:
    """Whether a text names a phrase, as `mentioned` reads it."""
    return bool(mentioned(text, [phrase]))


def gold_place(example: Example) -> int | None:
    """The place of the right option; None without choices, without an answer, or where it is none of them."""
    place = example.meta.get("answer_index")
    if isinstance(place, int) and 0 <= place < len(example.choices):
        return place
    folded = [_fold(choice) for choice in example.choices]
    right = (_fold(answer) for answer in example.answers)
    return next((folded.index(answer) for answer in right if answer in folded), None)


def distractors_mentioned(text: str, example: Example) -> list[int]:
    """The places of the wrong options that a text names."""
    gold = gold_place(example)
    right = _fold(example.choices[gold]) if gold is not None else None
    return [place for place in mentioned(text, example.choices) if _fold(example.choices[place]) != right]


@lru_cache(maxsize=4096)
def _pattern(phrase: str) -> re.Pattern[str]:
    words = r"\s+".join(re.escape(word) for word in phrase.split()) or r"(?!)"
    return re.compile(rf"(?<!\w)(?<!\w[-.]){words}(?!\w)(?![-.]\w)", re.IGNORECASE)


def _fold(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip(".")
