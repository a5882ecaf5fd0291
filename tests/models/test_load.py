"""From a recipe's model section to a live model: what is found, what is changed, and what is said when it fails."""

import shutil

import pytest
import torch

from support.tiny import EVERY_LINEAR, llama, tokenizer
from understudy.errors import ModelError
from understudy.models.adapters import add_lora, check_lora, merged
from understudy.models.forward import probe
from understudy.models.load import load_model, load_template, pick_device, pick_dtype, resolve
from understudy.recipe import LoraConfig, ModelConfig

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path):
    """A model folder as `save_pretrained` writes it."""
    model = llama(300, tied=True)
    model.save_pretrained(tmp_path / "model")
    tokenizer(300).save_pretrained(tmp_path / "model")
    return tmp_path / "model"


def test_a_folder_loads_with_its_weights(folder):
    model = load_model(ModelConfig(model=str(folder)), CPU)
    expected = llama(300, tied=True).state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model.dtype == torch.float32
    assert model.config.use_cache


def test_another_folder_of_weights_takes_its_place(folder, tmp_path):
    llama(300, tied=True, seed=9).save_pretrained(tmp_path / "tuned")
    config = ModelConfig(model=str(folder))
    tuned = load_model(config, CPU, weights=str(tmp_path / "tuned"))
    assert torch.equal(tuned.model.norm.weight, llama(300, seed=9).model.norm.weight)
    assert not torch.equal(tuned.lm_head.weight, load_model(config, CPU).lm_head.weight)


def test_folders_that_hold_the_same_tokenizer_share_it_until_one_is_written_anew(folder, tmp_path):
    for name in ("sft", "distilled"):
        shutil.copytree(folder, tmp_path / name)
    config = ModelConfig(model=str(folder))
    first, second = (load_template(config, weights=str(tmp_path / name)) for name in ("sft", "distilled"))
    assert first.tokenizer is second.tokenizer
    written = "{% for m in messages %}{{ m['content'] }}!{% endfor %}"
    (tmp_path / "distilled" / "chat_template.jinja").write_text(written)
    template = load_template(config, weights=str(tmp_path / "distilled"))
    assert template.prompt([{"role": "user", "content": "why"}]) == "why!"
    assert load_template(config, weights=str(tmp_path / "sft")).tokenizer is first.tokenizer


@pytest.mark.parametrize(("value", "words"), [(float("nan"), "NaN"), (float("inf"), "infinite in float32")])
def test_weights_that_are_no_numbers_are_called_that(folder, value, words):
    model = llama(300, tied=True)
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[2, 3] = value
    model.save_pretrained(folder)
    with pytest.raises(ModelError, match=f"are {words}: model.layers.1.mlp.up_proj.weight"):
        load_model(ModelConfig(model=str(folder)), CPU)


def test_weights_too_large_for_their_type_are_called_that(folder):
    model = llama(300, tied=True)
    with torch.no_grad():
        model.model.norm.weight[0] = 1e6
    model.save_pretrained(folder)
    assert load_model(ModelConfig(model=str(folder)), CPU).model.norm.weight[0] == 1e6
    with pytest.raises(ModelError, match=r"infinite in float16: model\.norm\.weight"):
        load_model(ModelConfig(model=str(folder), dtype="float16"), CPU)


@pytest.mark.parametrize("name", ["bfloat16", "float16"])
def test_weights_come_in_the_asked_type(folder, name):
    assert load_model(ModelConfig(model=str(folder), dtype=name), CPU).dtype == getattr(torch, name)


def test_fresh_weights_follow_the_seed_and_leave_the_generator_alone(folder):
    config = ModelConfig(model=str(folder), init="fresh", config={"hidden_size": 32, "num_hidden_layers": 1})
    before = torch.random.get_rng_state()
    first, again, other = (load_model(config, CPU, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert first.config.hidden_size == 32
    assert len(first.model.layers) == 1
    assert first.config.head_dim * first.config.num_attention_heads == 32
    assert torch.equal(first.lm_head.weight, again.lm_head.weight)
    assert not torch.equal(first.lm_head.weight, other.lm_head.weight)
    ids = torch.arange(5)[None]
    assert probe(first, {"input_ids": ids, "attention_mask": torch.ones_like(ids)}) < 1e-5


def test_a_field_the_architecture_lacks_is_named(folder):
    config = ModelConfig(model=str(folder), init="fresh", config={"hiden_size": 32})
    with pytest.raises(ModelError, match="no field 'hiden_size'"):
        load_model(config, CPU)


def test_the_template_comes_with_the_recipes_own_words(folder):
    template = load_template(
        ModelConfig(model=str(folder), chat_template="{% for m in messages %}{{ m.content }}!{% endfor %}")
    )
    assert template.prompt([{"role": "user", "content": "N2"}]) == "N2!"
    assert template.tokenizer.padding_side == "right"


def test_a_tokenizer_is_read_once_and_again_where_its_files_changed(folder):
    config = ModelConfig(model=str(folder))
    first, again = load_template(config), load_template(config)
    assert again.tokenizer is first.tokenizer
    # What a stage notes about its rows is no note of the next stage.
    first.notes.append("3 rows")
    assert "3 rows" not in (*again.notes, *load_template(config).notes)
    assert any("no chat template" in note for note in again.notes)
    tokenizer(340).save_pretrained(folder)
    assert len(load_template(config).tokenizer) == 340


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("embedded:telecom-tutor", "no embedded model 'embedded:telecom-tutor'"),
        ("./nowhere", "no such model folder: ./nowhere"),
        ("some/deep/folder", "no such model folder: some/deep/folder"),
    ],
)
def test_names_that_lead_nowhere_are_said_to(name, said):
    with pytest.raises(ModelError, match=said) as caught:
        resolve(name)
    assert caught.value.hint


def test_a_hub_id_is_left_alone(tmp_path):
    assert resolve("org/name") == "org/name"
    assert resolve(str(tmp_path)) == str(tmp_path)


def test_a_folder_without_a_model_is_one_line(tmp_path):
    for load in (lambda config: load_model(config, CPU), load_template):
        with pytest.raises(ModelError) as caught:
            load(ModelConfig(model=str(tmp_path)))
        assert "\n" not in caught.value.message
        assert str(tmp_path) in caught.value.message


def test_truncated_weights_are_one_line(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError) as caught:
        load_model(ModelConfig(model=str(folder)), CPU)
    assert "\n" not in caught.value.message


def test_no_pickled_weights(folder):
    """A pickle can run code as it is read."""
    torch.save(llama(300).state_dict(), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError):
        load_model(ModelConfig(model=str(folder)), CPU)


def test_devices_and_types():
    assert pick_device("cpu") == CPU
    assert pick_dtype("auto", CPU) == torch.float32
    assert pick_dtype("bfloat16", CPU) == torch.bfloat16
    if not torch.cuda.is_available():
        with pytest.raises(ModelError, match="no GPU"):
            pick_device("cuda")


@pytest.mark.parametrize("targets", ["all-linear", EVERY_LINEAR])
def test_adapters_alone_are_trained_and_start_as_nothing(targets):
    model = llama(300)
    ids = torch.arange(3, 12)[None]
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        adapted = add_lora(model, LoraConfig(r=4, target_modules=targets))
        torch.testing.assert_close(adapted(input_ids=ids).logits, expected)
    trained = {name for name, p in adapted.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)
    assert adapted.peft_config["default"].lora_alpha == 8
    assert any("lm_head" in name for name in trained) == (targets is EVERY_LINEAR)


def test_a_model_without_adapters_is_merged_already():
    model = llama(300)
    assert merged(model) is model


# -- adapters that a model cannot have -------------------------------------------------------------------------------

LAYERS = "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"target_modules": ["nope"]}, "the model has no layer 'nope'"),
        ({"target_modules": "nope"}, "the model has no layer 'nope'"),
        ({"target_modules": ["q_proj", "nope"]}, "the model has no layer 'nope'"),
        ({"target_modules": []}, "no layer is named"),
        ({"target_modules": ["input_layernorm"]}, "RMSNorm"),
        ({"target_modules": "("}, "no regular expression"),
        ({"r": 16_000}, "the widest layer that it would adapt has"),
    ],
)
def test_adapters_are_refused_by_the_config_alone_and_again_by_the_model(folder, fields, words):
    config = LoraConfig(**fields)
    (folder / "model.safetensors").rename(folder / "elsewhere")
    with pytest.raises(ModelError) as caught:
        check_lora(ModelConfig(model=str(folder)), config)
    assert words in caught.value.message
    assert LAYERS in caught.value.hint or "list" in caught.value.hint or "r" in fields
    with pytest.raises(ModelError):
        add_lora(llama(300), config)


@pytest.mark.parametrize(
    "targets", ["all-linear", ["q_proj", "lm_head"], r".*\.(q|v)_proj", ["layers.0.mlp.up_proj", "embed_tokens"]]
)
def test_adapters_that_a_model_can_have_are_not_refused(folder, targets):
    config = LoraConfig(target_modules=targets, r=4)
    check_lora(ModelConfig(model=str(folder)), config)
    assert add_lora(llama(300), config).peft_config["default"].r == 4
