"""A context too long for the model: reduced to the part that matches the question, refused, or cut with a count.

Never silently: every call says what it did. Never inside a sentence, unless one sentence alone is too long; then
between words, and inside a word only where one word alone is too long.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal

from understudy.errors import TooLong
from understudy.recipe import ContextOverflow
from understudy.tokens.bm25 import score

Span = tuple[int, int]
CountTokens = Callable[[str], int]

_END = re.compile(r"[.!?][\"'”’)\]]*(?=\s+\S)|[。!?]|\n[ \t]*\n|\n(?=\s*(?:[-*•#|]|\d+[.)]\s))")
_ABBREVIATION = re.compile(
    r"(?:\b(?:e\.g|i\.e|cf|vs|etc|Fig|Figs|Sec|No|Nos|Eq|Ref|Rel|approx|resp|Dr|Mr|Mrs|Ms|St|Prof|cl)|\b[A-Z])\.$"
)
_WORD = re.compile(r"\S+")


@dataclass(frozen=True, slots=True)
class ContextFit:
    """What was done to a context.

    Attributes:
        action: `kept`, `window` or `truncated`.
        tokens_before: length of the context.
        tokens_after: length of what was kept.
        sentences_before: sentences of the context; 0 where nobody had to count them.
        sentences_after: sentences that were kept, a part of one counting as one.
        start: first kept character in the context.
        end: the character after the last kept one.
    """

    action: Literal["kept", "window", "truncated"]
    tokens_before: int
    tokens_after: int
    sentences_before: int
    sentences_after: int
    start: int
    end: int

    def note(self) -> str:
        """One line for a report."""
        if self.action == "kept":
            return f"context kept whole ({self.tokens_before} tokens)"
        how = "reduced to its best-matching window" if self.action == "window" else "cut at its end"
        return (
            f"context {how}: {self.tokens_after} of {self.tokens_before} tokens, "
            f"{self.sentences_after} of {self.sentences_before} sentences"
        )


def fit_context(
    context: str, question: str, budget: int, count_tokens: CountTokens, mode: ContextOverflow, *, id: str = "example"
) -> tuple[str, ContextFit]:
    """Make a context fit into `budget` tokens.

    Args:
        context: the text to read.
        question: what is asked; decides which window matches best.
        budget: how many tokens the context may take.
        count_tokens: length of a text in the model's own tokens.
        mode: `window` keeps the run of sentences that matches the question best (`bm25.score`), `truncate` keeps
            the first sentences, `refuse` raises.
        id: the row's id, for the error.

    Returns:
        The text to use – always a piece of `context`, at most `budget` tokens long, empty where not even one
        character fits – and what was done.

    Raises:
        TooLong: the context is too long and `mode` is `refuse`.
    """
    before = count_tokens(context)
    if before <= budget:
        return context, ContextFit("kept", before, before, 0, 0, 0, len(context))
    if mode == "refuse":
        raise TooLong(
            f"{id}: the context takes {before} tokens, and {max(budget, 0)} are left for it",
            needed=before - budget,
            hint="raise data.max_length, or set data.context_overflow to window or truncate",
        )
    spans = sentences(context)
    fits = _memo(lambda start, end: count_tokens(context[start:end]) <= budget)
    if mode == "window":
        start, end = _best_window(context, question, spans, fits, budget, count_tokens)
    else:
        start, end = _longest_head(context, spans, fits)
    kept = sum(1 for span in spans if span[0] < end and start < span[1])
    text = context[start:end]
    action: Literal["window", "truncated"] = "window" if mode == "window" else "truncated"
    after = count_tokens(text) if text else 0
    return text, ContextFit(action, before, after, len(spans), kept, start, end)


def sentences(text: str) -> list[Span]:
    """Where each sentence begins and ends; the white space between them belongs to none."""
    spans: list[Span] = []
    start = 0
    for match in _END.finditer(text):
        if match[0].startswith(".") and _ABBREVIATION.search(text, start, match.start() + 1):
            continue
        _append(spans, text, start, match.end())
        start = match.end()
    _append(spans, text, start, len(text))
    return spans


def _append(spans: list[Span], text: str, start: int, end: int) -> None:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    if piece.strip():
        spans.append((start + left, start + len(piece.rstrip())))


Fits = Callable[[int, int], bool]


def _memo(fits: Fits) -> Fits:
    """Counting tokens is the dear part; the searches ask for some pieces twice."""
    known: dict[Span, bool] = {}

    def ask(start: int, end: int) -> bool:
        if (start, end) not in known:
            known[start, end] = start == end or fits(start, end)
        return known[start, end]

    return ask


def _longest_head(text: str, spans: Sequence[Span], fits: Fits) -> Span:
    """As many whole leading units as fit; failing one sentence, its words; failing one word, its characters."""
    if not spans:
        return 0, 0
    start = spans[0][0]
    num = _largest(len(spans), lambda count: fits(start, spans[count - 1][1]))
    if num:
        return start, spans[num - 1][1]
    first, last = spans[0]
    words = _words(text, spans[0])
    if len(words) > 1:
        return _longest_head(text, words, fits)
    return first, first + _largest(last - first, lambda count: fits(first, first + count))


def _best_window(
    text: str, question: str, spans: Sequence[Span], fits: Fits, budget: int, count_tokens: CountTokens
) -> Span:
    """The run of units that fits and has the largest sum of scores; first sentences, then words of the best one."""
    if not spans or budget <= 0:
        return 0, 0
    scores = score([text[start:end] for start, end in spans], question)
    costs = [count_tokens(text[start:end]) for start, end in spans]
    first, last = _estimate(scores, costs, budget)
    first, last = _shrink(spans, scores, first, last, fits)
    if fits(spans[first][0], spans[last][1]):
        return _widen(spans, first, last, fits)
    words = _words(text, spans[first])
    if len(words) > 1:
        return _best_window(text, question, words, fits, budget, count_tokens)
    return _longest_head(text, words, fits)


def _estimate(scores: Sequence[float], costs: Sequence[int], budget: int) -> tuple[int, int]:
    """First and last unit of the best window, as if the costs of units simply added up.

    Among windows of equal score that with its middle nearest to the matches wins, so that what surrounds a match is
    kept on both sides. A unit too long for the budget stands for itself.
    """
    total, middle = [0.0, *accumulate(scores)], [0.0, *accumulate(n * s for n, s in enumerate(scores))]
    best, choice = (-1.0, 0.0), (0, 0)
    last, spent = -1, 0
    for first in range(len(scores)):
        if last < first:
            last, spent = first, costs[first]
        while last + 1 < len(scores) and spent + costs[last + 1] <= budget:
            last += 1
            spent += costs[last]
        window_score = total[last + 1] - total[first]
        centre = (middle[last + 1] - middle[first]) / window_score if window_score > 0 else 0.0
        rank = (round(window_score, 9), -abs((first + last) / 2 - centre) if window_score > 0 else -first)
        if rank > best:
            best, choice = rank, (first, last)
        spent -= costs[first]
    return choice


def _shrink(spans: Sequence[Span], scores: Sequence[float], first: int, last: int, fits: Fits) -> tuple[int, int]:
    """Give up units from the worse end until the window fits, or one unit is left."""
    nested = [(first, last)]
    while first < last:
        if scores[first] < scores[last]:
            first += 1
        else:
            last -= 1
        nested.append((first, last))
    low, high = 0, len(nested) - 1
    while low < high:
        middle = (low + high) // 2
        if fits(spans[nested[middle][0]][0], spans[nested[middle][1]][1]):
            high = middle
        else:
            low = middle + 1
    return nested[low]


def _widen(spans: Sequence[Span], first: int, last: int, fits: Fits) -> Span:
    """Take in neighbours, those behind first, as long as the window fits: estimates leave some room."""
    start, end = spans[first][0], spans[last][1]
    more = _largest(len(spans) - 1 - last, lambda count: fits(start, spans[last + count][1]))
    end = spans[last + more][1]
    more = _largest(first, lambda count: fits(spans[first - count][0], end))
    return spans[first - more][0], end


def _largest(limit: int, holds: Callable[[int], bool]) -> int:
    """The largest count in 1 … `limit` that holds, by bisection; 0 where 1 does not hold."""
    low, high = 0, limit
    while low < high:
        middle = (low + high + 1) // 2
        if holds(middle):
            low = middle
        else:
            high = middle - 1
    return low


def _words(text: str, span: Span) -> list[Span]:
    return [match.span() for match in _WORD.finditer(text, *span)]
