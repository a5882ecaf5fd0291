"""Frequent itemsets: those of counting by hand, whatever the baskets; few very long ones bring nothing down."""

import time
from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.errors import ConfigError
from understudy.sessions.itemsets import MOST_ITEMSETS, frequent_itemsets

BASKETS = st.lists(st.sets(st.integers(0, 9), max_size=6), max_size=30)


def counted(baskets: list[set[int]], min_count: int, largest: int) -> dict[frozenset, int]:
    counts = Counter(
        frozenset(subset)
        for basket in baskets
        for size in range(2, largest + 1)
        for subset in combinations(sorted(basket), size)
    )
    return {items: count for items, count in counts.items() if count >= min_count}


@given(BASKETS, st.floats(0.01, 1.0), st.integers(2, 5))
def test_they_are_those_of_counting_every_subset(baskets: list[set[int]], support: float, largest: int) -> None:
    found = frequent_itemsets(baskets, support=support, largest=largest)
    assert found.itemsets == counted(baskets, found.min_count, largest)
    assert found.min_count >= max(2, support * len(baskets) - 1e-6)
    assert found.singles == Counter(item for basket in baskets for item in basket)


def test_a_worked_example() -> None:
    baskets = [{"a", "b", "c"}, {"a", "b"}, {"a", "c"}, {"b", "c"}, {"d"}]
    found = frequent_itemsets(baskets, support=0.4)
    assert found.itemsets == {frozenset("ab"): 2, frozenset("ac"): 2, frozenset("bc"): 2}
    assert (found.baskets, found.min_count, found.singles["d"]) == (5, 2, 1)
    assert frequent_itemsets(baskets, support=0.5).itemsets == {}


def test_a_share_is_met_to_the_basket() -> None:
    baskets = [{"a", "b"}] * 3 + [{"c"}] * 997
    assert frequent_itemsets(baskets, support=0.003).itemsets == {frozenset("ab"): 3}
    assert frequent_itemsets(baskets, support=0.0031).itemsets == {}


def test_two_baskets_of_thousands_do_not_explode() -> None:
    long = set(range(3_000))
    start = time.perf_counter()
    found = frequent_itemsets([long, long, {1, 2}, {1, 2}], support=0.001)
    assert time.perf_counter() - start < 60
    assert 1_000 < len(found.itemsets) <= MOST_ITEMSETS
    assert found.cut == 2
    assert found.longest is not None
    assert found.itemsets[frozenset({1, 2})] == 4


def zipf(sessions: int, items: int, long: int = 0) -> list[list[int]]:
    generator = np.random.default_rng(0)
    chance = 1 / np.arange(1, items + 1)
    drawn = generator.choice(items, size=(sessions, 10), p=chance / chance.sum())
    baskets = [row[:length].tolist() for row, length in zip(drawn, generator.integers(2, 11, sessions), strict=True)]
    return baskets + [generator.choice(items, size=items // 10, replace=False).tolist() for _ in range(long)]


def test_a_few_very_long_sessions_change_neither_result_nor_time_much() -> None:
    plain = frequent_itemsets(zipf(10_000, 5_000), support=0.002)
    start = time.perf_counter()
    long = frequent_itemsets(zipf(10_000, 5_000, long=30), support=0.002)
    assert time.perf_counter() - start < 30
    missing = plain.itemsets.keys() - long.itemsets.keys()
    # With 30 baskets more an itemset has to stand in 21 instead of 20.
    assert all(plain.itemsets[items] < long.min_count == plain.min_count + 1 for items in missing)
    assert all(long.itemsets[items] >= plain.itemsets[items] for items in plain.itemsets.keys() - missing)


@pytest.mark.parametrize("support", [0.0, 1.5, -1.0, float("nan")])
def test_a_support_that_is_no_share_is_refused(support: float) -> None:
    with pytest.raises(ConfigError, match="is no share of baskets"):
        frequent_itemsets([{1, 2}], support=support)


def test_itemsets_of_one_are_refused_and_nothing_gives_nothing() -> None:
    with pytest.raises(ConfigError, match="hold no two"):
        frequent_itemsets([{1, 2}], largest=1)
    assert frequent_itemsets([]).itemsets == {}
    assert frequent_itemsets([set(), {1}]).itemsets == {}
