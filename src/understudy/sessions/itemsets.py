"""Frequent itemsets of baskets: mined by efficient-apriori, bounded whatever the baskets are.

The library was chosen by `benchmarks/bundle_patterns.py`: on 100,000 sessions mlxtend's FP-growth needs over 4 GB for
50,000 columns; PAMI has no bound on the size of an itemset, a licence that a library cannot take on (GPL-3) and a chat
client among its dependencies; efficient-apriori has no dependency.

Two things stand before it. Items below the support leave their baskets: no itemset holds them. And an itemset of
`count` baskets uses up so many of the Σ_b Σ_k C(|b|, k) subsets there are, so a few baskets of thousands of items alone
allow more itemsets than memory holds; these keep their commonest items, as many as the bound allows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from understudy.distribution import install_command
from understudy.errors import ConfigError, ModelError

MOST_ITEMSETS = 100_000
"""How many itemsets long baskets may make possible, beside those of all others."""
NEVER_CUT = 12
"""A basket of so many frequent items is no long one, and never cut."""

T = TypeVar("T", bound=Hashable)


@dataclass(frozen=True, slots=True)
class FrequentItemsets:
    """Itemsets that stand in enough baskets.

    Attributes:
        itemsets: those of two items or more -> in how many baskets they stand.
        singles: item -> in how many baskets it stands, frequent or not.
        baskets: how many there are.
        min_count: in how many an itemset has to stand.
        longest: items that a basket may keep; None where none was cut.
        cut: how many baskets were cut to that.
    """

    itemsets: Mapping[frozenset, int]
    singles: Mapping[Any, int]
    baskets: int
    min_count: int
    longest: int | None = None
    cut: int = 0


def frequent_itemsets(
    baskets: Sequence[Iterable[T]], *, support: float = 0.001, largest: int = 5, at_least: int = 2
) -> FrequentItemsets:
    """Itemsets of 2 to `largest` items in a share of at least `support` of the baskets.

    ```text
    support(S) = |{b : S ⊆ b}| / |baskets|,  kept where |{b : S ⊆ b}| >= max(at_least, ceil(support · |baskets|))
    ```

    Of baskets that were cut (`FrequentItemsets.cut`) only the items they kept are counted; counts of itemsets are then
    lower bounds.

    Args:
        baskets: the items of each; one that stands twice counts once.
        support: the least share of baskets.
        largest: items of the largest itemset.
        at_least: baskets that an itemset needs however few there are; what stands in one basket is no pattern.

    Raises:
        ConfigError: a support outside ]0, 1], or `largest` below 2.
        ModelError: efficient-apriori is not installed.
    """
    if not 0 < support <= 1:
        raise ConfigError(f"a support of {support:g} is no share of baskets", hint="give one above 0, up to 1")
    if largest < 2:
        raise ConfigError(f"itemsets of up to {largest} items hold no two", hint="give 2 or more")
    sets = [set(basket) for basket in baskets]
    singles = Counter(item for basket in sets for item in basket)
    min_count = max(at_least, math.ceil(support * len(sets) - 1e-9))
    kept = [basket & frequent for basket in sets] if (frequent := _at_least(singles, min_count)) else []
    longest = _longest([len(basket) for basket in kept], min_count, largest)
    long = sum(len(basket) > longest for basket in kept)
    rows = [_commonest(basket, singles, longest) for basket in kept]
    found = _mine([row for row in rows if len(row) > 1], min_count, largest)
    return FrequentItemsets(found, dict(singles), len(sets), min_count, longest if long else None, long)


def _at_least(singles: Counter, min_count: int) -> set:
    return {item for item, count in singles.items() if count >= min_count}


def _longest(lengths: Sequence[int], min_count: int, largest: int) -> int:
    """The most items a basket may keep so that long ones make no more than `MOST_ITEMSETS` itemsets possible."""
    longest = max(lengths, default=0)
    long = Counter(length for length in lengths if length > NEVER_CUT)

    def possible(bound: int) -> float:
        return sum(n * _subsets(min(length, bound), largest) for length, n in long.items()) / min_count

    low, high = NEVER_CUT, max(longest, NEVER_CUT)
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if possible(middle) <= MOST_ITEMSETS else (low, middle - 1)
    return low


def _subsets(length: int, largest: int) -> int:
    return sum(math.comb(length, size) for size in range(2, largest + 1))


def _commonest(basket: set, singles: Counter, longest: int) -> tuple:
    """The items of a basket; of one that is too long the commonest, of equals the first by name."""
    if len(basket) <= longest:
        return tuple(basket)
    return tuple(sorted(basket, key=lambda item: (-singles[item], str(item)))[:longest])


def _mine(rows: Sequence[tuple], min_count: int, largest: int) -> dict[frozenset, int]:
    try:
        from efficient_apriori import itemsets_from_transactions
    except ImportError as error:
        raise ModelError(
            "patterns need efficient-apriori, which is not installed", hint=install_command("bundles")
        ) from error
    if len(rows) < min_count:
        return {}
    # The library compares shares; half a basket less keeps rounding from costing an itemset.
    found: Any
    found, _ = itemsets_from_transactions(rows, min_support=(min_count - 0.5) / len(rows), max_length=largest)
    return {frozenset(items): count for size, sets in found.items() if size > 1 for items, count in sets.items()}
