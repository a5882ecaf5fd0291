"""Scores of any systems on their items, kept item by item so that everything after this only adds numbers up."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from understudy.evaluation.score_rows import align, grouping_note, measure, row_clusters
from understudy.evaluation.systems import System, same_items
from understudy.metrics import Interval, MetricModels, Score, bootstrap_interval
from understudy.metrics.significance import DEFAULT_RESAMPLING, Resampling
from understudy.metrics.significance.pairing import row_sums
from understudy.metrics.significance.resampling import Columns, resample
from understudy.records import MetricInfo, Prediction


@dataclass(frozen=True)
class Scored:
    """Systems on one set of items.

    Attributes:
        systems: the systems, in the order given; several runs of one system with other seeds stand as one.
        rows: the items, as the first system's rows have them, those without a right answer left out.
        predictions: system -> what it answered, item by item; of several seeds, the first.
        scores: system -> metric -> score over all items; of several seeds, their mean item by item.
        by_seed: system -> seed -> metric -> score, where a system was trained with several seeds.
        clusters: the group of each item; items of one group are no independent evidence.
        not_measured: metric -> system -> why there is no figure.
        notes: what was left out, in words.
    """

    systems: tuple[System, ...]
    rows: Sequence[Prediction]
    predictions: Mapping[str, Sequence[Prediction]]
    scores: Mapping[str, Mapping[str, Score]]
    by_seed: Mapping[str, Mapping[int, Mapping[str, Score]]]
    clusters: Sequence[int]
    not_measured: Mapping[str, Mapping[str, str]]
    notes: tuple[str, ...]

    def metrics(self) -> dict[str, MetricInfo]:
        """Metric -> maximum, direction and signature, of all metrics that some system was measured on."""
        table: dict[str, MetricInfo] = {}
        for scores in self.scores.values():
            for name, result in scores.items():
                table.setdefault(name, MetricInfo(result.maximum, result.higher_is_better, result.signature))
        return table

    @property
    def are_arms(self) -> bool:
        """Whether these are the arms of a run, of one seed or several, under their own names."""
        return all(system.arm and system.name == system.arm for system in self.systems)

    @property
    def shared_clusters(self) -> Sequence[int] | None:
        """The groups, where any two items share one."""
        return self.clusters if len(set(self.clusters)) < len(self.clusters) else None

    def part(self, keep: Sequence[bool]) -> Scored:
        """The same systems on some of the items; a metric that none of these has is left out."""
        indices = np.flatnonzero(keep).tolist()
        rows = [self.rows[index] for index in indices]
        scores = {
            name: {metric: _score_of_part(result, indices) for metric, result in scores.items()}
            for name, scores in self.scores.items()
        }
        return replace(
            self,
            rows=rows,
            predictions={name: [answers[index] for index in indices] for name, answers in self.predictions.items()},
            scores={name: {m: s for m, s in metrics.items() if s.measured.any()} for name, metrics in scores.items()},
            by_seed={},
            clusters=_numbered_anew([self.clusters[index] for index in indices]),
        )

    def intervals(self, resampling: Resampling = DEFAULT_RESAMPLING) -> dict[str, dict[str, Interval]]:
        """System -> metric -> figure with its bootstrap interval, whole groups drawn together.

        Figures that have every item share one set of draws; one that lacks items is drawn from those it has.
        """
        complete = [
            (name, metric)
            for name, scores in self.scores.items()
            for metric, result in scores.items()
            if result.measured.all()
        ]
        shared_intervals = dict(
            zip(
                complete, self._intervals_of_complete([self.scores[n][m] for n, m in complete], resampling), strict=True
            )
        )
        return {
            name: {
                metric: shared_intervals.get((name, metric))
                or bootstrap_interval(result, clusters=self.clusters, resampling=resampling)
                for metric, result in scores.items()
            }
            for name, scores in self.scores.items()
        }

    def _intervals_of_complete(self, scores: Sequence[Score], resampling: Resampling) -> list[Interval]:
        if not scores:
            return []
        cluster_of_item = np.asarray(self.clusters)
        count = int(cluster_of_item.max()) + 1
        columns = [Columns(row_sums(score.statistics, cluster_of_item, count), score.from_totals) for score in scores]
        return [
            Interval(figure.value, *figure.bounds(resampling.confidence, count), len(cluster_of_item))
            for figure in resample(columns, resampling)
        ]


def _numbered_anew(clusters: Sequence[int]) -> list[int]:
    """The same clusters, numbered from 0 without gaps."""
    names: dict[int, int] = {}
    return [names.setdefault(cluster, len(names)) for cluster in clusters]


def _score_of_part(result: Score, indices: list[int]) -> Score:
    """A score on some of its items."""
    statistics = result.statistics[indices]
    values = np.asarray(result.per_example, dtype=np.float64)[indices]
    value = float(result.from_totals(statistics.sum(axis=0)))
    return replace(result, value=value, statistics=statistics, per_example=tuple(values.tolist()), details={})


def score_systems(systems: Sequence[System], metrics: Sequence[str], models: MetricModels | None = None) -> Scored:
    """Measure systems on the same items.

    Args:
        systems: what to measure; systems of one name are one system trained with several seeds.
        metrics: names of metrics of written answers; options chosen by likelihood are measured besides.
        models: the models that some metrics need.

    Raises:
        DataError: the systems cannot be paired, or there is nothing to score.
        ConfigError: a metric that is not known.
    """
    systems = same_items(systems)
    runs = Counter(system.name for system in systems)
    keys = {_key(system, has_seeds=runs[system.name] > 1): system for system in systems}
    aligned, notes = align({key: system.rows for key, system in keys.items()})
    measured = measure(aligned, tuple(metrics), notes, models)
    first_rows = next(iter(aligned.values()))
    families: dict[str, list[str]] = {}
    for key, system in keys.items():
        families.setdefault(system.name, []).append(key)
    scores = {key: measured.over_all(key) for key in keys}
    reasons: dict[str, dict[str, str]] = {}
    for (key, name), reason in measured.missing.items():
        reasons.setdefault(name, {})[keys[key].name] = reason
    return Scored(
        systems=tuple(keys[members[0]] for members in families.values()),
        rows=first_rows,
        predictions={name: aligned[members[0]] for name, members in families.items()},
        scores={name: _seed_mean([scores[key] for key in members]) for name, members in families.items()},
        by_seed={
            name: {keys[key].seed or 0: scores[key] for key in members}
            for name, members in families.items()
            if len(members) > 1
        },
        clusters=row_clusters(first_rows),
        not_measured=reasons,
        notes=(
            *(note for system in systems for note in system.notes),
            *notes,
            *grouping_note(first_rows),
            *_truncation_notes(scores),
        ),
    )


def _truncation_notes(scores: Mapping[str, Mapping[str, Score]]) -> list[str]:
    """Texts that an encoder did not read to their end."""
    return [
        f"{key}, {name}: {count:,} texts are longer than the encoder reads; the rest of them was not compared"
        for key, results in scores.items()
        for name, result in results.items()
        if (count := result.details.get("truncated_texts"))
    ]


def _key(system: System, *, has_seeds: bool) -> str:
    return f"{system.name} (seed {system.seed})" if has_seeds and system.seed is not None else system.name


def _seed_mean(scores: Sequence[Mapping[str, Score]]) -> dict[str, Score]:
    """Scores of one system averaged over its seeds: statistics and values, item by item."""
    if len(scores) == 1:
        return dict(scores[0])
    shared = [name for name in scores[0] if all(name in seed_scores for seed_scores in scores)]
    return {name: mean_over_seeds([seed_scores[name] for seed_scores in scores]) for name in shared}


def mean_over_seeds(scores: Sequence[Score]) -> Score:
    """One score for several runs of a system: statistics averaged item by item, the aggregate taken from their sums.

    For a mean metric that is the mean over the seeds; a corpus metric is that of all seeds' answers together. What
    the choice of seed could move is not in its interval: for that there are the standard deviation and the mixed model.
    """
    values = np.array([score.per_example for score in scores], dtype=np.float64)
    measured = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        means = np.where(measured, values, 0.0).sum(axis=0) / measured.sum(axis=0)
    statistics = np.mean([score.statistics for score in scores], axis=0)
    first = scores[0]
    return replace(
        first,
        value=float(first.from_totals(statistics.sum(axis=0))),
        per_example=tuple(means.tolist()),
        statistics=statistics,
        signature=f"{first.signature}|seeds:{len(scores)}",
        details={},
    )
