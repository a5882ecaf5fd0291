"""What the studies have in common: per-item scores of the arms of several runs, and their paired differences.

Runs of one study differ in their seed alone and answer the same items, so a difference is one of pairs: for the same
item, the mean over seeds of one arm minus that of the other. p is of random exchanges of facts (all items of a fact
together, `randomisation_test`), the interval a bootstrap over facts: both speak of these runs. `p_seeds` speaks of
other seeds too (`seeds_model`).
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from understudy.metrics import score
from understudy.metrics.significance import Resampling, paired_bootstrap, randomisation_test, seeds_model
from understudy.records import TrainingNotes
from understudy.run import Run

DRAWS = Resampling(10_000, 0.95, 0)


def item_scores(run: Run, arm: str, metric: str = "exact_match") -> dict[str, float]:
    """Item -> score of an arm's answer."""
    rows = run.predictions(arm)
    scored = score(
        [row.prediction or "" for row in rows],
        [list(row.references) for row in rows],
        questions=[row.question or "" for row in rows],
        metrics=(metric,),
    )[metric]
    return dict(zip((row.id for row in rows), map(float, scored.per_example), strict=True))


def groups(run: Run, arm: str) -> dict[str, str]:
    """Item -> what it shares with others."""
    return {row.id: row.group or row.id for row in run.predictions(arm)}


def seconds(run: Run, arm: str) -> float | None:
    """How long an arm was trained."""
    name = f"train-{arm}"
    return run.notes(name, TrainingNotes).train_seconds if run.is_done(name) else None


def compared(
    scores: Mapping[str, Sequence[Mapping[str, float]]], of_group: Mapping[str, str], pairs: Sequence[tuple[str, str]]
) -> list[dict[str, Any]]:
    """A row of figures an arm, in points, with the difference to the arm that it is compared with.

    Args:
        scores: arm -> of each seed item -> score.
        of_group: item -> what is exchanged together.
        pairs: (arm, other); an arm in none of them stands alone.
    """
    items = sorted(of_group)
    clusters = [of_group[item] for item in items]
    against = dict(pairs)
    means = {arm: np.mean([[run[item] for item in items] for run in runs], axis=0) for arm, runs in scores.items()}
    rows = []
    for arm, runs in scores.items():
        values = [100 * statistics.mean(run.values()) for run in runs]
        row: dict[str, Any] = {"arm": arm, "mean": statistics.mean(values)}
        row |= {"sd": statistics.stdev(values)} if len(values) > 1 else {}
        if (other := against.get(arm, "")) in scores:
            found = paired_bootstrap(means[arm], means[other], resampling=DRAWS, clusters=clusters)
            test = randomisation_test(means[arm], means[other], resampling=DRAWS, clusters=clusters)
            row |= {"other": other, "difference": 100 * found.difference, "p": test.p_value}
            row |= {"low": 100 * found.low, "high": 100 * found.high}
            row |= _over_seeds(arm, other, scores, items, clusters)
        rows.append(row)
    return rows


def _over_seeds(
    arm: str,
    other: str,
    scores: Mapping[str, Sequence[Mapping[str, float]]],
    items: Sequence[str],
    clusters: Sequence[str],
) -> dict[str, float]:
    """What p is where seeds vary too; nothing of fewer than three, or of seeds that are all alike."""
    values = {name: [[run[item] for item in items] for run in scores[name]] for name in (other, arm)}
    model = seeds_model(values, baseline=other, clusters=clusters)
    return {"p_seeds": model.effects[0].p_value} if model.method == "mixed" and model.converged else {}


COLUMNS = [
    {"title": "arm", "cell": ["{arm}"]},
    {"title": "exact match", "cell": ["{mean:.1f}"]},
    {"title": "sd over seeds", "cell": ["{sd:.1f}"]},
    {"title": "against", "cell": ["{other}"]},
    {"title": "difference [95%]", "cell": ["{difference:+.1f} [{low:+.1f}, {high:+.1f}]"]},
    {"title": "p", "cell": ["{p:.4f}"]},
    {"title": "p, seeds too", "cell": ["{p_seeds:.4f}"]},
]
"""As `render_results.py` prints a row."""
