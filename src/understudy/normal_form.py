"""The normal form in which texts are compared, and the one way in which numbers are written in it.

SQuAD's form (Rajpurkar et al., 2016) strips all ASCII punctuation, and with it the sign and the point of a number:
−85 dBm becomes 85 dBm, 3.5 GHz becomes 35 GHz. Here what belongs to a number stays:

```text
minus  - − – ‐ ‑ are one sign. It counts at the start of the text or after a blank, an opening bracket or quote, a
       currency or an operator, and before a number: `-85`, `(−5)`, `x=-5`; also in 1e-5
point  between digits it stays; one that begins a number gets its zero: 3.5, 23.501, .5 = 0.5
comma  between digits in groups of three it goes: 1,000 = 1000; any other between digits stays
others between digits  . , : / * ^ + and a dash that is no minus stay: 5-10 = 5–10, 10:30, 2024-05-01, 1/2, 10^-3
```

All other punctuation goes as in SQuAD's form, but two digits never become neighbours by it: `5%-10%` is `5 10`.
Everything that compares texts – metrics, votes, options, near-duplicates, the leak check – writes numbers by this file.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Literal

NormalForm = Literal["numbers", "squad"]
"""`numbers`: numbers keep sign and point; `squad`: SQuAD's own, for comparison with published figures."""

NO_ANSWER = "unanswerable"
"""The answer where the context does not say (`data.benchmark_formats.UNANSWERABLE`)."""
_DASHES = "-−–‐‑﹣－"
_MARK = rf"[{re.escape(string.punctuation)}{_DASHES[1:]}]"
_MARKS = re.compile(rf"{_MARK}+")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_WITHOUT_MARKS = str.maketrans("", "", string.punctuation + _DASHES)
_ARTICLES = re.compile(r"\b(a|an|the)\b")

_OPERATORS = frozenset("+*/=<>^~:;,|&([{×÷·±≤≥≈≠→" + _DASHES)
_OPENING = frozenset("\"'`$“‘„«€£¥")  # the first four close too, so they open nothing right behind a word
_WITHIN_NUMBERS = frozenset(".,:/*^+")
_BEFORE_A_SIGN = frozenset("^*/")
_BEGINNING = re.compile(rf"([{_DASHES}]?)(\.?)\Z")
_MANTISSA = re.compile(r"\d\.?[eE]\Z")
_THOUSANDS = re.compile(r"(?<!\d)(?<!\d[.,])[1-9][0-9]{0,2}(?:,[0-9]{3})+(?!\d)(?!,\d)")
_PLUS_MINUS = re.compile(rf"\+/[{_DASHES}](?=\s?\.?\d)")
_SIGNED_CURRENCY = re.compile(rf"(?<![\w)\]}}%])[{_DASHES}]([$€£¥])(?=\.?\d)")


def normal_words(text: str) -> list[str]:
    """Lower-case words of a text without punctuation and the articles a, an, the; numbers keep sign and point."""
    lowered = text.lower()
    has_digits = any(map(str.isdecimal, lowered))
    return _without_articles(_rewritten(lowered, keep=False) if has_digits else lowered.translate(_WITHOUT_MARKS))


def squad_words(text: str) -> list[str]:
    """SQuAD's words: lower case, without ASCII punctuation and the articles a, an, the.

    No answer, which is written `unanswerable` here, has none: in SQuAD 2.0 it is the empty text.
    """
    if text == NO_ANSWER:
        return []
    return _without_articles(text.lower().translate(_WITHOUT_PUNCTUATION))


NORMAL_WORDS: Mapping[NormalForm, Callable[[str], list[str]]] = {"numbers": normal_words, "squad": squad_words}
"""Normal form -> the words of a text in it."""


@lru_cache(maxsize=1 << 16)
def normalise(text: str, form: NormalForm = "numbers") -> str:
    """A text in its normal form: `normal_words` or `squad_words` with single blanks."""
    return " ".join(NORMAL_WORDS[form](text))


def plain_numbers(text: str) -> str:
    """The same text, each number in the one spelling that it has in the normal form; nothing else is changed."""
    return _rewritten(text, keep=True) if any(map(str.isdecimal, text)) else text


def _without_articles(bare: str) -> list[str]:
    words = bare.split()
    if bare.isascii() and "".join(words).isalnum():  # then an article is a whole word, and no search is needed
        return [word for word in words if word not in ("a", "an", "the")]
    return _ARTICLES.sub(" ", bare).split()


def _rewritten(text: str, *, keep: bool) -> str:
    """A text with its numbers in one spelling; punctuation outside them stays (`keep`) or goes."""
    text = _PLUS_MINUS.sub("±", text)
    text = _SIGNED_CURRENCY.sub(r"\1-", text)
    text = _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)
    return _MARKS.sub(lambda match: _marks(match, keep=keep), text)


def _marks(match: re.Match[str], *, keep: bool) -> str:
    """What becomes of a run of punctuation between the characters around it."""
    run, text = match[0], match.string
    before, after = text[: match.start()][-1:], text[match.end() : match.end() + 1]
    if after.isdecimal():
        beginning = _BEGINNING.search(run)
        head = run[: beginning.start()] if beginning else run
        if head != run and beginning and _begins_number(before, head):
            if not (keep or (before.isdecimal() and head in _BEFORE_A_SIGN)):
                head = " " if head or beginning[1] else ""
            return head + "-" * bool(beginning[1]) + "0." * bool(beginning[2])
        if run in _DASHES and (before.isdecimal() or _MANTISSA.search(text, max(0, match.start() - 3), match.start())):
            return "-"
        if before.isdecimal() and not keep:
            return run if run in _WITHIN_NUMBERS else " "
    return run if keep else ""


def _begins_number(before: str, head: str) -> bool:
    """Whether a number may begin, sign and all, behind `head`, the marks that follow the character `before`."""
    last = head[-1:] or before
    if not last or last.isspace():
        return True
    if last in _OPENING:
        return not (head and before.isalnum())
    # Two dashes between a word and a number are a dash.
    return last in _OPERATORS and not (last in _DASHES and before.isalpha())
