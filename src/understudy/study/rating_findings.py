"""What ratings show: means, tests of every two methods, mixed models, agreement, and what others have published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations

import numpy as np

from understudy.errors import DataError
from understudy.metrics.significance.agreement import cronbach_alpha, icc_oneway, krippendorff_alpha
from understudy.metrics.significance.bootstrap import Interval, count_clusters, resampled_figure
from understudy.metrics.significance.crossed import CrossedFit, crossed_model
from understudy.metrics.significance.multiple_testing import adjusted as corrected
from understudy.metrics.significance.rank_tests import dunn_test, kruskal_wallis, vargha_delaney
from understudy.metrics.significance.resampling import Resampling
from understudy.study.answers import Answers
from understudy.study.findings import Findings, MethodMean, OutcomeFinding, PairFinding
from understudy.study.folder import Study
from understudy.study.options import AnalysisOptions
from understudy.study.permutation import DesignDraws, PermutationTests, mechanism_of, permutation_tests
from understudy.study.ratings import Ratings

_PER = 100  # characters that the effect of length is of
_NAN = float("nan")


def findings(ratings: Ratings, answers: Answers, design: DesignDraws | None, options: AnalysisOptions) -> Findings:
    """All that a set of ratings shows.

    Raises:
        DataError: fewer than two methods or raters, or ratings that are not of the assignment.
    """
    if len(ratings.methods) < 2 or ratings.num_raters < 2:
        raise DataError(
            f"ratings of {len(ratings.methods)} method(s) by {ratings.num_raters} rater(s) compare nothing",
            hint="at least two of each are needed",
        )
    mechanism = mechanism_of(ratings, design, answers.slots, seed=options.seed)
    tests = permutation_tests(ratings, mechanism, draws=options.draws)
    notes: list[str] = []
    models = {name: _models(ratings, name, notes) for name in ratings.outcomes}
    per_rater = np.unique(ratings.rater.astype(str), return_counts=True)[1]
    return Findings(
        raters=ratings.num_raters,
        explanations=len(ratings),
        items=len(set(ratings.item.tolist())),
        fewest=int(per_rater.min()),
        most=int(per_rater.max()),
        means=_means(ratings, answers.study, options.resampling),
        outcomes=tuple(_outcome(ratings, name, tests[name], models[name], options) for name in ratings.outcomes),
        pairs=_pairs(ratings, tests, models, options),
        family_size=len(ratings.outcomes) * len(list(combinations(ratings.methods, 2))),
        cronbach=cronbach_alpha(ratings.values) if len(ratings.constructs) > 1 else _NAN,
        lengths=_lengths(ratings),
        notes=tuple(dict.fromkeys(notes)),
    )


def _lengths(ratings: Ratings) -> dict[str, float]:
    if np.isnan(ratings.length).any():
        return {}
    return {name: float(ratings.length[ratings.method == name].mean()) for name in ratings.methods}


def _means(ratings: Ratings, study: Study | None, resampling: Resampling) -> tuple[MethodMean, ...]:
    weights = np.array([1.0 if study is None else study.items[item].weight for item in ratings.item])
    uneven = float(np.ptp(weights)) > 1e-9
    rows = []
    for outcome in ratings.outcomes:
        values = ratings.of(outcome)
        for method in ratings.methods:
            chosen = (ratings.method == method) & ~np.isnan(values)
            raters = ratings.rater[chosen].tolist()
            plain = _mean(values[chosen], np.ones(int(chosen.sum())), raters, resampling)
            weighted = _mean(values[chosen], weights[chosen], raters, resampling) if uneven else None
            counts = {} if outcome not in ratings.constructs else _counts(values[chosen])
            rows.append(MethodMean(method, outcome, plain, weighted, counts))
    return tuple(rows)


def _mean(values: np.ndarray, weights: np.ndarray, raters: Sequence[str], resampling: Resampling) -> Interval:
    """Weighted mean Σwy/Σw with the bootstrap's interval over raters."""
    if not len(values):
        return Interval(_NAN, _NAN, _NAN, 0)
    figure = resampled_figure(
        np.stack([weights * values, weights], axis=1), ratio, resampling=resampling, clusters=raters
    )
    bounds = figure.bounds(resampling.confidence, count_clusters(len(values), raters))
    return Interval(figure.value, *bounds, len(values))


def _counts(values: np.ndarray) -> dict[str, int]:
    found = zip(*np.unique(values, return_counts=True), strict=True)
    return {f"{value:g}": int(count) for value, count in found}


def ratio(totals: np.ndarray) -> np.ndarray:
    """`[…, 2]` sums of weighted values and of weights -> weighted mean."""
    with np.errstate(invalid="ignore", divide="ignore"):
        return totals[..., 0] / totals[..., 1]


def _outcome(
    ratings: Ratings,
    name: str,
    tests: PermutationTests,
    models: tuple[CrossedFit | None, CrossedFit | None],
    options: AnalysisOptions,
) -> OutcomeFinding:
    values = ratings.of(name)
    texts = np.array([f"{item}\0{method}" for item, method in zip(ratings.item, ratings.method, strict=True)])
    groups = _groups(ratings, values)
    fit = models[1] or models[0]
    return OutcomeFinding(
        name=name,
        any_method=tests.any_method,
        any_method_ranks=tests.any_method_ranks,
        kruskal=kruskal_wallis(groups),
        dunn=dunn_test(groups, correction="bonferroni", confidence=options.confidence),
        dunn_holm=dunn_test(groups, correction="holm", confidence=options.confidence),
        alpha=krippendorff_alpha(
            values, texts, resampling=replace(options.resampling, draws=min(1000, options.resamples))
        ),
        text_icc=icc_oneway(values, texts, confidence=options.confidence),
        rater_icc=icc_oneway(values, ratings.rater.astype(str), confidence=options.confidence),
        variances={} if fit is None else fit.variances,
        length=None if models[1] is None else models[1].effect({"length": 1.0}, "length", options.confidence),
    )


def _groups(ratings: Ratings, values: np.ndarray) -> dict[str, np.ndarray]:
    there = ~np.isnan(values)
    return {method: values[(ratings.method == method) & there] for method in ratings.methods}


def _models(ratings: Ratings, outcome: str, notes: list[str]) -> tuple[CrossedFit | None, CrossedFit | None]:
    """The mixed model without and with length; None, with a note, where it cannot be fitted."""
    values = ratings.of(outcome)
    there = ~np.isnan(values)
    columns = {"mean": np.ones(int(there.sum()))}
    columns |= {name: (ratings.method[there] == name).astype(np.float64) for name in ratings.methods[1:]}
    random = {"rater": ratings.rater[there].astype(str), "item": ratings.item[there].astype(str)}
    plain = _fit(values[there], columns, random, notes, "the mixed model")
    length = ratings.length[there] / _PER
    if np.isnan(length).any() or not np.ptp(length):
        return plain, None
    with_length = {**columns, "length": length - length.mean()}
    return plain, _fit(values[there], with_length, random, notes, "the mixed model with length")


def _fit(
    values: np.ndarray, columns: Mapping[str, np.ndarray], random: Mapping[str, np.ndarray], notes: list[str], what: str
) -> CrossedFit | None:
    try:
        fit = crossed_model(values, columns, random)
    except DataError as error:
        notes.append(f"{what} could not be fitted: {error.message}")
        return None
    if not fit.converged:
        notes.append(f"{what} did not settle: do not rely on its intervals")
    return fit


def _pairs(
    ratings: Ratings,
    tests: Mapping[str, PermutationTests],
    models: Mapping[str, tuple[CrossedFit | None, CrossedFit | None]],
    options: AnalysisOptions,
) -> tuple[PairFinding, ...]:
    keys = [(outcome, *pair) for outcome in ratings.outcomes for pair in combinations(ratings.methods, 2)]
    found = {key: tests[key[0]].pairs[key[1], key[2]] for key in keys}
    holm, holm_ranks = (corrected({key: row[place] for key, row in found.items()}) for place in (1, 2))
    rows = []
    for outcome, a, b in keys:
        difference, p_value, p_ranks = found[outcome, a, b]
        groups = _groups(ratings, ratings.of(outcome))
        significant = holm[outcome, a, b] <= options.alpha
        plain, with_length = (
            None if fit is None else fit.effect(_contrast(a, b, ratings.methods[0]), f"{a} − {b}", options.confidence)
            for fit in models[outcome]
        )
        rows.append(
            PairFinding(
                outcome,
                a,
                b,
                difference,
                p_value,
                p_ranks,
                holm[outcome, a, b],
                holm_ranks[outcome, a, b],
                plain,
                with_length,
                vargha_delaney(groups[a], groups[b], confidence=options.confidence),
                (a if difference > 0 else b) if significant else None,
            )
        )
    return tuple(rows)


def _contrast(a: str, b: str, baseline: str) -> dict[str, float]:
    return {name: sign for name, sign in ((a, 1.0), (b, -1.0)) if name != baseline}
