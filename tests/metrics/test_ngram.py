"""Every value against the library that is its standard, on real text and on the text nobody expects."""

from __future__ import annotations

import csv
import random
import re
import string
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from understudy.metrics import NGRAM, TEXT_METRICS, MetricModels, score
from understudy.metrics.corpus import bleu_words
from understudy.metrics.ngram import longest_common_subsequence
from understudy.normal_form import normalise

LONG = Path(__file__).resolve().parents[2] / ".." / "shared" / "data/telecom/mm_telcobench/LONG_TelcoBench.csv"
WITHOUT_MODEL = ("exact_match", "accuracy", *NGRAM)
ASCII = string.ascii_lowercase + string.digits
CLOSE = {"rel": 1e-9, "abs": 1e-9}

ODD = (
    [
        "",
        "the cat",
        "   ",
        "Ünïcode – naïve café",
        "核心网 AMF",
        "a",
        "!!!",
        "The UPF forwards packets.",
        "emoji 🛰 link",
    ],
    [
        ["", "x"],
        ["The cat!"],
        ["something"],
        ["unicode naive cafe", "Ünïcode – naïve Café"],
        ["核心网 SMF", "AMF"],
        ["the"],
        ["???", ""],
        ["UPF forwards the packets of a session", "The UPF"],
        ["emoji link", "🛰"],
    ],
)


@pytest.fixture(scope="module")
def telecom() -> tuple[list[str], list[list[str]]]:
    """One of three paraphrased answers as the prediction, sometimes cut or shuffled, against the other two."""
    if not LONG.exists():
        pytest.skip("the shared telecom data is not here")
    with LONG.open(encoding="utf-8", newline="") as handle:
        rows = [[row[f"Candidate Answer {number}"] for number in (1, 2, 3)] for row in csv.DictReader(handle)][:150]
    shuffle = random.Random(0)
    predictions = []
    for number, (first, *_) in enumerate(rows):
        words = first.split()
        if number % 3 == 1:
            words = words[: len(words) // 2]
        if number % 5 == 1:
            shuffle.shuffle(words)
        predictions.append(" ".join(words))
    return predictions, [row[1:] if number % 4 else row[1:2] for number, row in enumerate(rows)]


def streams(references: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """References turned round into sacrebleu's own form."""
    width = max(map(len, references))
    return [[item[k] if k < len(item) else None for item in references] for k in range(width)]


def assert_equals_libraries(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> None:
    ours = score(predictions, references)
    assert ours["bleu"].value == pytest.approx(
        sacrebleu.corpus_bleu(predictions, streams(references), force=True).score, **CLOSE
    )
    assert ours["chrf"].value == pytest.approx(sacrebleu.corpus_chrf(predictions, streams(references)).score, **CLOSE)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for index, (prediction, right) in enumerate(zip(predictions, references, strict=True)):
        theirs = scorer.score_multi(right, prediction)
        for name in ("rouge1", "rouge2", "rougeL"):
            assert ours[name].per_example[index] == pytest.approx(theirs[name].fmeasure, **CLOSE)
        sentence = sacrebleu.sentence_bleu(prediction, list(right)).score
        assert ours["bleu"].per_example[index] == pytest.approx(sentence, **CLOSE)
        assert ours["chrf"].per_example[index] == pytest.approx(
            sacrebleu.sentence_chrf(prediction, list(right)).score, **CLOSE
        )


def test_real_text_equals_the_libraries(telecom) -> None:
    assert_equals_libraries(*telecom)


def test_odd_text_equals_the_libraries() -> None:
    assert_equals_libraries(*ODD)


@pytest.mark.parametrize("index", range(len(ODD[0])))
def test_one_item_equals_the_libraries(index: int) -> None:
    assert_equals_libraries([ODD[0][index]], [ODD[1][index]])


words = st.lists(
    st.sampled_from(["the", "amf", "AMF", "smf,", "selects", "a", "an", "registers", "é", "5G"]), max_size=12
).map(" ".join)
texts = words | st.text(max_size=25)


@settings(max_examples=80, deadline=None)
@given(st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=1, max_size=4))
def test_any_text_equals_the_libraries(items: list[tuple[str, list[str]]]) -> None:
    assert_equals_libraries([prediction for prediction, _ in items], [right for _, right in items])


def test_squad_metrics_by_hand() -> None:
    predictions = ["The AMF.", "session management function", "", "", "a an the", "SMF SMF AMF", "five"]
    references = [["amf"], ["management of the session"], [""], ["x"], [""], ["AMF SMF UPF"], ["four", "FIVE!"]]
    ours = score(predictions, references, metrics=("exact_match", "token_f1"))
    assert ours["exact_match"].per_example == (1, 0, 1, 0, 1, 0, 1)
    assert ours["token_f1"].per_example == pytest.approx((1, 4 / 6, 1, 0, 1, 4 / 6, 1))
    assert ours["exact_match"].value == pytest.approx(4 / 7)


def test_a_number_with_another_sign_or_point_is_wrong_but_as_published_it_is_right() -> None:
    predictions = ["-200", "1.4", "22.5 ms", "−85 dBm", "1,000"]
    references = [["200"], ["14"], ["225 ms"], ["-85 dBm"], ["1000"]]
    ours = score(predictions, references, metrics=("exact_match", "token_f1"))
    assert ours["exact_match"].per_example == (0, 0, 0, 1, 1)
    assert ours["token_f1"].per_example == (0, 0, 0.5, 1, 1)
    assert ours["exact_match"].signature == "exact_match|normalise:numbers|references:best"
    assert ours["token_f1"].signature == "token_f1|normalise:numbers|references:best"
    published = score(
        predictions, references, metrics=("exact_match", "token_f1"), models=MetricModels(normalise="squad")
    )
    assert published["exact_match"].per_example == (1, 1, 1, 0, 1)
    assert published["token_f1"].per_example == (1, 1, 1, 0.5, 1)
    assert published["exact_match"].signature == "exact_match|normalise:squad|references:best"


def test_accuracy_is_by_letter() -> None:
    ours = score([" option A ", "Option a", "b"], [["option A"], ["option A"], ["a", "b"]], metrics=["accuracy"])
    assert ours["accuracy"].per_example == (1, 0, 1)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from("abcd"), max_size=90), st.lists(st.sampled_from("abcd"), max_size=90))
def test_common_subsequence_equals_the_table(first: list[str], second: list[str]) -> None:
    row = [0] * (len(second) + 1)
    for one in first:
        new = [0]
        for (diagonal, above), other in zip(pairwise(row), second, strict=True):
            new.append(diagonal + 1 if one == other else max(above, new[-1]))
        row = new
    assert longest_common_subsequence(first, second) == row[-1]


def test_perfect_prediction_scores_the_maximum(telecom) -> None:
    right = [item[-1] for item in telecom[1]]
    for name, result in score(right, telecom[1], metrics=WITHOUT_MODEL).items():
        if name == "meteor":  # its penalty never vanishes: see test_meteor
            continue
        assert result.value == pytest.approx(result.maximum)
        assert result.per_example == pytest.approx([result.maximum] * len(right))


def test_no_word_at_all_is_no_maximum_where_the_library_says_so() -> None:
    empty = score(["", ""], [[""], [""]], metrics=WITHOUT_MODEL)
    assert {name for name, result in empty.items() if result.value == result.maximum} == {
        "exact_match",
        "token_f1",
        "accuracy",
    }
    assert {name for name, result in empty.items() if result.value == 0} == {*WITHOUT_MODEL} - {
        "exact_match",
        "token_f1",
        "accuracy",
    }


def test_perfect_single_word_has_no_pair_of_words() -> None:
    scores = score(["one"], [["one"]], metrics=["rouge1", "rouge2", "rougeL"])
    assert [result.value for result in scores.values()] == [1, 0, 1]


def test_perfect_but_short_corpus_has_no_bleu() -> None:
    short = score(["one two three"], [["one two three"]], metrics=["bleu"])["bleu"]
    assert short.value == 0  # no four-gram anywhere: corpus BLEU is not defined, sacrebleu says 0
    assert short.per_example == pytest.approx([100.0])


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(max_size=20).filter(lambda text: text.strip() != ""), min_size=1, max_size=5))
def test_any_perfect_prediction_scores_the_maximum(right: list[str]) -> None:
    scores = score(right, [["something else", text] for text in right], metrics=WITHOUT_MODEL)
    for name in ("exact_match", "accuracy", "token_f1", "chrf"):
        assert scores[name].per_example == pytest.approx([scores[name].maximum] * len(right))
    for index, text in enumerate(right):
        assert scores["rouge1"].per_example[index] == float(any(letter in ASCII for letter in text.lower()))


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(texts, st.lists(texts, min_size=1, max_size=3)), min_size=2, max_size=6), st.randoms())
def test_order_of_items_changes_no_value(items: list[tuple[str, list[str]]], shuffle: random.Random) -> None:
    order = list(range(len(items)))
    shuffle.shuffle(order)
    straight = score([items[k][0] for k in range(len(items))], [item[1] for item in items], metrics=WITHOUT_MODEL)
    shuffled = score([items[k][0] for k in order], [items[k][1] for k in order], metrics=WITHOUT_MODEL)
    for name, result in straight.items():
        assert shuffled[name].value == pytest.approx(result.value, rel=1e-12, abs=1e-12)
        assert shuffled[name].per_example == tuple(result.per_example[k] for k in order)


def test_statistics_add_up_to_the_value(telecom) -> None:
    for name, result in score(*telecom, metrics=WITHOUT_MODEL).items():
        assert result.statistics.shape[0] == len(telecom[0]), name
        assert float(result.from_totals(result.statistics.sum(axis=0))) == pytest.approx(result.value)


def test_signature_names_library_version_and_options() -> None:
    ours = score(["a b"], [["a b", "c"]])
    assert f"version:{sacrebleu.__version__}" in ours["bleu"].signature
    assert "nrefs:2" in ours["bleu"].signature
    assert "tok:13a" in ours["bleu"].signature
    assert "stemmer:porter" in ours["rougeL"].signature
    assert set(ours) == set(TEXT_METRICS)
    assert ours["bleu"].to_dict()["maximum"] == 100
    several = score(["a", "b"], [["a"], ["b", "c"]], metrics=["bleu", "chrf"])
    assert all("nrefs:var" in result.signature for result in several.values())


def test_tables_of_references_choose_as_sacrebleu_does() -> None:
    prediction, references = "ab cd", ["ab", "cd", "ab cd ef", "xy ab cd"]
    ours = score([prediction], [references], metrics=["chrf", "bleu"])
    metric = sacrebleu.CHRF()
    assert (
        ours["chrf"].statistics[0].tolist() == metric._extract_corpus_statistics([prediction], streams([references]))[0]
    )
    metric = sacrebleu.BLEU(force=True)
    assert (
        ours["bleu"].statistics[0].tolist() == metric._extract_corpus_statistics([prediction], streams([references]))[0]
    )


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from([*"ab09.,-&;/(é –\n\t", "<skipped>", "-\n", "&quot;", "&amp;lt;"]), max_size=14).map(
        "".join
    )
)
def test_words_of_bleu_are_those_of_sacrebleu(text: str) -> None:
    assert bleu_words(text) == sacrebleu.BLEU()._preprocess_segment(text).split()


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("ab the an.–é_\x00\x1f\n"), max_size=14) | st.text(max_size=12))
def test_squads_form_is_that_of_the_definition(text: str) -> None:
    bare = "".join(letter for letter in text.lower() if letter not in string.punctuation)
    assert normalise(text, "squad") == " ".join(re.sub(r"\b(a|an|the)\b", " ", bare).split())
