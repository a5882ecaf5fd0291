"""Pretraining of encoders on plain text: what is hidden is learned, and the head that comes then stands on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from support import tiny_encoders
from support.house import House, training
from understudy.files import read_jsonl, write_jsonl
from understudy.models.kinds import KINDS
from understudy.tokens.holes import with_holes

TEXTS = [f"The {name} function ends interface N{n} of the user plane." for n in range(40) for name in ("AMF", "SMF")]


def rows(seed: int = 0) -> list[Any]:
    template: Any = tiny_encoders.reader("classify").template
    return [row.student for row in with_holes(template, TEXTS, 24, seed)]


def test_what_is_hidden_is_learned_and_nothing_is_lost() -> None:
    tokenizer = tiny_encoders.shared_tokenizer()
    special, text, read = set(tokenizer.all_special_ids), [], []
    hidden = masked = kept = 0
    for row in rows():
        whole = list(row.prompt_ids)
        for place, token in zip(row.places, row.answer_ids, strict=True):
            masked += whole[place] == tokenizer.mask_token_id
            kept += whole[place] == token
            hidden += 1
            whole[place] = token
        assert len(whole) <= 24
        assert whole[0] == tokenizer.cls_token_id
        assert whole[-1] == tokenizer.sep_token_id
        text += [token for token in whole if token not in special]
        read += row.prompt_ids
    expected = [token for own in TEXTS for token in tokenizer(own, add_special_tokens=False)["input_ids"]]
    assert text == expected
    assert 0.1 < hidden / len(expected) < 0.2
    assert 0.7 < masked / hidden < 0.9
    assert 0.05 < kept / hidden < 0.2
    assert [row.prompt_ids for row in rows()] == [row.prompt_ids for row in rows()]
    assert [row.prompt_ids for row in rows()] != [row.prompt_ids for row in rows(1)]


def test_the_head_that_comes_then_stands_on_the_pretrained_encoder(tmp_path: Path, command) -> None:
    folder = tmp_path / "models"
    tiny_encoders.shared_tokenizer().save_pretrained(folder / "classify")
    tiny_encoders.bert("classify", seed=1).save_pretrained(folder / "classify")
    (tmp_path / "texts.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in TEXTS), encoding="utf-8")
    house = House(tmp_path, folder)
    path = tmp_path / "rows.jsonl"
    write_jsonl(path, ({"text": row.question, "label": row.answers[0]} for row in tiny_encoders.texts(40)))
    house.recipe["data"] = {
        "source": str(path),
        "labels": list(tiny_encoders.LABELS),
        "max_length": 24,
        "max_answer_tokens": 8,
    }
    pretrain = {"source": str(tmp_path / "texts.jsonl"), "steps": 30, "batch_size": 16, "learning_rate": 1e-2}
    house.recipe["teacher"] = {"model": str(folder / "classify"), "sft": training(steps=1), "pretrain": pretrain}
    house.recipe["student"] = {"model": str(folder / "classify")}
    house.recipe["distil"] = training(steps=1)
    house.recipe["evaluate"] |= {"arms": ["distilled"], "metrics": ["accuracy"]}
    refused = command("run", str(house.write_recipe()))
    assert refused.code != 0
    assert "set teacher.kind: classify" in refused.err
    house.recipe["teacher"]["kind"] = "classify"
    done = command("run", str(house.write_recipe()))
    assert done.code == 0, done.err
    run = max((tmp_path / "runs").iterdir(), key=lambda path: path.stat().st_mtime)
    logged = read_jsonl(run / "stages/teacher_pretrain/training/metrics.jsonl")
    curves = [row["loss"] for row in logged if "loss" in row]
    assert curves[-1] < curves[0] - 0.5
    before = load_file(run / "stages/teacher_pretrain/model/model.safetensors")
    after = load_file(run / "stages/teacher_sft/model/model.safetensors")
    name = "bert.embeddings.word_embeddings.weight"
    assert (before[name] - after[name]).abs().max() < 2e-2
    own: Any = tiny_encoders.bert("classify", seed=1)
    assert (before[name] - own.state_dict()[name]).abs().max() > 2e-2
    assert "classifier.weight" in after
    assert not torch.equal(after["classifier.weight"], own.classifier.weight)


@pytest.mark.parametrize("kind", ["choice", "tag", "classify"])
def test_kinds_say_so(kind: str) -> None:
    assert KINDS[kind].reads_with_holes
    assert not KINDS["scorer"].reads_with_holes
