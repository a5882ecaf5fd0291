"""The benchmark on two real storytellers, at a size that shows that it runs, goes on, and counts what it says."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
MODELS = ROOT / ".." / "shared" / "data" / "models"
REAL = ROOT / ".." / "shared" / "data" / "text" / "tinystories_sample.txt"

pytestmark = pytest.mark.skipif(
    not (MODELS / "stories260k").is_dir(), reason="needs the two storytellers of ../shared/data/models"
)


@pytest.fixture(autouse=True)
def benchmarks_on_the_path(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_passages_are_the_story_behind_its_first_words_once():
    import stories

    texts = stories.real(str(REAL))
    assert len(texts) == 5
    rows = stories.passages(texts, "real")
    for number, text in enumerate(texts):
        own = [row for row in rows if row.meta["story"] == number]
        whole = own[0].question
        for row in own:
            assert whole.endswith(row.question)
            assert len(row.answers[0]) <= stories.PASSAGE
            whole += " " + row.answers[0]
        assert text.endswith(f" {whole}")
        assert len(text) - len(whole) < stories.CONTEXT
        assert sum(stories.num_bytes(own)) == len(whole.encode()) - len(own[0].question.encode())


@pytest.mark.parametrize("name", ["stories260k", "babyllama-char105"])
def test_bits_are_those_of_the_models_own_logits(name):
    import stories

    from understudy.models.load import load_model, load_template
    from understudy.recipe import ModelConfig

    config = ModelConfig(model=str(MODELS / name), chat_template=stories.CONTINUE)
    template, model = load_template(config), load_model(config, torch.device("cpu"))
    rows = stories.passages(stories.real(str(REAL)), "real")[:3]
    for row, found in zip(rows, stories.bits(model, template, rows), strict=True):
        ids, before = (template.tokenizer(x)["input_ids"] for x in (f"{row.question} {row.answers[0]}", row.question))
        assert ids[: len(before)] == before
        with torch.no_grad():
            logp = model(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
        expected = -sum(logp[i - 1, ids[i]].item() for i in range(len(before), len(ids))) / math.log(2)
        assert found == pytest.approx(expected, rel=1e-5)


def test_it_runs_and_goes_on_where_it_was_stopped(tmp_path, monkeypatch, capsys):
    import stories_across

    sides = ["--teacher", str(MODELS / "stories260k"), "--student", str(MODELS / "babyllama-char105")]
    size = ["--stories", "12", "--held-out", "4", "--story-tokens", "80", "--steps", "1", "--batch-size", "2"]
    methods = ["--methods", "dskd_cma", "byte_aligned", "--seeds", "0", "--rates", "1e-4", "3e-3"]
    arguments = ["stories_across.py", *sides, "--real", str(REAL), "--out", str(tmp_path), *size, *methods]
    monkeypatch.setattr(sys, "argv", arguments)
    stories_across.main()
    told = capsys.readouterr().out
    cells = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert len(cells) == 4
    assert not list((tmp_path / "training").iterdir())
    next(path for path in cells if path.name.startswith("byte_aligned")).unlink()
    stories_across.main()
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cells").iterdir()}
    assert kept.keys() == cells.keys()
    assert sum(kept[path] != cells[path] for path in cells) == 1
    assert told.partition("**teacher-written**")[2] == capsys.readouterr().out.partition("**teacher-written**")[2]
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["rate"] == 1e-4, "one step at thirty times the rate spoils the student"
    found = {line["system"]: line for line in results["sets"]["real"]}
    assert found.keys() == {"teacher", "student", "seqkd", "dskd_cma", "byte_aligned"}
    assert 0.9 < found["teacher"]["bits_per_byte"] < found["student"]["bits_per_byte"] < 1.3
    for method in ("dskd_cma", "byte_aligned"):
        apart = found[method]["bits_per_byte"] - found["seqkd"]["bits_per_byte"]
        assert found[method]["difference"] == pytest.approx(apart)
        assert found[method]["low"] <= apart <= found[method]["high"]
