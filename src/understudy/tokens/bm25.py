"""How well each piece of a text matches a question, by shared words.

Okapi BM25 (Robertson and Zaragoza, 2009, eq. 3.15) over the pieces of one text:

    score(p) = Σ_{w ∈ question} g_w · idf_w · f_{w,p} · (k₁ + 1) / (f_{w,p} + k₁ · (1 − b + b · |p| / mean |p|))

with idf_w = ln(1 + (n − n_w + ½) / (n_w + ½)). One departure: g_w is 0.1 for function words and 1 for all others,
because in a text of a dozen sentences a function word can be as rare as a term.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

K1 = 1.2
B = 0.75
STOP_WEIGHT = 0.1
_FUNCTION_WORDS = """
    a an and any are as at be been but by can could did do does for from had has have how if in into is it its many
    may might more most much must no not of on one or other shall should so some such than that the their them then
    there these they this those to was were what when where which while who whom whose why will with would you your
"""

_TOKEN = re.compile(r"\w+(?:[-./]\w+)*")


def terms(text: str) -> list[str]:
    """Lower-case words; compounds and specification numbers (`23.501`, `rx-1`) count whole and by their parts."""
    words = []
    for match in _TOKEN.finditer(text.casefold()):
        parts = re.split(r"[-./]", match[0])
        words += [_stem(match[0]), *(map(_stem, parts) if len(parts) > 1 else ())]
    return words


def _stem(word: str) -> str:
    """Strip the plainest English endings, so that `timers` finds `timer` and `released` finds `release`."""
    for ending in ("ing", "ed", "es", "s", "e"):
        if len(word) > len(ending) + 3 and word.endswith(ending) and not word.endswith("ss"):
            return word[: -len(ending)]
    return word


def score(pieces: Sequence[str], question: str) -> list[float]:
    """BM25 of each piece against the question; 0 where they share no word."""
    counts = [Counter(terms(piece)) for piece in pieces]
    lengths = [max(1, count.total()) for count in counts]
    mean = sum(lengths) / max(1, len(lengths))
    containing = Counter(word for count in counts for word in count)
    weights = {
        word: (STOP_WEIGHT if word in _STOPS else 1.0)
        * math.log(1 + (len(pieces) - containing[word] + 0.5) / (containing[word] + 0.5))
        for word in sorted(set(terms(question)))
        if containing[word]
    }
    return [
        sum(
            weight * count[word] * (K1 + 1) / (count[word] + K1 * (1 - B + B * length / mean))
            for word, weight in weights.items()
        )
        for count, length in zip(counts, lengths, strict=True)
    ]


_STOPS = frozenset(map(_stem, _FUNCTION_WORDS.split()))
