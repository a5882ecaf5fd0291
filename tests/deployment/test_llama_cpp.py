"""GGUF files opened by llama.cpp itself: a tier of its own, for `llama-cpp-python` is compiled for some 15 minutes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from support import SHARED, exported
from support.tiny import llama
from understudy.deployment.export import ExportOptions, Student, export_student
from understudy.deployment.gguf_format import FILE, PRECISIONS
from understudy.models.load import load_example_tokenizer, load_model
from understudy.recipe import DataConfig, ModelConfig

llama_cpp = pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed (pip install llama-cpp-python)")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize("pattern", ["gpt-2", "smollm", "qwen2", "llama-bpe"])
def test_llama_cpp_reads_and_writes_what_the_student_does(pattern, tmp_path):
    """Each way to cut words that is exported at all, with texts that are hard to cut; 100 answers."""
    words = exported.cut_by(pattern)
    model = exported.qwen2(len(words)) if pattern == "qwen2" else llama(len(words), width=32, tied=False, seed=1)
    student = exported.causal(tmp_path / "student", own=words, model=model)
    rows = exported.rows(100)
    student = Student(student.model, student.tokenizer, student.folder, rows, student.evaluate)
    record, folder = export_student(student, ExportOptions("gguf"), tmp_path / "gguf")
    assert [check.by for check in record.tokens][-1] == "llama.cpp"
    assert record.tokens[-1].equal == len(rows) - record.tokens[-1].spelled == len(rows) - 1
    assert record.answers.equal + record.answers.ties == record.answers.rows == 100
    assert record.speed.engine == "llama.cpp"
    # Opened as a user does, its own chat template renders what the student reads.
    llm = llama_cpp.Llama(str(folder / FILE), n_ctx=200, verbose=False)
    assert llm.metadata["tokenizer.chat_template"] == exported.CHAT
    reply = llm.create_chat_completion([{"role": "user", "content": rows[-1].question}], temperature=0, max_tokens=8)
    assert reply["usage"]["prompt_tokens"] == len(student.tokenizer.prompt_ids(rows[-1]))


@pytest.mark.parametrize("precision", PRECISIONS)
def test_stories260k(precision, tmp_path):
    """A real model that nobody here wrote, with a tokenizer of Llama's own kind."""
    folder = SHARED / "models" / "stories260k"
    if not folder.is_dir():
        pytest.skip("the folder of real data (../shared/data) is not here")
    config = ModelConfig(model=str(folder), dtype="float32")
    data = DataConfig(max_length=160, max_answer_tokens=24)
    model = load_model(config, torch.device("cpu"))
    student = Student(model, load_example_tokenizer(config, data), Path(folder), exported.rows(100), exported.EVALUATE)
    options = ExportOptions("gguf", precision=precision, max_drop=100)
    record, _ = export_student(student, options, tmp_path / "gguf")
    assert [check.by for check in record.tokens] == ["llama.cpp"]
    if precision == "f32":
        assert record.answers.equal + record.answers.ties == record.answers.rows == 100
