"""Baselines of bundle generation on the test sessions of a data set: figures with intervals, and what they could show.

    python scripts/bundle_baselines.py ../shared/data/bundles/electronic --keep docs/results/bundle_baselines.json

`random` is the mean of 20 draws of each session. Neighbours and clusters are fitted on the training sessions.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from understudy.bundle_answers import write_answer
from understudy.data.load import load_splits
from understudy.data.sessions import Session, session_of
from understudy.metrics import Score, bootstrap_interval, paired_bootstrap, score
from understudy.metrics.significance.pairing import pair
from understudy.metrics.significance.power import minimal_detectable, standard_error
from understudy.recipe import DataConfig
from understudy.sessions.baselines import baseline
from understudy.sessions.title_clusters import TitleClusters
from understudy.types import Example

SOUND = ("precision", "recall", "f1", "coverage", "exact", "intent_f1")
PUBLISHED = ("precision_published", "recall_published", "coverage_published")
DRAWS = 20
AGAINST = "all in one bundle"


def systems(train: Sequence[Session], test: Sequence[Session], ways: Sequence[str]) -> dict[str, list[list[str]]]:
    """Name -> answers of each draw."""
    names = {"words": "words", "embedding": "vectors"}
    answers = {
        "random": [baseline("random", train, test, seed=seed) for seed in range(DRAWS)],
        AGAINST: [baseline("all_in_one", train, test)],
    }
    answers |= {f"nearest session, by {names[how]}": [baseline("nearest", train, test, how=how)] for how in ways}
    for how in ways:
        known, unknown = train, test
        if not all(item.category for session in train for item in session.items):
            clusters = TitleClusters.fit(train, how=how)
            known, unknown = clusters.categorised(train), clusters.categorised(test)
        answers[f"patterns of title clusters, by {names[how]}"] = [baseline("patterns", known, unknown)]
    return {name: [[write_answer(bundles) for bundles in draw] for draw in draws] for name, draws in answers.items()}


def measured(draws: Sequence[Sequence[str]], test: Sequence[Example]) -> dict[str, Score]:
    """The scores of a system; of several draws the totals of each item are their mean."""
    names = [f"bundle_{name}" for name in (*SOUND, *PUBLISHED)]
    references, questions = [row.answers for row in test], [row.question for row in test]
    scores = [score(list(draw), references, questions=questions, metrics=names) for draw in draws]
    if len(scores) == 1:
        return scores[0]
    return {name: _pooled([each[name] for each in scores]) for name in names}


def _pooled(draws: Sequence[Score]) -> Score:
    statistics = np.mean([draw.statistics for draw in draws], axis=0)
    values = np.array([draw.per_example for draw in draws])
    counted = (~np.isnan(values)).sum(axis=0)
    means = np.where(counted, np.nansum(values, axis=0) / np.maximum(counted, 1), np.nan)
    value = float(draws[0].from_totals(statistics.sum(axis=0)))
    return replace(draws[0], value=value, per_example=tuple(means.tolist()), statistics=statistics)


def figures(scores: Mapping[str, Score], names: Sequence[str]) -> dict[str, float]:
    """Each figure with the bounds of its interval."""
    row: dict[str, float] = {}
    for name in names:
        interval = bootstrap_interval(scores[f"bundle_{name}"])
        row |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return row


def difference(a: Score, b: Score) -> dict[str, float]:
    """A − b over the same sessions, and the least true difference that they would show four times in five."""
    found = paired_bootstrap(a, b)
    paired = pair(a, b)
    least = minimal_detectable(standard_error(paired), paired.num_clusters)
    return {"difference": found.difference, "low": found.low, "high": found.high, "least": least}


def columns(names: Mapping[str, str], first: str = "baseline") -> list[dict[str, Any]]:
    """Columns of figures with their intervals."""
    cells = [
        {"title": title, "cell": [f"{{{name}:.3f}} [{{{name}_low:.3f}}, {{{name}_high:.3f}}]"]}
        for name, title in names.items()
    ]
    return [{"title": first, "cell": ["{name}"]}, *cells]


def main() -> None:
    """Measure and keep."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source")
    parser.add_argument("--keep", required=True)
    parser.add_argument("--vectors", nargs="+", default=["words", "embedding"], choices=["words", "embedding"])
    arguments = parser.parse_args()
    splits = load_splits(DataConfig(source=arguments.source))
    train, test = list(map(session_of, splits.train)), list(map(session_of, splits.test))
    answers = systems(train, test, arguments.vectors)
    scores = {name: measured(draws, splits.test) for name, draws in answers.items()}
    titles = {
        "precision": "precision",
        "recall": "recall",
        "f1": "F1",
        "coverage": "coverage",
        "exact": "exact bundles",
        "intent_f1": "intents",
    }
    published = {"precision_published": "precision", "recall_published": "recall", "coverage_published": "coverage"}
    cell = "{difference:+.3f} [{low:+.3f}, {high:+.3f}]"
    against = [
        {"name": name, "metric": label, **difference(scores[name][f"bundle_{key}"], scores[AGAINST][f"bundle_{key}"])}
        for name in scores
        if name != AGAINST
        for key, label in (("precision", "precision"), ("recall", "recall"), ("coverage", "coverage"))
    ]
    tables = {
        "sound": {
            "columns": columns(titles),
            "rows": [{"name": name} | figures(found, SOUND) for name, found in scores.items()],
        },
        "published conventions": {
            "columns": columns(published),
            "rows": [{"name": name} | figures(found, PUBLISHED) for name, found in scores.items()],
        },
        "differences": {
            "columns": [
                {"title": f"against {AGAINST}", "cell": ["{name}"]},
                {"title": "metric", "cell": ["{metric}"]},
                {"title": "difference", "cell": [cell]},
                {"title": "smallest that would show", "cell": ["{least:.3f}"]},
            ],
            "rows": against,
        },
    }
    kept = {
        "made_by": "python scripts/bundle_baselines.py ../shared/data/bundles/electronic --keep FILE",
        "sessions": {"train": len(splits.train), "test": len(splits.test)},
        "signatures": {name: next(iter(scores.values()))[f"bundle_{name}"].signature for name in (*SOUND, *PUBLISHED)},
        "tables": tables,
    }
    with open(arguments.keep, "w", encoding="utf-8") as handle:
        json.dump(kept, handle, ensure_ascii=False, indent=1)
        handle.write("\n")


if __name__ == "__main__":
    main()
