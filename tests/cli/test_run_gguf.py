"""Runs whose models come from GGUF files, by the real command line."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from support.gguf_files import write_gguf
from support.house import House, Outcome
from support.tiny import llama, tokenizer
from understudy.files import fingerprint_folder
from understudy.records import PairNotes
from understudy.run import Run

Command = Callable[..., Outcome]


@pytest.fixture
def from_files(house: House) -> House:
    for name, width, kind in (("teacher", 64, "Q8_0"), ("student", 32, "F16")):
        write_gguf(house.folder / f"{name}.gguf", llama(300, width=width, seed=width), tokenizer(300), kind)
        house.recipe[name]["model"] = str(house.folder / f"{name}.gguf")
    return house


def test_teacher_and_student_from_gguf_files(from_files: House, command: Command) -> None:
    recipe = str(from_files.write_recipe())
    first = command("run", recipe)
    assert first.code == 0, first.err
    run = Run.open(from_files.run_folder())
    files = {model.folder: model.fingerprint for model in run.notes("pair", PairNotes).models}
    expected = {str(from_files.folder / f"{name}.gguf") for name in ("teacher", "student")}
    assert files == {name: fingerprint_folder(name) for name in expected}
    # Two models were trained, and both are ordinary folders now.
    for folder in (run.folder / "student", run.folder / "stages" / "teacher_sft" / "model"):
        model = AutoModelForCausalLM.from_pretrained(folder)
        words = AutoTokenizer.from_pretrained(folder)("Which function charges?", return_tensors="pt").input_ids
        assert torch.isfinite(model(words).logits).all()
        text = (folder / "config.json").read_text(encoding="utf-8")
        assert "gguf" not in text
        assert "quantization_config" not in text
    student = AutoModelForCausalLM.from_pretrained(run.folder / "student")
    assert not torch.equal(student.lm_head.weight, llama(300, width=32, seed=32).lm_head.weight.half().float())
    again = command("run", recipe)
    assert again.code == 0, again.err
    assert run.is_done("report")
    # Another file under the same name is another model.
    write_gguf(from_files.folder / "teacher.gguf", llama(300, width=64, seed=1), tokenizer(300), "Q8_0")
    changed = command("run", recipe)
    assert changed.code != 0
    assert "changed since this run was begun" in changed.err


def test_what_is_wrong_with_a_file_is_one_line(from_files: House, command: Command) -> None:
    path = from_files.folder / "teacher.gguf"
    whole = path.read_bytes()
    for content, words in ((b"", "teacher.gguf"), (b"GGUF" + whole[4:200], "teacher.gguf"), (None, "no such GGUF")):
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        outcome = command("run", str(from_files.write_recipe()), f"name=wrong{len(content or b'')}")
        assert outcome.code == 1
        assert words in outcome.err
        assert "Traceback" not in outcome.err
        path.write_bytes(whole)


def test_a_grid_sees_that_a_file_has_changed(from_files: House) -> None:
    from understudy.grid.stage_keys import contents_of

    path = from_files.folder / "teacher.gguf"
    before = contents_of(str(path))
    write_gguf(path, llama(300, width=64, seed=1), tokenizer(300), "Q8_0")
    assert contents_of(str(path)) not in (before, None)
