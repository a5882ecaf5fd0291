"""A served student that makes vectors: its own at `/v1/embeddings`, and the nearest passage of what may be searched."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from support import tiny_embed
from support.serving import Served, embed_run, serving
from support.speaking import client_of, post
from understudy.deployment.export import ExportOptions, export
from understudy.errors import ModelError
from understudy.models.load import load_model
from understudy.models.sentence_vectors import sentence_vectors
from understudy.recipe import ModelConfig
from understudy.run import Run
from understudy.serve.opening import Plan


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return embed_run(tmp_path_factory.mktemp("vectors"))


@pytest.fixture(scope="module")
def served(run: Run) -> Iterator[Served]:
    with serving(run, Plan(models=("student", "teacher"))) as server:
        yield server


def test_its_vectors_are_those_that_it_was_measured_by(served: Served, run: Run) -> None:
    folder = run.stage("train-distilled") / "model"
    model = load_model(ModelConfig(model=str(folder)), torch.device("cpu"))
    texts = [*tiny_embed.PASSAGES, "Who keeps sessions?"]
    own = sentence_vectors(
        model, [tiny_embed.reader().template.read(text).ids for text in texts], pad_id=0, batch_size=4
    )
    with client_of(served) as client:
        told = client.embeddings.create(model="student", input=texts)
    assert np.array([row.embedding for row in told.data]) == pytest.approx(own.numpy(), abs=1e-5)


def asked(served: Served, **fields: object) -> tuple[int, str]:
    status, _, content = post(served, "/v1/answer", json.dumps({"model": "student", **fields}).encode())
    return status, content.decode()


def test_what_one_request_offers_is_all_that_it_is_answered_with(served: Served) -> None:
    for choices in (["The AMF keeps mobility.", "A band."], ["The UPF keeps packets.", "A cell.", "A slice."]):
        status, answer = asked(served, question="Who keeps mobility?", choices=choices)
        assert status == 200, answer
        assert json.loads(answer)["answer"] in choices


def test_nothing_to_search_is_told_so(served: Served) -> None:
    status, refused = asked(served, question="Who keeps mobility?")
    assert status == 400
    assert "there are no passages to search" in refused


def test_the_corpus_of_the_recipe_is_searched(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(json.dumps({"passage": text}) + "\n" for text in tiny_embed.PASSAGES), encoding="utf-8")
    with serving(embed_run(tmp_path, corpus)) as served:
        status, answer = asked(served, question="Who keeps mobility?")
    assert status == 200, answer
    assert json.loads(answer)["answer"] in tiny_embed.PASSAGES


def test_an_export_says_what_opens_the_folder(run: Run) -> None:
    with pytest.raises(ModelError, match="this student makes vectors"):
        export(run, ExportOptions(to="merged"))
