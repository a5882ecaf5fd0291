"""F1 of classes and of entities: a public library's, and counts by hand."""

from __future__ import annotations

import random

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_recall_fscore_support

from understudy.metrics import bootstrap_interval, score
from understudy.metrics.labels import entities

CLASSES = ["core", "radio", "transport", "user plane"]


def test_macro_f1_is_scikit_learn_s_on_random_answers() -> None:
    for seed in range(20):
        noise = random.Random(seed)
        gold = noise.choices(CLASSES, weights=[8, 4, 2, 1], k=40)
        given = [own if noise.random() < 0.6 else noise.choice([*CLASSES, "something else"]) for own in gold]
        result = score(given, [[own] for own in gold], metrics=("macro_f1", "accuracy"))
        there = sorted(set(gold))
        expected = f1_score(gold, given, labels=there, average="macro", zero_division=0)
        assert result["macro_f1"].value == pytest.approx(expected)
        assert np.mean(result["macro_f1"].per_example) == pytest.approx(result["accuracy"].value)
        columns = precision_recall_fscore_support(gold, given, labels=there, zero_division=0)
        table = result["macro_f1"].details["classes"]
        for n, name in enumerate(there):
            assert table[name]["f1"] == pytest.approx(columns[2][n])
            assert table[name]["support"] == columns[3][n]
            assert (table[name]["precision"] or 0.0) == pytest.approx(columns[0][n])
            assert table[name]["recall"] == pytest.approx(columns[1][n])


def test_its_interval_comes_from_its_own_counts() -> None:
    gold = ["core", "radio"] * 30
    given = [own if n % 5 else "radio" for n, own in enumerate(gold)]
    result = score(given, [[own] for own in gold], metrics=("macro_f1",))["macro_f1"]
    interval = bootstrap_interval(result)
    assert interval.low is not None
    assert interval.high is not None
    assert interval.low < result.value < interval.high


def test_several_right_labels() -> None:
    result = score(["radio"], [["core", "radio"]], metrics=("macro_f1",))["macro_f1"]
    assert result.value == 1.0


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ("O B-NF I-NF O", [("NF", 1, 3)]),
        ("B-NF B-NF", [("NF", 0, 1), ("NF", 1, 2)]),
        ("I-NF I-NF B-IF", [("NF", 0, 2), ("IF", 2, 3)]),
        ("B-NF I-IF", [("NF", 0, 1), ("IF", 1, 2)]),
        ("O O", []),
        ("B I O I", [("entity", 0, 2), ("entity", 3, 4)]),
    ],
)
def test_entities_are_read_off_the_labels(labels: str, named: list) -> None:
    assert entities(labels.split()) == named


def test_entity_f1_counts_over_all_items() -> None:
    gold = ["O B-NF I-NF", "B-NF O", "O O"]
    given = ["O B-NF O", "B-NF O", "O B-NF"]
    scores = score(given, [[own] for own in gold], metrics=("entity_f1", "word_accuracy"))
    # Right: one of three named by either side.
    assert scores["entity_f1"].value == pytest.approx(2 * 1 / (3 + 2))
    assert scores["entity_f1"].per_example == pytest.approx((0.0, 1.0, 0.0))
    assert scores["word_accuracy"].per_example == pytest.approx((2 / 3, 1.0, 0.5))
