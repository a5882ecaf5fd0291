"""What the comparisons find: frozen results that know how to become JSON.

`to_dict()` of each holds plain numbers, strings, lists and mappings; what is not known or not finite is null.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any


class Result:
    """A dataclass that turns into JSON field by field."""

    __slots__ = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what is not known or not finite is null."""
        assert is_dataclass(self)
        return {field.name: finite_json(getattr(self, field.name)) for field in fields(self)}


def finite_json(value: Any) -> Any:
    """`value` in JSON's own types, records and mappings resolved, numbers that are not finite made null."""
    if isinstance(value, Result):
        return value.to_dict()
    if isinstance(value, Mapping):
        return {str(key): finite_json(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [finite_json(item) for item in value]
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    return value


@dataclass(frozen=True, slots=True)
class Effect(Result):
    """How large a difference is, freed of the metric's scale.

    Attributes:
        name: `cohen_dz`, `rank_biserial` or `odds_ratio`.
        value: the size; NaN where nothing differs in a way that could be measured.
        low: lower bound of its interval; NaN where that is not known.
        high: upper bound.
    """

    name: str
    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class McNemar(Result):
    """Right against wrong: only items on which the two systems differ say anything.

    With clusters, a cluster counts once, for the side that answered more of it rightly.

    Attributes:
        only_a: items (clusters) that only a has right.
        only_b: items (clusters) that only b has right.
        p_exact: two-sided binomial p-value; rejects less often than the level says.
        p_mid: mid-p, close to the level and still seldom above it.
        odds_ratio: `only_a / only_b` with its exact interval.
    """

    only_a: int
    only_b: int
    p_exact: float
    p_mid: float
    odds_ratio: Effect


@dataclass(frozen=True, slots=True)
class MetricComparison(Result):
    """System a minus system b on one metric.

    Attributes:
        metric: name of the metric.
        value_a: aggregate of a over the items that both sides have.
        value_b: aggregate of b over the same items.
        difference: `value_a - value_b`, on the metric's scale.
        low: lower bound of the difference's bootstrap interval.
        high: upper bound.
        p_bootstrap: two-sided, paired bootstrap.
        p_randomisation: two-sided, approximate randomisation; the one that families are corrected on by default.
        p_wilcoxon: two-sided, signed ranks of per-item values (of cluster means, where there are clusters).
        mcnemar: where every value of both sides is 0 or 1; else None.
        cohen_dz: mean of the per-item differences over their standard deviation.
        rank_biserial: matched-pairs rank-biserial correlation.
        minimal_detectable: the least true difference that this many items show with the power asked for.
        items_needed: how many items would show the observed difference with that power; NaN where it is 0.
        n: items that both sides have.
        missing: items that one side or both lack; they are not in any figure of this record.
        groups: independent groups that the n items form.
        maximum: the metric's maximum: 1 or 100.
        higher_is_better: the metric's direction of good.
        signatures: the metric's signature on either side; one where they are equal.
    """

    metric: str
    value_a: float
    value_b: float
    difference: float
    low: float
    high: float
    p_bootstrap: float
    p_randomisation: float
    p_wilcoxon: float
    mcnemar: McNemar | None
    cohen_dz: Effect
    rank_biserial: Effect
    minimal_detectable: float
    items_needed: float
    n: int
    missing: int
    groups: int
    maximum: float
    higher_is_better: bool
    signatures: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Settings(Result):
    """How a comparison was made: enough to make it again."""

    resamples: int
    confidence: float
    alpha: float
    power: float
    seed: int
    items: int
    groups: int


@dataclass(frozen=True, slots=True)
class NotMeasured(Result):
    """A metric that was passed over, and why; `system` is empty where two were compared without names."""

    system: str
    metric: str
    reason: str


@dataclass(frozen=True, slots=True)
class SystemComparison(Result):
    """Two systems on every metric that both have, all from one set of draws.

    Attributes:
        metrics: name -> comparison, in the order of a's metrics.
        not_measured: what was passed over.
        settings: how it was made.
    """

    metrics: Mapping[str, MetricComparison]
    not_measured: tuple[NotMeasured, ...]
    settings: Settings


@dataclass(frozen=True, slots=True)
class PairTest(Result):
    """One test of the family: system `a` against system `b` on one metric.

    Attributes:
        a: name of the first system.
        b: name of the second.
        metric: name of the metric.
        comparison: everything about the pair on this metric.
        p_value: the p-value that entered the family.
        p_holm: adjusted by Holm: below alpha, the family-wise error is held at alpha.
        p_bh: adjusted by Benjamini and Hochberg: below alpha, the share of false findings is held at alpha.
        better: name of the better system where `p_holm` is below alpha, else empty.
        alone: whether `p_value` is below alpha: what a single test would have shown.
        items_needed: how many items would show the observed difference at the level of this test's own step in Holm's
            correction; NaN where that is not known. That of `comparison` is for one test alone.
    """

    a: str
    b: str
    metric: str
    comparison: MetricComparison
    p_value: float
    p_holm: float
    p_bh: float
    better: str
    alone: bool
    items_needed: float = float("nan")

    @property
    def ahead(self) -> str:
        """Name of the system with the better figure, however sure that is; empty where they are equal."""
        if self.comparison.difference == 0:
            return ""
        return self.a if (self.comparison.difference > 0) == self.comparison.higher_is_better else self.b


@dataclass(frozen=True, slots=True)
class Friedman(Result):
    """Friedman's test of several systems on the same items, and Nemenyi's critical difference after it.

    Attributes:
        systems: names, the best average rank first.
        average_ranks: in that order; rank 1 is the best.
        statistic: Friedman's chi-squared, corrected for ties.
        p_value: of the chi-squared; NaN with fewer than three systems.
        critical_difference: average ranks further apart than this differ at `alpha` (Nemenyi).
        nemenyi: `[k][k]` p-values of all pairs, in the order of `systems`.
        cliques: groups of systems that Nemenyi cannot tell apart, each at least two, as names: the bars of the diagram.
        alpha: level of the critical difference and the cliques.
        n: blocks ranked (items that all systems have; clusters, where there are clusters).
    """

    systems: tuple[str, ...]
    average_ranks: tuple[float, ...]
    statistic: float
    p_value: float
    critical_difference: float
    nemenyi: tuple[tuple[float, ...], ...]
    cliques: tuple[tuple[str, ...], ...]
    alpha: float
    n: int


@dataclass(frozen=True, slots=True)
class SystemsComparison(Result):
    """Pairs of several systems on all metrics, corrected as one family.

    Attributes:
        systems: names, in the order given.
        metrics: metrics that at least one pair could be compared on.
        tests: one a pair and metric, pairs in order, metrics within.
        family_test: which p-value the corrections are over: `randomisation` or `bootstrap`.
        family_size: how many tests were corrected together.
        friedman: metric -> ranking of the systems that have it; only with three systems or more.
        not_measured: what was passed over.
        settings: how it was made.
    """

    systems: tuple[str, ...]
    metrics: tuple[str, ...]
    tests: tuple[PairTest, ...]
    family_test: str
    family_size: int
    friedman: Mapping[str, Friedman]
    not_measured: tuple[NotMeasured, ...]
    settings: Settings
