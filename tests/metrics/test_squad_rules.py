"""Exact match and F1 under `normalise: squad` are those of SQuAD's own evaluation, versions 1.1 and 2.0."""

from __future__ import annotations

import random

import pytest
from torchmetrics.text import SQuAD

from understudy.data.benchmark_formats import UNANSWERABLE
from understudy.metrics import MetricModels, score

MODELS = MetricModels(normalise="squad")
WORDS = ["the", "a", "an", "The", "AMF", "N2", "3.5", "-85", "dBm", "user-plane", "Ahmed's", "(UPF)", "gNB,", "…", "Ü"]


def measured(prediction: str, references: list[str]) -> tuple[float, float]:
    scores = score([prediction], [references], metrics=("exact_match", "token_f1"), models=MODELS)
    return scores["exact_match"].value, scores["token_f1"].value


def of_the_library(prediction: str, references: list[str]) -> tuple[float, float]:
    """By torchmetrics, which follows the published script; an empty text stands for no answer, as there."""
    metric = SQuAD()
    texts = ["" if text == UNANSWERABLE else text for text in (prediction, *references)]
    answers = {"text": texts[1:], "answer_start": [0] * len(references)}
    metric.update({"prediction_text": texts[0], "id": "1"}, {"answers": answers, "id": "1"})
    values = metric.compute()
    return float(values["exact_match"]) / 100, float(values["f1"]) / 100


@pytest.mark.parametrize(
    ("prediction", "references", "exact", "f1"),
    [
        ("The AMF.", ["an amf"], 1.0, 1.0),  # articles, case and punctuation
        ("user plane", ["user-plane"], 0.0, 0.0),  # a hyphen joins its words
        ("the user plane function", ["user plane", "plane function"], 0.0, 0.8),  # the best of several answers
        ("N2 N2 N3", ["N2 N3 N3"], 0.0, 2 / 3),  # words are counted
        (UNANSWERABLE, [UNANSWERABLE], 1.0, 1.0),  # no answer, rightly
        (UNANSWERABLE, ["AMF"], 0.0, 0.0),
        ("AMF", [UNANSWERABLE], 0.0, 0.0),
        ("theatre", ["atre"], 0.0, 0.0),  # an article within a word stays
        ("a", ["the"], 1.0, 1.0),  # nothing is left on either side
        ("the", ["AMF"], 0.0, 0.0),  # nothing is left on one side
        ("−85", ["85"], 0.0, 0.0),  # only ASCII punctuation goes
        ("-85", ["85"], 1.0, 1.0),
    ],
)
def test_edge_cases_by_hand(prediction: str, references: list[str], exact: float, f1: float) -> None:
    assert measured(prediction, references) == pytest.approx((exact, f1))
    assert of_the_library(prediction, references) == pytest.approx((exact, f1))


def test_five_hundred_random_cases_are_those_of_a_public_library() -> None:
    noise = random.Random(0)

    def text() -> str:
        return " ".join(noise.choices(WORDS, k=noise.randint(1, 5))) if noise.random() > 0.2 else UNANSWERABLE

    cases = []
    for _ in range(500):
        references = [text() for _ in range(noise.randint(1, 3))]
        if UNANSWERABLE in references:
            references = [UNANSWERABLE]
        cases.append((text() if noise.random() > 0.3 else noise.choice(references), references))
    scores = score(
        [own for own, _ in cases], [own for _, own in cases], metrics=("exact_match", "token_f1"), models=MODELS
    )
    expected = [of_the_library(*case) for case in cases]
    assert scores["exact_match"].per_example == pytest.approx([exact for exact, _ in expected])
    assert scores["token_f1"].per_example == pytest.approx([f1 for _, f1 in expected], abs=1e-6)
    assert 0.1 < scores["exact_match"].value < 0.9
