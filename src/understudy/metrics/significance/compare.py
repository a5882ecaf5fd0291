"""Whole comparisons: two systems on every metric, or all pairs of several, everything from one set of draws."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Literal

import numpy as np

from understudy.errors import DataError, listed
from understudy.metrics.scores import Score
from understudy.metrics.significance.bootstrap import difference_of
from understudy.metrics.significance.effects import dz_columns, dz_of, rank_biserial_of
from understudy.metrics.significance.multiple_testing import adjusted, friedman_test, holm_levels
from understudy.metrics.significance.paired_tests import is_binary, mcnemar_of, swappable, wilcoxon_p
from understudy.metrics.significance.pairing import Paired, cluster_numbers, pair_rows, tidy
from understudy.metrics.significance.power import (
    POWER,
    items_needed,
    items_needed_at,
    minimal_detectable,
    standard_error,
)
from understudy.metrics.significance.resampling import (
    DEFAULT_RESAMPLING,
    Columns,
    Resampled,
    Resampling,
    randomise,
    resample,
    tail_share,
)
from understudy.metrics.significance.results import (
    Friedman,
    MetricComparison,
    NotMeasured,
    PairTest,
    Settings,
    SystemComparison,
    SystemsComparison,
)

Systems = Mapping[str, Mapping[str, Score]]
Key = tuple[str, str, str]


def compare_systems(
    scores_a: Mapping[str, Score],
    scores_b: Mapping[str, Score],
    *,
    clusters: Sequence[Hashable] | None = None,
    resampling: Resampling = DEFAULT_RESAMPLING,
    power: float = POWER,
) -> SystemComparison:
    """Compare two systems on every metric that both have, with one set of draws.

    Args:
        scores_a: metric -> score of the first system, as `understudy.metrics.score` gives them.
        scores_b: likewise of the second, items in the same order.
        clusters: the cluster of each item; clusters are drawn and exchanged whole. Default: each item is its own.
        resampling: draws of bootstrap and randomisation, their seed, and the level of all intervals; 1 − confidence is
            the level of the power analysis.
        power: power of the minimal detectable effect and of the number of items needed.

    Raises:
        DataError: the two sides have no items, not the same number, or no metric in common.
    """
    settings = _settings({"a": scores_a, "b": scores_b}, clusters, resampling, power)
    pairs, not_measured = _pairs_of({"a": scores_a, "b": scores_b}, clusters, [("a", "b")])
    comparisons = _compare({"a": scores_a, "b": scores_b}, pairs, resampling, settings)
    metrics = {metric: comparison for (_, _, metric), comparison in comparisons.items()}
    return SystemComparison(metrics, not_measured, settings)


def compare_many(
    systems: Systems,
    *,
    contrasts: Sequence[tuple[str, str]] | None = None,
    clusters: Sequence[Hashable] | None = None,
    resampling: Resampling = DEFAULT_RESAMPLING,
    power: float = POWER,
    family_test: Literal["randomisation", "bootstrap"] = "randomisation",
) -> SystemsComparison:
    """Compare pairs of systems on all metrics; p-values adjusted over the whole family.

    Args:
        systems: name -> metric -> score; at least two, items in the same order.
        contrasts: which to test, first minus second; the family is these and no others. Default: all pairs; an
            empty list tests nothing. The ranking is of all systems either way.
        clusters: as in `compare_systems`.
        resampling: as in `compare_systems`; 1 − confidence is also the level of `better`, Friedman, Nemenyi. The least
            p-value is 1 / (draws + 1), so a family of m tests needs well over 20·m draws before Holm can find anything
            at the 5% level.
        power: as in `compare_systems`.
        family_test: the p-value that is adjusted.

    Raises:
        DataError: fewer than two systems, no items, lengths differ, no metric that two systems share, or a pair that
            is named twice or names no two of the systems.
    """
    settings = _settings(systems, clusters, resampling, power)
    rows, not_measured = _pairs_of(systems, clusters, _requested_contrasts(systems, contrasts))
    comparisons = _compare(systems, rows, resampling, settings)
    p_name = {"randomisation": "p_randomisation", "bootstrap": "p_bootstrap"}[family_test]
    p_values = {key: getattr(comparison, p_name) for key, comparison in comparisons.items()}
    holm, bh = adjusted(p_values, "holm"), adjusted(p_values, "bh")
    levels = holm_levels(p_values, settings.alpha)
    tests = tuple(
        _pair_test(key, comparison, (p_values[key], holm[key], bh[key]), levels[key], settings)
        for key, comparison in comparisons.items()
    )
    metrics = tuple(dict.fromkeys(test.metric for test in tests))
    return SystemsComparison(
        systems=tuple(systems),
        metrics=metrics,
        tests=tests,
        family_test=family_test,
        family_size=len(tests),
        friedman={} if len(systems) < 3 else _rankings(systems, metrics, clusters, settings.alpha),
        not_measured=not_measured,
        settings=settings,
    )


def _settings(
    systems: Systems,
    clusters: Sequence[Hashable] | None,
    resampling: Resampling,
    power: float,
) -> Settings:
    if len(systems) < 2:
        raise DataError("a comparison needs at least two systems")
    if not 0 < power < 1:
        raise DataError(f"cannot compare with power {power}", hint="it lies between 0 and 1")
    lengths = {len(score.per_example) for scores in systems.values() for score in scores.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise DataError(
            f"the systems have {listed(sorted(lengths), separator=' and ') if lengths else 'no'} items",
            hint="all systems need the same items in the same order, at least one",
        )
    items = lengths.pop()
    numbers = cluster_numbers(clusters, items)
    count = items if numbers is None else int(numbers.max()) + 1
    return Settings(resampling.draws, resampling.confidence, resampling.alpha, power, resampling.seed, items, count)


def _requested_contrasts(systems: Systems, contrasts: Sequence[tuple[str, str]] | None) -> list[tuple[str, str]]:
    """The pairs asked for, each once."""
    if contrasts is None:
        return list(combinations(systems, 2))
    seen: set[frozenset[str]] = set()
    for contrast in contrasts:
        if len({*contrast} & systems.keys()) != 2:
            raise DataError(f"{' and '.join(contrast)} are no two of the systems", hint=f"there are: {listed(systems)}")
        if frozenset(contrast) in seen:
            raise DataError(f"the pair {' and '.join(contrast)} is asked for twice", hint="name each pair once")
        seen.add(frozenset(contrast))
    return list(contrasts)


def _pairs_of(
    systems: Systems, clusters: Sequence[Hashable] | None, contrasts: Sequence[tuple[str, str]]
) -> tuple[dict[Key, Paired], tuple[NotMeasured, ...]]:
    """The pairs asked for, on every metric that both have, and what was passed over."""
    names = list(dict.fromkeys(metric for scores in systems.values() for metric in scores))
    not_measured, usable = [], {}
    for system, scores in systems.items():
        for metric in names:
            score = scores.get(metric)
            if score is None or not score.measured.any():
                reason = "not scored" if score is None else score.reason or "no item was measured"
                not_measured.append(NotMeasured(system, metric, reason))
            else:
                usable[system, metric] = score
    items = next(len(score.per_example) for scores in systems.values() for score in scores.values())
    numbers = cluster_numbers(clusters, items)
    pairs: dict[Key, Paired] = {}
    for a, b in contrasts:
        for metric in names:
            if (a, metric) not in usable or (b, metric) not in usable:
                continue
            if (usable[a, metric].measured & usable[b, metric].measured).any():
                pairs[a, b, metric] = pair_rows(usable[a, metric], usable[b, metric], numbers)
            else:
                not_measured.append(NotMeasured(f"{a} and {b}", metric, "no item that both have"))
    if contrasts and not pairs and not set.intersection(*(set(scores) for scores in systems.values())):
        raise DataError("the systems share no metric", hint="score all of them with the same metrics")
    return pairs, tuple(not_measured)


@dataclass(slots=True)
class _Table:
    """Figures to be resampled, each once however many pairs ask for it."""

    columns: list[Columns]
    numbers: dict[tuple, int]

    def add(self, key: tuple, columns: Columns) -> int:
        if key not in self.numbers:
            self.numbers[key] = len(self.columns)
            self.columns.append(columns)
        return self.numbers[key]


def _compare(
    systems: Systems, pairs: dict[Key, Paired], resampling: Resampling, settings: Settings
) -> dict[Key, MetricComparison]:
    if not pairs:
        return {}
    table, positions = _Table([], {}), {}
    for key, paired in pairs.items():
        a, b, metric = key
        scope = key if paired.missing else ()  # what is missing of one side is out of the other: figures of this pair
        positions[key] = (
            table.add((a, metric, scope), Columns(paired.totals_a, paired.from_a)),
            table.add((b, metric, scope), Columns(paired.totals_b, paired.from_b)),
            table.add(key, dz_columns(paired)),
        )
    figures = resample(table.columns, resampling)
    exchanged = randomise([swappable(paired) for paired in pairs.values()], resampling)
    comparisons = {}
    for (key, paired), swapped in zip(pairs.items(), exchanged, strict=True):
        scores = systems[key[0]][key[2]], systems[key[1]][key[2]]
        index_a, index_b, index_dz = positions[key]
        comparisons[key] = _comparison(
            key[2], scores, paired, (figures[index_a], figures[index_b]), figures[index_dz], swapped, settings
        )
    return comparisons


def _comparison(
    metric: str,
    scores: tuple[Score, Score],
    paired: Paired,
    figures: tuple[Resampled, Resampled],
    dz: Resampled,
    swapped: np.ndarray,
    settings: Settings,
) -> MetricComparison:
    n, num_clusters, confidence = paired.n, paired.num_clusters, settings.confidence
    a, b = paired.value_a, paired.value_b
    bootstrap = difference_of(*figures, n=n, num_clusters=num_clusters, confidence=confidence)
    error = standard_error(paired)
    means = tidy(paired.cluster_means(paired.differences))
    levels = {"power": settings.power, "alpha": settings.alpha}
    return MetricComparison(
        metric=metric,
        value_a=a,
        value_b=b,
        difference=a - b,
        low=bootstrap.low,
        high=bootstrap.high,
        p_bootstrap=bootstrap.p_value,
        p_randomisation=tail_share(swapped, a - b, abs(a) + abs(b)),
        p_wilcoxon=wilcoxon_p(means),
        mcnemar=mcnemar_of(paired, confidence) if is_binary(paired) else None,
        cohen_dz=dz_of(dz, num_clusters, confidence),
        rank_biserial=rank_biserial_of(means, confidence),
        minimal_detectable=minimal_detectable(error, num_clusters, **levels),
        items_needed=items_needed(a - b, error, num_clusters, items=n, **levels),
        n=n,
        missing=paired.missing,
        groups=num_clusters,
        maximum=scores[0].maximum,
        higher_is_better=scores[0].higher_is_better,
        signatures=tuple(dict.fromkeys(score.signature for score in scores)),
    )


def _pair_test(
    key: Key, comparison: MetricComparison, p_values: tuple[float, float, float], level: float, settings: Settings
) -> PairTest:
    needed = items_needed_at(comparison, level, power=settings.power, alpha=settings.alpha)
    test = PairTest(*key, comparison, *p_values, better="", alone=p_values[0] < settings.alpha, items_needed=needed)
    return replace(test, better=test.ahead) if test.p_holm < settings.alpha else test


def _rankings(
    systems: Systems, metrics: Sequence[str], clusters: Sequence[Hashable] | None, alpha: float
) -> dict[str, Friedman]:
    """Systems that have the metric, ranked on the items that all of them have; metrics without such items left out."""
    rankings = {}
    for metric in metrics:
        with_metric = {
            name: scores[metric]
            for name, scores in systems.items()
            if metric in scores and scores[metric].measured.any()
        }
        common = np.logical_and.reduce([score.measured for score in with_metric.values()])
        if len(with_metric) > 2 and common.any():
            direction = next(iter(with_metric.values())).higher_is_better
            rankings[metric] = friedman_test(with_metric, clusters=clusters, higher_is_better=direction, alpha=alpha)
    return rankings
