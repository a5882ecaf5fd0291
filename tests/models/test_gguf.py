"""GGUF files: what is read of them is what was written into them, and what is saved is an ordinary model."""

import json

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from support.gguf_files import rounded, write_gguf
from support.tiny import FACTS, llama, tokenizer
from understudy.errors import ModelError
from understudy.models.forward import probe
from understudy.models.load import head_columns, load_model, load_template, resolve
from understudy.recipe import ModelConfig
from understudy.training.session import save_model

CPU = torch.device("cpu")
IDS = torch.arange(5, 45)[None]
TEMPLATE = "{% for m in messages %}[{{ m.role }}] {{ m.content }}\n{% endfor %}[assistant]"


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0"])
@pytest.mark.parametrize("tied", [True, False])
def test_logits_are_those_of_the_weights_as_the_file_rounds_them(tmp_path, kind, tied):
    path = write_gguf(tmp_path / "m.gguf", llama(300, width=64, tied=tied), tokenizer(300), kind)
    config = ModelConfig(model=str(path))
    model = load_model(config, CPU)
    expected = rounded(llama(300, width=64, tied=tied), kind)(IDS).logits
    torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-4)
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied
    assert model.dtype == torch.float32
    assert head_columns(config) == 300
    assert probe(model, {"input_ids": IDS, "attention_mask": torch.ones_like(IDS)}, name="m") < 1e-4


def test_the_tokenizer_is_the_one_in_the_file(tmp_path):
    original = tokenizer(300)
    write_gguf(tmp_path / "m.gguf", llama(300, width=32), original, chat_template=TEMPLATE)
    # What lies beside the file belongs to something else.
    tokenizer(280, end="<end>").save_pretrained(tmp_path)
    template = load_template(ModelConfig(model=str(tmp_path / "m.gguf")))
    read = template.tokenizer
    assert read.get_vocab() == original.get_vocab()
    for question, answer in [*FACTS, ("  ä \n\n 12345 it's</s>", "<pad><|endoftext|>")]:
        assert read(question + answer).input_ids == original(question + answer).input_ids
    assert (read.eos_token, read.pad_token, read.bos_token) == ("</s>", "<pad>", "<s>")
    turns = template.encode([{"role": "user", "content": "why"}], "so")
    assert read.decode(turns.prompt_ids) == "[user] why\n[assistant]"


def test_another_tokenizer_may_be_named(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", llama(300, width=32), tokenizer(300))
    other = write_gguf(tmp_path / "other.gguf", llama(280, width=32), tokenizer(280))
    assert len(load_template(ModelConfig(model=str(path), tokenizer=str(other))).tokenizer) == 280


def test_a_file_written_anew_is_read_anew(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", llama(300, width=32), tokenizer(300))
    assert len(load_template(ModelConfig(model=str(path))).tokenizer) == 300
    write_gguf(path, llama(280, width=32), tokenizer(280))
    assert len(load_template(ModelConfig(model=str(path))).tokenizer) == 280


def test_it_is_saved_as_safetensors_that_plain_transformers_opens(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", llama(300, width=64), tokenizer(300), "Q8_0")
    config = ModelConfig(model=str(path))
    model = load_model(config, CPU)
    save_model(model, load_template(config), tmp_path / "saved")
    opened = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    torch.testing.assert_close(opened(IDS).logits, model(IDS).logits)
    reopened = AutoTokenizer.from_pretrained(tmp_path / "saved")
    assert reopened.get_vocab() == tokenizer(300).get_vocab()
    files = {file.name: file for file in (tmp_path / "saved").iterdir()}
    assert "model.safetensors" in files
    written = json.loads(files["config.json"].read_text())
    assert written["architectures"] == ["LlamaForCausalLM"]
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        text = files[name].read_text()
        assert not any(word in text for word in ("gguf", "quantization", "_name_or_path", "endoftext", "/tmp")), text


def test_what_cannot_be_read_is_said_in_a_line(tmp_path):
    with pytest.raises(ModelError, match="no such GGUF file"):
        resolve(str(tmp_path / "none.gguf"))
    assert resolve("org/name:weights/file.Q8_0.gguf") == "org/name:weights/file.Q8_0.gguf"
    part = tmp_path / "m-00001-of-00002.gguf"
    write_gguf(part, llama(300, width=32), tokenizer(300))
    with pytest.raises(ModelError, match="part of a GGUF file"):
        load_model(ModelConfig(model=str(part)), CPU)
    with pytest.raises(ModelError, match="quantize_4bit takes no GGUF"):
        load_model(ModelConfig(model=str(part)), CPU, quantize=True)


@pytest.mark.parametrize("kept", [0, 3, 40, 2_000, 20_000])
def test_a_file_cut_off_is_said_in_a_line(tmp_path, kept):
    path = write_gguf(tmp_path / "m.gguf", llama(300, width=64), tokenizer(300))
    assert path.stat().st_size > kept
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(ModelError, match=r"cannot load .*m\.gguf"):
        load_model(ModelConfig(model=str(path)), CPU)


def test_without_the_package_its_extra_is_named(tmp_path, monkeypatch):
    path = write_gguf(tmp_path / "m.gguf", llama(300, width=32), tokenizer(300))
    monkeypatch.setattr("understudy.models.gguf.is_gguf_available", lambda: False)
    with pytest.raises(ModelError) as caught:
        load_model(ModelConfig(model=str(path)), CPU)
    assert caught.value.hint == "pip install 'understudy-distil[gguf]'"


def test_a_fresh_model_takes_the_architecture_of_a_file(tmp_path):
    path = write_gguf(tmp_path / "m.gguf", llama(300, width=64), tokenizer(300))
    model = load_model(ModelConfig(model=str(path), init="fresh", config={"num_hidden_layers": 1}), CPU)
    assert len(model.model.layers) == 1
    assert model.config.hidden_size == 64
