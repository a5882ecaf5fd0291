"""Counting by sorting against counting by hand, also where numbers do not fit into the bits."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.metrics import ngram_counts
from understudy.metrics.ngram_counts import index_characters, index_words, matches, totals

ORDERS = 5


def ngrams(text: list, order: int) -> Counter:
    return Counter(tuple(text[start : start + order]) for start in range(len(text) - order + 1))


def by_hand(groups: list[list[list]]) -> list[list[int]]:
    table = []
    for prediction, *references in groups:
        row = []
        for order in range(1, ORDERS + 1):
            most: Counter = Counter()
            for reference in references:
                most |= ngrams(reference, order)
            row.append((ngrams(prediction, order) & most).total())
        table.append(row)
    return table


words = st.lists(st.sampled_from(["a", "b", "c", "amf", "smf"]) | st.text(max_size=2), max_size=12)
grouped = st.lists(st.lists(words, min_size=1, max_size=4), min_size=1, max_size=8)


@pytest.mark.parametrize(("bits", "chunk"), [(62, 1 << 15), (62, 7), (24, 1 << 15), (24, 7)])
@settings(max_examples=60, deadline=None)
@given(groups=grouped)
def test_counts_are_those_of_counters(bits: int, chunk: int, groups: list[list[list[str]]]) -> None:
    before = ngram_counts._BITS, ngram_counts._CHUNK
    ngram_counts._BITS, ngram_counts._CHUNK = bits, chunk
    try:
        counts = matches(index_words([text for group in groups for text in group], [len(g) for g in groups]), ORDERS)
    finally:
        ngram_counts._BITS, ngram_counts._CHUNK = before
    assert counts.tolist() == by_hand(groups)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=15), st.text(max_size=15)), min_size=1, max_size=6))
def test_characters_are_code_points(pairs: list[tuple[str, str]]) -> None:
    counts = matches(index_characters([text for pair in pairs for text in pair], [2] * len(pairs)), ORDERS)
    assert counts.tolist() == by_hand([[list(first), list(second)] for first, second in pairs])


def test_many_different_tokens_need_more_bits_than_there_are() -> None:
    generator = np.random.default_rng(0)
    text = generator.integers(40_000, size=60_000).tolist()  # 16 bits a token, five in a row are 80
    other = text[30_000:] + text[:30_000]
    assert matches(index_words([text, other], [2]), ORDERS).tolist() == by_hand([[text, other]])


def test_number_of_ngrams() -> None:
    assert totals(np.array([0, 1, 4]), 3).tolist() == [[0, 0, 0], [1, 0, 0], [4, 3, 2]]
