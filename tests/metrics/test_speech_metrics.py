"""Error rates of speech: against jiwer where it is installed, against plain dynamic programming always."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import numpy as np
import pytest

from understudy.metrics import score
from understudy.metrics.significance.compare import compare_systems
from understudy.metrics.speech import spoken_words

WORDS = ("raise", "the", "gain", "of", "cell", "four", "by", "six")


def distance(first: Sequence[object], second: Sequence[object]) -> int:
    """Wagner and Fischer's table (1974), row by row."""
    row = list(range(len(second) + 1))
    for i, a in enumerate(first, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(second, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]


def drawn(num: int = 60) -> tuple[list[str], list[list[str]]]:
    draw = random.Random(0)
    texts = [" ".join(draw.choices(WORDS, k=draw.randint(0 if n < num else 1, 9))) for n in range(2 * num)]
    return texts[:num], [[text] for text in texts[num:]]


def test_rates_are_edits_over_what_was_said_of_all_items_together() -> None:
    predictions, references = drawn()
    scores = score(predictions, references, metrics=("wer", "cer"))
    said = [reference.split() for [reference] in references]
    edits = [distance(text.split(), words) for text, words in zip(predictions, said, strict=True)]
    wer = scores["wer"]
    assert wer.value == pytest.approx(sum(edits) / sum(map(len, said)))
    assert wer.statistics.tolist() == [[e, len(words)] for e, words in zip(edits, said, strict=True)]
    assert sum(wer.details.values()) == sum(edits)
    assert not wer.higher_is_better
    assert wer.value != pytest.approx(np.mean(wer.per_example))
    letters = [distance(text, reference) for text, [reference] in zip(predictions, references, strict=True)]
    assert scores["cer"].value == pytest.approx(sum(letters) / sum(len(reference) for [reference] in references))


def test_they_are_jiwers() -> None:
    jiwer = pytest.importorskip("jiwer")
    predictions, references = drawn()
    truths = [reference for [reference] in references]
    scores = score(predictions, references, metrics=("wer", "cer"))
    assert scores["wer"].value == pytest.approx(jiwer.wer(truths, predictions))
    assert scores["cer"].value == pytest.approx(jiwer.cer(truths, predictions))


def test_case_and_punctuation_do_not_count_and_the_best_reference_does() -> None:
    assert spoken_words("Don’t raise\tCell-4's GAIN, please … by 6 %!") == [
        *("don't", "raise", "cell-4's", "gain", "please", "by", "6")
    ]
    [wer] = score(["Raise the gain!"], [["lower it", "raise the gain"]], metrics=("wer",)).values()
    assert wer.value == 0
    # Two of two words are worse than two of four.
    [wer] = score(["a b x y"], [["c d", "a b c d"]], metrics=("wer",)).values()
    assert wer.value == 0.5


def test_more_words_than_were_said_are_more_than_all_wrong() -> None:
    [wer] = score(["a b c d"], [["x"]], metrics=("wer",)).values()
    assert wer.value == 4
    assert dict(wer.details) == {"substitutions": 1, "deletions": 0, "insertions": 3}


def test_an_item_of_which_nothing_was_said_is_not_measured() -> None:
    [wer] = score(["a", "b"], [["…"], ["b"]], metrics=("wer",)).values()
    assert math.isnan(wer.per_example[0])
    assert wer.statistics.tolist() == [[0, 0], [0, 1]]
    assert wer.value == 0


def test_the_system_with_fewer_errors_wins_a_comparison() -> None:
    draw = random.Random(1)
    references = [[" ".join(draw.choices(WORDS, k=6))] for _ in range(80)]
    spoiled = [reference.replace("gain", "noise").replace("cell", "link") for [reference] in references]
    careful = score([reference for [reference] in references], references, metrics=("wer",))
    careless = score(spoiled, references, metrics=("wer",))
    compared = compare_systems(careful, careless).metrics["wer"]
    assert compared.difference == -careless["wer"].value < 0
    assert compared.high < 0
    assert not compared.higher_is_better
