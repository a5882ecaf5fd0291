"""Tests of two systems on the same items: approximate randomisation, Wilcoxon's signed ranks, McNemar.

All are two-sided. All take whole clusters where items hang together: randomisation exchanges a cluster's answers as
one, Wilcoxon ranks cluster means, McNemar lets each cluster vote once.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from understudy.errors import DataError
from understudy.metrics.significance.effects import odds_ratio
from understudy.metrics.significance.pairing import Paired, Values, pair, tidy
from understudy.metrics.significance.resampling import (
    DEFAULT_RESAMPLING,
    Columns,
    Resampling,
    Swappable,
    randomise,
    tail_share,
)
from understudy.metrics.significance.results import McNemar, Result

_EXACT_RANKS = 100  # up to so many ranks the exact distribution takes milliseconds


@dataclass(frozen=True, slots=True)
class PairedTest(Result):
    """A test of two systems on the items that both have.

    Attributes:
        name: which test.
        difference: a's figure minus b's.
        statistic: what the test looked at: the difference, or Wilcoxon's sum of positive ranks.
        p_value: two-sided.
        n: number of items.
        groups: number of independent groups they form.
        missing: number of items that one side or both lack; they are not in the test.
    """

    name: str
    difference: float
    statistic: float
    p_value: float
    n: int
    groups: int
    missing: int


def randomisation_test(
    a: Values,
    b: Values,
    *,
    resampling: Resampling = DEFAULT_RESAMPLING,
    clusters: Sequence[Hashable] | None = None,
) -> PairedTest:
    """Approximate randomisation (Noreen, 1989; Yeh, 2000): would it matter which answer came from which system?

    If the systems are alike, exchanging their answers on any items changes nothing; p is the share of random
    exchanges after which they differ at least as much as they do, the data as they are counted as one exchange. The
    exchanges are made on the statistics, so corpus BLEU is computed from exchanged counts.

    Args:
        a: a `Score`, or one value an item; NaN is missing.
        b: the other system, items in the same order.
        resampling: number of random exchanges and their seed; p is at least 1 / (draws + 1).
        clusters: the cluster of each item; clusters are exchanged whole.

    Raises:
        DataError: the two sides have no items, not the same number, or none in common.
    """
    paired = pair(a, b, clusters)
    differences = randomise([swappable(paired)], resampling)[0]
    difference = paired.value_a - paired.value_b
    p_value = tail_share(differences, difference, abs(paired.value_a) + abs(paired.value_b))
    return _test("randomisation", paired, difference, p_value)


def swappable(paired: Paired) -> Swappable:
    """The pair as columns whose rows may be exchanged.

    Raises:
        DataError: the two sides' statistics are not of one form.
    """
    if paired.totals_a.shape != paired.totals_b.shape:
        raise DataError("two scores of different metrics cannot be exchanged", hint="compare like with like")
    return Swappable(Columns(paired.totals_a, paired.from_a), Columns(paired.totals_b, paired.from_b))


def wilcoxon_test(a: Values, b: Values, *, clusters: Sequence[Hashable] | None = None) -> PairedTest:
    """Wilcoxon's signed-rank test (1945) of per-item values (cluster means); zeros are dropped, ties share their rank.

    With up to 100 differences that are not zero the distribution over all signs is computed exactly, ties and all;
    beyond that scipy's normal approximation is used.
    """
    paired = pair(a, b, clusters)
    means = tidy(paired.cluster_means(paired.differences))
    return _test("wilcoxon", paired, signed_ranks(means)[0], wilcoxon_p(means))


def wilcoxon_p(differences: np.ndarray) -> float:
    """Two-sided p-value of differences whose ties are exact; 1 where all are zero."""
    nonzero = differences[differences != 0]
    if not len(nonzero):
        return 1.0
    if len(nonzero) > _EXACT_RANKS:
        from scipy.stats import wilcoxon

        result: Any = wilcoxon(nonzero, method="asymptotic")
        return float(result.pvalue)
    positive, ranks = signed_ranks(nonzero)
    doubled = np.rint(2 * ranks).astype(np.int64)  # mid-ranks are halves
    chances = np.ones(1)
    for rank in doubled:  # after k ranks: the chance of each sum under random signs
        grown = np.zeros(len(chances) + rank)
        grown[: len(chances)] = chances / 2
        grown[rank:] += chances / 2
        chances = grown
    sum_positive = round(2 * positive)
    return float(min(1.0, 2 * min(chances[: sum_positive + 1].sum(), chances[sum_positive:].sum())))


def signed_ranks(differences: np.ndarray) -> tuple[float, np.ndarray]:
    """Sum of the ranks of positive differences, and all ranks; zeros dropped."""
    from scipy.stats import rankdata

    nonzero = differences[differences != 0]
    ranks = rankdata(np.abs(nonzero))
    return float(ranks[nonzero > 0].sum()), ranks


def mcnemar_test(
    a: Values, b: Values, *, clusters: Sequence[Hashable] | None = None, confidence: float = 0.95
) -> McNemar:
    """McNemar's test (1947) of right against wrong, exact and mid-p (Fagerland et al., 2013).

    Raises:
        DataError: a value is neither 0 nor 1.
    """
    paired = pair(a, b, clusters)
    if not is_binary(paired):
        raise DataError("McNemar's test is for values that are all 0 or 1", hint="use wilcoxon_test or a bootstrap")
    return mcnemar_of(paired, confidence)


def is_binary(paired: Paired) -> bool:
    """Whether every per-item value of both sides is 0 or 1."""
    return all(bool(np.isin(values, (0.0, 1.0)).all()) for values in (paired.values_a, paired.values_b))


def mcnemar_of(paired: Paired, confidence: float) -> McNemar:
    """McNemar's test of a pair that `is_binary`; a cluster is for the side that has more of it right."""
    from scipy.stats import binom

    votes = np.sign(tidy(paired.cluster_means(paired.differences)))
    only_a, only_b = int((votes > 0).sum()), int((votes < 0).sum())
    discordant, least = only_a + only_b, min(only_a, only_b)
    tail = float(binom.cdf(least, discordant, 0.5))
    exact = min(1.0, 2 * tail)
    mid = min(1.0, 2 * tail - float(binom.pmf(least, discordant, 0.5)))
    return McNemar(only_a, only_b, exact, mid if discordant else 1.0, odds_ratio(only_a, only_b, confidence=confidence))


def _test(name: str, paired: Paired, statistic: float, p_value: float) -> PairedTest:
    difference = paired.value_a - paired.value_b
    return PairedTest(name, difference, statistic, p_value, paired.n, paired.num_clusters, paired.missing)
