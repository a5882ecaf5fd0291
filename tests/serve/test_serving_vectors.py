"""`/v1/embeddings` by OpenAI's own client, against what `sentence-transformers` makes of the same weights."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from openai import BadRequestError, NotFoundError, RateLimitError

from support.serving import Served, causal_run, choices_run, encoder_run, serving, span_run
from support.speaking import client_of
from understudy.run import Run
from understudy.serve.keys import KeyFile, KeyLimits
from understudy.serve.opening import Plan

TEXTS = ["The AMF ends mobility of interface N3.", "UPF", "The SMF ends sessions [SEP] of interface N5, and of N7."]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return encoder_run(tmp_path_factory.mktemp("embedded"), "classify")


@pytest.fixture(scope="module")
def served(run: Run) -> Iterator[Served]:
    with serving(run, Plan(models=("student", "teacher"))) as server:
        yield server


def by_another_library(folder: Path, texts: list[str]) -> np.ndarray:
    """Mean of the last hidden states, of length 1."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

    words = Transformer(str(folder))
    model = SentenceTransformer(
        modules=[words, Pooling(words.get_embedding_dimension(), "mean"), Normalize()], device="cpu"
    )
    return model.encode(texts, convert_to_numpy=True)


def test_vectors_are_those_of_another_library(served: Served, run: Run) -> None:
    pytest.importorskip("sentence_transformers")
    plain = [text for text in TEXTS if "[SEP]" not in text]  # Names of control tokens are text here, and tokens there.
    expected = by_another_library(run.stage("train-distilled") / "model", plain)
    with client_of(served) as client:
        # The client asks for base64 of its own accord, and decodes it.
        answer = client.embeddings.create(model="student", input=plain)
        assert np.array([row.embedding for row in answer.data]) == pytest.approx(expected, abs=1e-5)
        other = client.embeddings.create(model="teacher", input=plain)
        assert np.abs(np.array(other.data[0].embedding) - expected[0]).max() > 1e-2


def test_a_batch_in_every_format_with_its_tokens_counted(served: Served) -> None:
    side: Any = served.gateway.sides["student"]
    ids = [side.tokenizer.template.read(text).ids for text in TEXTS]
    with client_of(served) as client:
        many = client.embeddings.create(model="student", input=TEXTS, encoding_format="float")
        assert [row.index for row in many.data] == [0, 1, 2]
        assert many.usage.prompt_tokens == many.usage.total_tokens == sum(map(len, ids))
        assert many.model == "student"
        vectors = np.array([row.embedding for row in many.data])
        assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-6)
        # Alone or in a batch, as text or as token ids, whole or in base64: the same vector.
        for text, tokens, vector in zip(TEXTS, ids, vectors, strict=True):
            assert client.embeddings.create(model="student", input=text).data[0].embedding == pytest.approx(
                vector, abs=1e-6
            )
            given = client.embeddings.create(model="student", input=tokens, dimensions=len(vector))
            assert given.data[0].embedding == pytest.approx(vector, abs=1e-6)
        raw = client.embeddings.with_raw_response.create(model="student", input=TEXTS, encoding_format="base64")
        told = [base64.b64decode(row["embedding"]) for row in raw.http_response.json()["data"]]
        assert np.frombuffer(b"".join(told), "<f4").reshape(vectors.shape) == pytest.approx(vectors, abs=1e-6)
        flags = {model.id: model.model_extra for model in client.models.list()}
        assert all(flag["understudy"]["embeds"] for flag in flags.values() if flag)
    told_of = served.notebook.exchanges[-1]
    assert (told_of.endpoint, told_of.status, told_of.source) == ("/v1/embeddings", 200, "student")
    assert (told_of.answer, told_of.messages) == (None, ())


def test_what_has_no_vector_is_told_so_in_a_line(served: Served) -> None:
    with client_of(served) as client:
        for fields, words in (
            ({"input": ""}, "text 0 is empty"),
            ({"input": ["UPF", " "]}, "text 1 is empty"),
            ({"input": []}, "input"),
            ({"input": "AMF " * 400}, "this server reads 24"),
            ({"input": [5, 10**6]}, "token ids go from 0 to"),
            ({"input": "UPF", "dimensions": 3}, "have 16"),
            ({"input": "UPF", "encoding_format": "int8"}, "encoding_format"),
        ):
            with pytest.raises(BadRequestError, match=words):
                client.embeddings.create(model="student", **fields)  # pyright: ignore
        with pytest.raises(NotFoundError, match="studnet"):
            client.embeddings.create(model="studnet", input="UPF")


@pytest.mark.parametrize("kind", ["choice", "tag", "span"])
def test_every_encoder_gives_vectors(kind: str, tmp_path: Path) -> None:
    with serving(span_run(tmp_path) if kind == "span" else encoder_run(tmp_path, kind)) as served:
        with client_of(served) as client:
            answer = client.embeddings.create(model="student", input=["The AMF", "the SMF ends interface N3"])
        assert [len(row.embedding) for row in answer.data] == [16, 16]
        assert answer.data[0].embedding != answer.data[1].embedding


@pytest.mark.parametrize("kind", ["causal", "scorer"])
def test_models_that_are_no_encoders_give_none(kind: str, tmp_path: Path) -> None:
    run = causal_run(tmp_path) if kind == "causal" else choices_run(tmp_path, kind="scorer")
    refused = pytest.raises(BadRequestError, match="no encoder and gives no embeddings")
    with serving(run) as served, client_of(served) as client, refused:
        client.embeddings.create(model="student", input="text")


def test_vectors_count_against_a_key(run: Run, tmp_path: Path) -> None:
    keys = KeyFile(tmp_path / "keys.json")
    secret, _ = keys.add("alice", KeyLimits(tokens_per_minute=5))
    with serving(run, Plan(keys=keys.path)) as served, client_of(served, secret) as client:
        client.embeddings.create(model="student", input=TEXTS)
        with pytest.raises(RateLimitError, match="tokens"):
            client.embeddings.create(model="student", input=TEXTS)
