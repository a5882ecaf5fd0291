"""Metrics of rankings: a public library's value of nDCG, and the others counted by hand."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from sklearn.metrics import ndcg_score

from understudy.metrics import RETRIEVAL, bootstrap_interval, score

PASSAGES = [f"passage {n}" for n in range(30)]


def drawn(seed: int) -> tuple[list[list[str]], list[list[str]]]:
    """Rankings of ten of thirty passages, and one to fifteen right ones."""
    noise = random.Random(seed)
    rankings = [noise.sample(PASSAGES, 10) for _ in range(20)]
    return rankings, [noise.sample(PASSAGES, noise.choice([1, 1, 2, 5, 15])) for _ in rankings]


def test_ndcg_is_scikit_learn_s() -> None:
    for seed in range(20):
        rankings, references = drawn(seed)
        result = score([row[0] for row in rankings], references, metrics=("ndcg@10",), rankings=rankings)["ndcg@10"]
        for ranking, right, value in zip(rankings, references, result.per_example, strict=True):
            relevance = np.array([[float(text in right) for text in PASSAGES]])
            # What stands in no ranking has the same low score; none of it lies within the first ten.
            scores = np.array([[float(-ranking.index(text)) if text in ranking else -100.0 for text in PASSAGES]])
            assert value == pytest.approx(ndcg_score(relevance, scores, k=10))


def test_the_others_are_counted_by_hand() -> None:
    rankings = [["a", "b", "c"], ["b", "a", "c"], ["x", "y", "z"], ["b", "c", "a", "d", "e", "f"]]
    references = [["a"], ["a"], ["a"], ["a", "f", "absent"]]
    result = score(["", "", "", ""], references, metrics=RETRIEVAL, rankings=rankings)
    assert result["mrr@10"].per_example == (1.0, 0.5, 0.0, pytest.approx(1 / 3))
    assert result["recall@1"].per_example == (1.0, 0.0, 0.0, 0.0)
    assert result["recall@5"].per_example == (1.0, 1.0, 0.0, pytest.approx(1 / 3))
    assert result["recall@10"].per_example == (1.0, 1.0, 0.0, pytest.approx(2 / 3))
    ideal = 1 + 1 / math.log2(3) + 1 / 2
    expected = (1 / math.log2(4) + 1 / math.log2(7)) / ideal
    assert result["ndcg@10"].per_example == (1.0, pytest.approx(1 / math.log2(3)), 0.0, pytest.approx(expected))


def test_a_passage_that_is_listed_twice_counts_once() -> None:
    result = score(["a"], [["a", "b"]], metrics=("ndcg@10", "recall@10"), rankings=[["a", "a", "a"]])
    assert result["recall@10"].value == 0.5
    assert result["ndcg@10"].value == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_they_are_resampled_by_their_own_statistics() -> None:
    rankings, references = drawn(1)
    result = score(["x"] * len(rankings), references, metrics=("mrr@10",), rankings=rankings)["mrr@10"]
    interval = bootstrap_interval(result)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < result.value < interval.high


def test_without_rankings_nothing_is_measured() -> None:
    result = score(["a"], [["a"]], metrics=("ndcg@10",))["ndcg@10"]
    assert "no rankings" in result.reason
    assert math.isnan(result.value)
