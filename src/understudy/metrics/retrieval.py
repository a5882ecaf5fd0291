"""Metrics of rankings: where among what was found the right passages stand.

Relevance is 1 for a right passage and 0 for any other. A ranking is looked at down to place k; passages that a system
does not list count as not found. Each is a mean over queries, so whatever resamples items adds them up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from understudy.metrics.scores import MetricInputs, Score, mean_score, not_measured

Gain = Callable[[np.ndarray, int], float]
"""`[k]` bool, which places of a ranking are right, and how many right passages there are, to a value of 0 to 1."""


def ndcg(right: np.ndarray, relevant: int) -> float:
    """DCG / IDCG with DCG = Σ_r rel_r / log2(r + 1) over places r from 1 on (Järvelin and Kekäläinen, 2002).

    IDCG is that of a ranking in which the right passages, as many of them as there are places, stand first.
    """
    discounts = 1 / np.log2(np.arange(2, len(right) + 2))
    return float((right * discounts).sum() / discounts[:relevant].sum())


def reciprocal_rank(right: np.ndarray, relevant: int) -> float:
    """1 / the place of the first right passage; 0 where there is none."""
    places = np.flatnonzero(right)
    return 1 / (int(places[0]) + 1) if len(places) else 0.0


def recall(right: np.ndarray, relevant: int) -> float:
    """Share of the right passages that were found."""
    return float(right.sum() / relevant)


def _measured(inputs: MetricInputs, *, name: str, gain: Gain, depth: int) -> Score:
    """A metric of rankings down to a place.

    Args:
        inputs: `rankings` and `references`.
        name: of the score.
        gain: of one ranking.
        depth: k.
    """
    rankings = inputs.rankings
    if rankings is None or not any(rankings):
        reason = "the predictions hold no rankings: a model of `kind: embed` gives them"
        return not_measured(name, len(inputs.predictions), reason)
    values = [
        gain(_right(ranking, references, depth), _num_relevant(references))
        for ranking, references in zip(rankings, inputs.references, strict=True)
    ]
    return mean_score(name, values, f"{name}|relevance:binary|strip:yes|case:mixed")


def _num_relevant(references: Sequence[str]) -> int:
    return len({text.strip() for text in references})


def _right(ranking: Sequence[str], references: Sequence[str], depth: int) -> np.ndarray:
    """`[k]`: which of the first places hold a right passage; one that stands there twice counts once."""
    right = {text.strip() for text in references}
    found = np.zeros(depth, dtype=bool)
    for place, text in enumerate(ranking[:depth]):
        if text.strip() in right:
            found[place] = True
            right.discard(text.strip())
    return found


METRICS: dict[str, Callable[[MetricInputs], Score]] = {
    name: partial(_measured, name=name, gain=gain, depth=depth)
    for name, gain, depth in (
        ("ndcg@10", ndcg, 10),
        ("mrr@10", reciprocal_rank, 10),
        ("recall@1", recall, 1),
        ("recall@5", recall, 5),
        ("recall@10", recall, 10),
    )
}
"""Name → metric."""
