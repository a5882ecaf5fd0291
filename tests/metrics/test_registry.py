"""One registry and one call: which names there are, what is refused, how a user's own metric gets in."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from understudy.errors import ConfigError, DataError
from understudy.metrics import (
    BUNDLE,
    BUNDLE_PUBLISHED,
    EMBEDDING,
    JUDGED,
    LABELS,
    METRICS,
    NGRAM,
    RETRIEVAL,
    SPEECH,
    STUDY_METRICS,
    TEXT_METRICS,
    MetricInputs,
    MetricModels,
    Score,
    mean_score,
    register,
    score,
)


@pytest.fixture
def registry() -> Iterator[None]:
    """A test may register what it likes; afterwards the registry is as it was."""
    before = dict(METRICS)
    yield
    METRICS.clear()
    METRICS.update(before)


def short(texts: MetricInputs) -> Score:
    return mean_score("short", [float(len(text) < 4) for text in texts.predictions], "short|below:4")


def test_there_are_fourteen_in_three_families() -> None:
    assert len(STUDY_METRICS) == len(set(STUDY_METRICS)) == 14
    assert STUDY_METRICS == NGRAM + EMBEDDING + JUDGED
    assert (len(NGRAM), len(EMBEDDING), len(JUDGED)) == (7, 2, 5)
    assert set(METRICS) == {
        *STUDY_METRICS,
        *LABELS,
        *RETRIEVAL,
        *BUNDLE,
        *BUNDLE_PUBLISHED,
        *SPEECH,
        "exact_match",
        "accuracy",
    }
    assert set(TEXT_METRICS) <= set(METRICS)


def test_every_metric_that_can_run_runs_and_the_others_say_why() -> None:
    nowhere = MetricModels(embedding_model="./no-such-folder", bertscore_model="./no-such-folder")
    scores = score(["the amf", ""], [["AMF"], ["x"]], metrics="all", models=nowhere)
    assert list(scores) == list(METRICS)
    without = {name for name, result in scores.items() if result.reason}
    assert without == {*EMBEDDING, *JUDGED, *RETRIEVAL, *BUNDLE, *BUNDLE_PUBLISHED}
    for name, result in scores.items():
        assert result.name == name
        assert len(result.per_example) == len(result.statistics) == 2
        assert (result.value != result.value) == (name in without)
        assert (result.signature == "not measured") == (name in without)
        assert result.to_dict()["name"] == name


def test_scores_come_in_the_order_asked_for() -> None:
    names = ["rougeL", "exact_match", "bleu"]
    assert list(score(["a"], [["a"]], metrics=names)) == names
    assert score(["a"], [["a"]], metrics=[]) == {}


def test_own_metric_is_registered_by_name(registry) -> None:
    register("short", short)
    assert score(["abc", "abcd"], [["x"], ["y"]], metrics=["short"])["short"].value == 0.5
    assert "short" in score(["abc"], [["x"]], metrics="all", models=MetricModels("./none", "./none"))


def test_a_name_is_given_once(registry) -> None:
    with pytest.raises(ConfigError, match="there is a metric 'bleu' already"):
        register("bleu", short)
    for name in ("", " ", "all"):
        with pytest.raises(ConfigError, match="cannot be named"):
            register(name, short)
    with pytest.raises(ConfigError, match="'mine' is no function"):
        register("mine", "short")
    assert METRICS.keys() == {
        *STUDY_METRICS,
        *LABELS,
        *RETRIEVAL,
        *BUNDLE,
        *BUNDLE_PUBLISHED,
        *SPEECH,
        "exact_match",
        "accuracy",
    }


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (lambda texts: 0.5, "float, not a Score"),
        (lambda texts: mean_score("mine", [1.0], "x"), "1 values and 1 rows of statistics for 2 items"),
        (
            lambda texts: replace(short(texts), name="mine", statistics=short(texts).statistics[:1]),
            "2 values and 1 rows",
        ),
        (short, "a score named 'short'"),
    ],
)
def test_a_metric_that_returns_something_else_is_named(registry, metric, message: str) -> None:
    register("mine", metric)
    with pytest.raises(ConfigError, match=f"metric 'mine' returned {message}"):
        score(["a", "b"], [["a"], ["b"]], metrics=["mine"])


def test_faults_are_named_before_anything_is_computed(registry) -> None:
    def never(texts: MetricInputs) -> Score:
        raise AssertionError

    register("never", never)
    with pytest.raises(ConfigError, match=r"rougel.*did you mean `rougeL`"):
        score(["a"], [["a"]], metrics=["never", "rougel"])
    with pytest.raises(ConfigError, match="'never' is asked for twice"):
        score(["a"], [["a"]], metrics=["never", "never"])
    with pytest.raises(ConfigError, match=r"metrics is the text 'bleu'.*metrics=\['bleu'\]"):
        score(["a"], [["a"]], metrics="bleu")


def test_faults_of_the_texts_are_named() -> None:
    with pytest.raises(DataError, match="2 predictions, but references for 1"):
        score(["a", "b"], [["a"]])
    with pytest.raises(DataError, match="empty"):
        score([], [])
    with pytest.raises(DataError, match="item 1 has no list"):
        score(["a", "b"], [["a"], []])
    with pytest.raises(DataError, match="item 0 has no list"):
        score(["a"], ["a"])
    with pytest.raises(DataError, match="1 predictions, but 2 questions"):
        score(["a"], [["a"]], questions=["q", "r"])
