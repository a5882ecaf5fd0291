"""How many n-grams texts have in common, for all items of a set at once.

BLEU, chrF, ROUGE-N and token F1 count the same thing on different tokens. Here tokens are numbers, an n-gram is one
64-bit integer – item, tokens and text packed side by side – and counting is sorting: equal n-grams of an item come to
lie next to each other. Where numbers do not fit into the bits, n-grams are renumbered by rank, so nothing is hashed
and nothing can collide.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain

import numpy as np

_CHUNK = 1 << 15  # tokens sorted at once; they stay in the cache
_BITS = 62


@dataclass(frozen=True, eq=False)
class NgramTexts:
    """Tokenised texts, those of one row compared with its first.

    Attributes:
        tokens: `[t]` ids of all tokens of all texts, one text after the other.
        lengths: `[texts]` tokens of each text.
        sizes: `[rows]` texts of each row: one prediction and its references.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    sizes: np.ndarray

    @cached_property
    def starts(self) -> np.ndarray:
        """`[rows + 1]` number of the first text of each row."""
        return np.concatenate([[0], np.cumsum(self.sizes)])

    @cached_property
    def offsets(self) -> np.ndarray:
        """`[texts + 1]` where each text begins in `tokens`."""
        return np.concatenate([[0], np.cumsum(self.lengths)])


def index_words(texts: Iterable[Sequence[Hashable]], sizes: Sequence[int]) -> NgramTexts:
    """Texts given as sequences of words, each distinct word turned into a number."""
    numbers: defaultdict[Hashable, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    rows = [[numbers[word] for word in words] for words in texts]
    lengths = np.fromiter(map(len, rows), dtype=np.int64, count=len(rows))
    tokens = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=int(lengths.sum()))
    return NgramTexts(tokens, lengths, np.asarray(sizes, dtype=np.int64))


def index_characters(texts: Sequence[str], sizes: Sequence[int]) -> NgramTexts:
    """Texts as sequences of code points."""
    lengths = np.fromiter(map(len, texts), dtype=np.int64, count=len(texts))
    codes = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    return NgramTexts(_dense(codes.astype(np.int64))[0], lengths, np.asarray(sizes, dtype=np.int64))


def totals(lengths: np.ndarray, orders: int) -> np.ndarray:
    """`[texts, orders]` number of n-grams of texts of these lengths: max(0, length − n + 1)."""
    return np.maximum(0, lengths[:, None] - np.arange(orders))


def matches(texts: NgramTexts, orders: int) -> np.ndarray:
    """Clipped matches of n-grams, n = 1 … `orders`: `[rows, orders]`.

    ```text
    Σ over n-grams g of min(count of g in the prediction, largest count of g in any one reference)
    ```
    """
    matched = np.zeros((len(texts.sizes), orders), dtype=np.int64)
    for first, last in _chunks(texts.offsets[texts.starts]):
        for order, counted in enumerate(_matches_of(texts, first, last, orders)):
            matched[first:last, order] = counted
    return matched


def _chunks(ends: np.ndarray) -> Iterator[tuple[int, int]]:
    """Ranges of rows of about `_CHUNK` tokens; a longer row goes alone."""
    first = 0
    while first < len(ends) - 1:
        last = int(np.searchsorted(ends, ends[first] + _CHUNK, side="right")) - 1
        last = max(last, first + 1)
        yield first, last
        first = last


def _matches_of(texts: NgramTexts, first: int, last: int, orders: int) -> Iterator[np.ndarray]:
    """For each order, the clipped matches of rows `first` … `last - 1`."""
    span = slice(texts.starts[first], texts.starts[last])
    offsets = texts.offsets[span.start : span.stop + 1] - texts.offsets[span.start]
    begin = texts.offsets[span.start]
    tokens, width = _dense(texts.tokens[begin : begin + offsets[-1]])
    sizes, lengths = texts.sizes[first:last], texts.lengths[span]
    count = last - first
    row = np.repeat(np.repeat(np.arange(count), sizes), lengths)
    text_number = np.repeat(np.arange(len(lengths)) - np.repeat(texts.starts[first:last] - span.start, sizes), lengths)
    text_bits = _num_bits(int(sizes.max(initial=1)))
    remaining = np.repeat(offsets[1:], lengths) - np.arange(len(tokens))  # tokens from here to the end of the text
    positions, grams, gram_bits = np.arange(len(tokens)), tokens, width
    for order in range(orders):
        if order:
            long_enough = remaining[positions] > order
            positions, grams = positions[long_enough], grams[long_enough]
            if gram_bits + width + _num_bits(count) + text_bits > _BITS:
                ranks, grams = np.unique(grams, return_inverse=True)
                gram_bits = _num_bits(len(ranks))
            grams = grams << width | tokens[positions + order]
            gram_bits += width
        keys = (row[positions] << gram_bits | grams) << text_bits | text_number[positions]
        keys.sort()
        yield _clipped(keys, text_bits, gram_bits, count)


def _clipped(keys: np.ndarray, text_bits: int, gram_bits: int, count: int) -> np.ndarray:
    """Clipped matches of each row from sorted keys (row, n-gram, text)."""
    if not len(keys):
        return np.zeros(count, dtype=np.int64)
    runs = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    counts = np.diff(runs, append=len(keys))
    keys = keys[runs]
    if text_bits == 1:  # one reference: where both texts have an n-gram, their runs are neighbours
        neighbours = np.flatnonzero(keys[1:] ^ keys[:-1] == 1)
        common = np.minimum(counts[neighbours], counts[neighbours + 1])
        return np.bincount(keys[neighbours] >> (gram_bits + 1), weights=common, minlength=count).astype(np.int64)
    text_number = keys & ((1 << text_bits) - 1)
    keys = keys >> text_bits
    heads = np.flatnonzero(np.concatenate([[True], keys[1:] != keys[:-1]]))
    predicted = np.where(text_number[heads] == 0, counts[heads], 0)
    referenced = np.maximum.reduceat(np.where(text_number > 0, counts, 0), heads)
    common = np.minimum(predicted, referenced)
    return np.bincount(keys[heads] >> gram_bits, weights=common, minlength=count).astype(np.int64)


def _dense(values: np.ndarray) -> tuple[np.ndarray, int]:
    """The same values numbered from 0 without gaps, and the bits that this takes."""
    if not len(values):
        return values, 1
    present = np.zeros(int(values.max()) + 1, dtype=np.int64)
    present[values] = 1
    numbers = np.cumsum(present) - 1
    return numbers[values], _num_bits(int(numbers[-1]) + 1)


def _num_bits(count: int) -> int:
    """Bits that tell `count` things apart."""
    return max(1, (count - 1).bit_length())
