"""Which student is better, by how much, and how sure that is – from rows of predictions alone.

An *arm* is one system's prediction rows (`measure` says what is in a row): teacher, base_student, sft, seqkd, kd_gold,
distilled, or any other name.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from understudy.arms import contrasts, main_arm
from understudy.evaluation.gap import Gap, gap_recovered
from understudy.evaluation.score_rows import Measured, Row, align, chance, group_numbers, measure
from understudy.metrics import TEXT_METRICS, Difference, Interval, MetricModels
from understudy.metrics.significance import difference_of, num_groups, percentile_bounds, resampled_totals

Sampled = tuple[float, np.ndarray]


@dataclass(frozen=True)
class Slice:
    """All figures on one set of items: the whole test set, one kind of question, the facts outside the gold.

    Attributes:
        items: number of test items.
        groups: number of facts (or other groups) they ask about.
        table: arm -> metric -> interval; an arm that was not measured on a metric has no entry.
        differences: (arm, other arm, metric) -> difference, arm minus other arm.
        gaps: metric -> share of the way from SFT-only to the teacher that the run's own student went.
    """

    items: int
    groups: int
    table: Mapping[str, Mapping[str, Interval]]
    differences: Mapping[tuple[str, str, str], Difference]
    gaps: Mapping[str, Gap]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "items": self.items,
            "groups": self.groups,
            "table": {
                arm: {metric: interval.to_dict() for metric, interval in row.items()} for arm, row in self.table.items()
            },
            "differences": [
                {"a": a, "b": b, "metric": metric, **difference.to_dict()}
                for (a, b, metric), difference in self.differences.items()
            ],
            "gaps": {metric: gap.to_dict() for metric, gap in self.gaps.items()},
        }


@dataclass(frozen=True)
class Comparison:
    """What `compare` found.

    Attributes:
        arms: the arms, in the order given.
        metrics: name -> maximum, direction and signature.
        overall: figures on all items.
        kinds: kind of question -> figures.
        gold_facts: `in_gold` and `not_in_gold` -> figures on items whose fact stood, or did not stand, in the gold.
        chance: expected `choice_accuracy` of guessing; None without multiple-choice items.
        settings: resamples, confidence and seed of the bootstrap.
        notes: what was left out, in words.
        not_measured: metrics that were asked for and not measured on any arm, with the reason.
    """

    arms: tuple[str, ...]
    metrics: Mapping[str, Mapping[str, Any]]
    overall: Slice
    kinds: Mapping[str, Slice]
    gold_facts: Mapping[str, Slice]
    chance: float | None
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()
    not_measured: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; what `report` reads."""
        return {
            "arms": list(self.arms),
            "metrics": {name: dict(about) for name, about in self.metrics.items()},
            "overall": self.overall.to_dict(),
            "kinds": {kind: part.to_dict() for kind, part in self.kinds.items()},
            "gold_facts": {label: part.to_dict() for label, part in self.gold_facts.items()},
            "chance": self.chance,
            "settings": dict(self.settings),
            "notes": list(self.notes),
            "not_measured": dict(self.not_measured),
        }


def compare(
    arms: Mapping[str, Sequence[Row]],
    *,
    metrics: Iterable[str] = TEXT_METRICS,
    tools: MetricModels | None = None,
    pairs: Sequence[tuple[str, str]] | None = None,
    resamples: int = 10_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Score every arm on the same items and set the arms side by side.

    Written answers are scored by `metrics`, multiple choice by likelihood (`choice_accuracy`). Items about one fact are
    drawn together wherever items are resampled.

    Args:
        arms: name -> prediction rows; the items must be the same, their order may differ. Arms may be missing.
        metrics: metrics of written answers.
        tools: the models that some metrics need.
        pairs: which differences to report, by default those that `arms.contrasts` names; a pair with a missing arm is
            passed over.
        resamples: draws of the bootstrap.
        confidence: level of every interval.
        seed: seed of the draws.

    Raises:
        DataError: no rows, arms with different items, or a row without one of the fields.
    """
    aligned, notes = align(arms)
    pairs = tuple(contrasts(aligned)) if pairs is None else pairs
    first = next(iter(aligned.values()))
    measured = measure(aligned, tuple(metrics), notes, tools)
    groups = np.array(group_numbers(first))
    settings = {"resamples": resamples, "confidence": confidence, "seed": seed}

    def part(keep: Callable[[Row], bool]) -> Slice:
        mask = np.array([keep(row) for row in first])
        return _slice(measured, mask, groups, pairs, **settings)

    kinds = sorted({row["kind"] for row in first if row.get("kind")})
    known = {row.get("gold_fact") for row in first}
    labels = {label: value for label, value in (("in_gold", True), ("not_in_gold", False)) if value in known}
    return Comparison(
        arms=tuple(aligned),
        metrics=measured.about,
        overall=part(lambda row: True),
        kinds={kind: part(lambda row, kind=kind: row.get("kind") == kind) for kind in kinds},
        gold_facts={label: part(lambda row, v=v: row.get("gold_fact") is v) for label, v in labels.items()},
        chance=chance(aligned),
        settings=settings,
        notes=tuple(notes),
        not_measured={name: why for (_, name), why in measured.missing.items() if name not in measured.about},
    )


def _slice(
    measured: Measured,
    mask: np.ndarray,
    groups: np.ndarray,
    pairs: Sequence[tuple[str, str]],
    *,
    resamples: int,
    confidence: float,
    seed: int,
) -> Slice:
    """One set of draws for all arms and metrics, so that every difference and every gap is paired."""
    present = {name: mask & applies for name, applies in measured.applies.items() if (mask & applies).any()}
    scores = {key: value for key, value in measured.scores.items() if key[1] in present}
    counts = {name: (int(keep.sum()), num_groups(0, groups[keep].tolist())) for name, keep in present.items()}
    samples: dict[tuple[str, str], Sampled] = {}
    totals = resampled_totals(
        np.concatenate([statistics[mask] for statistics, _ in scores.values()], axis=1),
        resamples=resamples,
        seed=seed,
        groups=groups[mask].tolist(),
    )
    start = 0
    for key, (statistics, result) in scores.items():
        stop = start + statistics.shape[1]
        value = float(result.from_totals(statistics[mask].sum(axis=0)))
        samples[key] = (value, result.from_totals(totals[:, start:stop]))
        start = stop
    table: dict[str, dict[str, Interval]] = defaultdict(dict)
    # Judged metrics can lack every item of a small slice: then there is no figure.
    samples = {key: sampled for key, sampled in samples.items() if sampled[0] == sampled[0]}
    for (arm, name), (value, drawn) in samples.items():
        n, groups_of = counts[name]
        table[arm][name] = Interval(value, *percentile_bounds(drawn, confidence, groups_of), n)
    differences = {
        (a, b, name): difference_of(
            samples[a, name], samples[b, name], n=counts[name][0], groups=counts[name][1], confidence=confidence
        )
        for a, b in pairs
        for name in present
        if (a, name) in samples and (b, name) in samples
    }
    ends = (main_arm([arm for arm, _ in samples]), "sft", "teacher")
    gaps = {
        name: gap_recovered(
            *(samples[arm, name] for arm in ends),
            confidence=confidence,
            groups=counts[name][1],
        )
        for name in present
        if all((arm, name) in samples for arm in ends)
    }
    return Slice(int(mask.sum()), num_groups(0, groups[mask].tolist()), dict(table), differences, gaps)


def majority_baseline(
    train_rows: Iterable[Row], test_rows: Iterable[Row], key: str | Callable[[Row], Hashable]
) -> list[dict[str, Any]]:
    """An arm that knows nothing of the question: the most frequent training answer of the row's class.

    Where a class (a relation, a kind) has few different answers, this is the score that reading the question has to
    beat. Of equally frequent answers the first in training wins; a class unknown to training gets the empty answer.

    Args:
        train_rows: rows with `references`, the first being the answer.
        test_rows: prediction rows of any arm; only the answer is replaced.
        key: the class of a row: a callable, or the name of a field of the row or of its `meta`.
    """
    of = key if callable(key) else lambda row: row[key] if key in row else (row.get("meta") or {}).get(key)
    counts: dict[Hashable, Counter[str]] = defaultdict(Counter)
    for row in train_rows:
        if row["references"]:
            counts[of(row)][row["references"][0]] += 1
    arm = []
    for row in test_rows:
        seen = counts.get(of(row), Counter())
        answer = seen.most_common(1)[0][0] if seen else ""
        choices = row.get("choices") or []
        scores = [float(seen[choice]) for choice in choices] if row.get("choice_scores") else None
        arm.append({**row, "prediction": answer, "choice_scores": scores, "seconds": 0.0})
    return arm
