"""Which options a text names.

Texts and options are compared without regard to case and white space, and an option without its last full stop. A
mention is a whole word or several: `cat` is not named by `category`, nor by `cats`, nor `N1` by `N1-MME`, nor `25` by
`25.467`, nor `85 dBm` by `−85 dBm`. Numbers are compared in one spelling (`understudy.normal_form`). Where options
overlap, the longest is found first and takes its place in the text, so `train station` names the station and not the
option `train`.
"""

from __future__ import annotations

from collections.abc import Sequence

from understudy.data.choices import resolve
from understudy.data.rows import BadRow
from understudy.normal_form import plain_numbers
from understudy.types import Example

_TAKEN = "\0"


def folded(text: str) -> str:
    """A text as texts are compared here: no case, single spaces, plain numbers, no full stop at the end."""
    return _spelled(text).rstrip(".").rstrip()


def _spelled(text: str) -> str:
    return plain_numbers(" ".join(text.casefold().split()))


def mentioned(text: str, options: Sequence[str]) -> tuple[int, ...]:
    """The places of the options that a text names, in the order of the options; equal options are all named."""
    rest = _spelled(text)
    texts = [folded(option) for option in options]
    named = set()
    for option in sorted({option for option in texts if option}, key=lambda option: (-len(option), option)):
        rest, hits = _blank_out(rest, option)
        if hits:
            named.add(option)
    return tuple(place for place, option in enumerate(texts) if option in named)


def _blank_out(text: str, option: str) -> tuple[str, int]:
    """The text with every mention of an option blanked out, and their number."""
    hits, place = 0, text.find(option)
    while place >= 0:
        end = place + len(option)
        if _at_word_border(text, place) and _at_word_border(text, end):
            text = text[:place] + _TAKEN * len(option) + text[end:]
            hits += 1
            place = text.find(option, end)
        else:
            place = text.find(option, place + 1)
    return text, hits


def _at_word_border(text: str, place: int) -> bool:
    """Whether no word runs across a place, be it joined by a hyphen, and no number by its sign or its point."""
    around = [text[i : i + 1] if i >= 0 else "" for i in range(place - 2, place + 2)]
    behind_a_sign = around[1] == "-" and around[2].isdecimal()
    return not (
        behind_a_sign
        or any(_joined(*around[first : first + 3]) for first in (0, 1))
        or (_in_word(around[1]) and _in_word(around[2]))
    )


def _joined(before: str, joint: str, after: str) -> bool:
    if joint == "-":
        return _in_word(before) and _in_word(after)
    return joint == "." and before.isdigit() and after.isdigit()


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"


def named_option(answer: str, choices: Sequence[str]) -> int | None:
    """The place of the one option that an answer names; None where it names none, or several.

    An answer that is an option, a label (`b`, `(B)`, `Option 2`) or both (`(b) text`) names that option; another names
    the only one that it mentions. Equal options: the first of them.
    """
    options = [folded(choice) for choice in choices]
    if answer.strip() in choices:  # Options may differ in case alone: mW and MW.
        return list(choices).index(answer.strip())
    if (text := folded(answer)) in options and text:
        return options.index(text)
    try:
        return resolve(answer.strip().rstrip("."), choices, "answer")
    except BadRow:
        places = mentioned(answer, choices)
    return places[0] if len({options[place] for place in places}) == 1 else None


def is_right(answer: str, example: Example) -> bool:
    """Whether an answer is the gold one: the same option, or without options the same text.

    An example without a gold answer has no right one.
    """
    right = {folded(gold) for gold in example.answers}
    index = example.meta.get("answer_index")
    if isinstance(index, int) and example.labelled and 0 <= index < len(example.choices):
        right.add(folded(example.choices[index]))
    if not example.choices:
        return folded(answer) in right
    place = named_option(answer, example.choices)
    return place is not None and folded(example.choices[place]) in right
