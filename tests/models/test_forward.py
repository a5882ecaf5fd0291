"""`head(hidden)` is what each architecture computes itself, with whatever lies between states and logits."""

import pytest
import torch
import transformers
from peft import LoraConfig as PeftConfig
from peft import get_peft_model

from support.tiny import EVERY_LINEAR, llama
from understudy.errors import ModelError
from understudy.models.adapters import add_lora, merged
from understudy.models.forward import forward, probe
from understudy.models.head import base_model, head_of
from understudy.recipe import LoraConfig

VOCABULARY = 67
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
OF_GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64, "bos_token_id": 1, "eos_token_id": 2}
CONFIGS = {
    "Llama": SIZES,
    "Qwen3": {**SIZES, "head_dim": 8},
    "Gemma2": {**SIZES, "head_dim": 8, "final_logit_softcapping": 3.0, "query_pre_attn_scalar": 8},
    "Cohere": {**SIZES, "logit_scale": 0.3},
    "Granite": {**SIZES, "logits_scaling": 4.0, "embedding_multiplier": 2.0, "residual_multiplier": 0.5},
    "Phi": {key: value for key, value in SIZES.items() if key != "num_key_value_heads"},
    "GPTJ": {**OF_GPT2, "vocab_size": VOCABULARY, "rotary_dim": 4, "n_inner": 24, "tie_word_embeddings": False},
    "GPT2": {**OF_GPT2, "vocab_size": VOCABULARY, "n_inner": 24},
    "GPTNeoX": {key: value for key, value in SIZES.items() if key not in ("num_key_value_heads", "pad_token_id")},
    "OPT": {
        **{key: SIZES[key] for key in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads")},
        "ffn_dim": 24,
        "max_position_embeddings": 64,
        "word_embed_proj_dim": 12,
    },
    "Bloom": {"vocab_size": VOCABULARY, "hidden_size": 16, "n_layer": 2, "n_head": 2},
}
OLD_NAME = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing.* is deprecated:FutureWarning")
KNOBS = {"Gemma2": "softcap", "Cohere": "scale", "Granite": "scale", "Phi": "bias", "GPTJ": "bias"}


def make(name, **changes):
    """A tiny model of an architecture, every parameter random, biases and gains included."""
    config = getattr(transformers, f"{name}Config")(**{**CONFIGS[name], **changes})
    config._attn_implementation = "eager"
    model = getattr(transformers, "GPT2LMHeadModel" if name == "GPT2" else f"{name}ForCausalLM")(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.4)
    return model


def inputs(rows=1, length=11):
    ids = torch.randint(3, VOCABULARY, (rows, length), generator=torch.Generator().manual_seed(1))
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


@pytest.mark.parametrize("name", CONFIGS)
def test_head_of_states_is_the_models_own_logits(name):
    model = make(name)
    assert probe(model, inputs()) < 1e-5
    head = head_of(model)
    known = {"softcap": head.softcap is not None, "scale": head.scale != 1.0, "bias": head.bias is not None}
    assert {knob for knob, present in known.items() if present} == ({KNOBS[name]} if name in KNOBS else set())


@pytest.mark.parametrize("name", CONFIGS)
def test_forward_keeps_the_states_that_predict_target_tokens(name):
    model = make(name)
    given = inputs(2)
    mask = torch.zeros(2, 11, dtype=torch.bool)
    mask[0, 4:9] = True
    mask[1, 7:10] = True
    targets = torch.arange(5, 13)
    given["attention_mask"][0, 10:] = 0
    given["attention_mask"][1, 10:] = 0
    output = forward(model, {"inputs": given, "target_mask": mask, "target_ids": targets}, embeddings=True)
    assert output.lengths == (5, 3)
    with torch.no_grad():
        expected = model(**given).logits[mask]
        torch.testing.assert_close(output.head.logits(output.hidden), expected, atol=1e-4, rtol=1e-4)
    table = model.get_input_embeddings().weight
    torch.testing.assert_close(output.target_embeddings, table[targets].detach() * embedding_factor(model))
    torch.testing.assert_close(
        output.input_embeddings, table[given["input_ids"][mask]].detach() * embedding_factor(model)
    )
    assert not output.input_embeddings.requires_grad
    assert output.hidden.requires_grad


def embedding_factor(model):
    """Gemma's embedding layer multiplies by a constant itself."""
    layer = model.get_input_embeddings()
    one = torch.tensor([5])
    return (layer(one) / layer.weight[5]).detach()[0, 0]


@pytest.mark.parametrize("name", ["Llama", "Gemma2", "Cohere", "Granite", "Phi", "GPT2"])
@pytest.mark.parametrize("tied", [True, False])
def test_an_adapter_on_the_head_is_honoured_in_value_and_gradient(name, tied):
    model = make(name, tie_word_embeddings=tied)
    names = [key for key, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    adapted = add_lora(model, LoraConfig(r=3, target_modules=sorted({key.split(".")[-1] for key in names}))).eval()
    generator = torch.Generator().manual_seed(3)
    for key, parameter in adapted.named_parameters():
        if "lora_B" in key:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.3
    assert probe(adapted, inputs()) < 1e-5
    layer = base_model(adapted).get_output_embeddings()
    assert not torch.allclose(head_of(adapted).weight, layer.base_layer.weight)
    given = inputs()
    mask = torch.ones(1, 11, dtype=torch.bool)
    output = forward(adapted, {"inputs": given, "target_mask": mask, "target_ids": given["input_ids"][0]})
    ours = torch.autograd.grad(output.head.logits(output.hidden).logsumexp(-1).sum(), adapters(adapted))
    theirs = torch.autograd.grad(adapted(**given).logits.logsumexp(-1).sum(), adapters(adapted))
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-3)
    with torch.no_grad():
        expected = adapted(**given).logits
        torch.testing.assert_close(merged(adapted)(**given).logits, expected, atol=1e-3, rtol=1e-3)


def adapters(model):
    return [parameter for parameter in model.parameters() if parameter.requires_grad]


def test_a_disabled_adapter_is_not_honoured():
    adapted = add_lora(llama(VOCABULARY), LoraConfig(r=3, target_modules=EVERY_LINEAR))
    for parameter in adapters(adapted):
        parameter.data.fill_(0.1)
    with adapted.disable_adapter():
        assert head_of(adapted).weight is base_model(adapted).get_input_embeddings().weight
    assert head_of(adapted).weight is not base_model(adapted).get_input_embeddings().weight


def test_dropout_on_the_head_is_refused_at_load():
    adapted = add_lora(llama(VOCABULARY), LoraConfig(r=3, target_modules=EVERY_LINEAR, dropout=0.1))
    with pytest.raises(ModelError, match="dropout sits on the head"):
        probe(adapted, inputs())
    with pytest.raises(ModelError, match="dropout sits on the head"):
        head_of(adapted.train())
    elsewhere = add_lora(llama(VOCABULARY), LoraConfig(r=3, target_modules=EVERY_LINEAR[:-1], dropout=0.1))
    assert probe(elsewhere, inputs()) < 1e-5
    head_of(elsewhere.train())


@OLD_NAME
def test_dora_on_the_head_is_refused():
    config = PeftConfig(r=2, target_modules=["lm_head"], use_dora=True, task_type="CAUSAL_LM")
    adapted = get_peft_model(llama(VOCABULARY, tied=False), config)
    with pytest.raises(ModelError, match="DoRA"):
        probe(adapted, inputs())


@OLD_NAME
def test_a_head_trained_in_full_is_read_where_it_is():
    config = PeftConfig(r=2, target_modules=["q_proj"], modules_to_save=["lm_head"], task_type="CAUSAL_LM")
    adapted = get_peft_model(llama(VOCABULARY, tied=False), config)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "modules_to_save" in name:
                parameter.mul_(2)
    assert probe(adapted, inputs()) < 1e-5


class Shifted(transformers.LlamaForCausalLM):
    """Adds something to its logits that no configuration tells of."""

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits + torch.linspace(0, 0.1, output.logits.shape[-1])
        return output


def test_what_the_probe_does_not_know_is_refused():
    model = Shifted(transformers.LlamaConfig(**SIZES)).eval()
    with pytest.raises(ModelError, match=r"the teacher: head\(hidden\) differs") as caught:
        probe(model, inputs(), name="the teacher")
    assert "does not know" in caught.value.hint


def test_a_model_without_a_head_is_refused():
    model = transformers.LlamaModel(transformers.LlamaConfig(**SIZES))
    with pytest.raises(ModelError, match="no language-model head"):
        head_of(model)


def test_the_probe_leaves_the_mode_as_it_was():
    model = make("Llama")
    for training in (True, False):
        model.train(training)
        probe(model, inputs())
        assert model.training is training


def test_half_precision_passes_the_probe():
    assert probe(make("Llama").bfloat16(), inputs()) < 3e-2
    with pytest.raises(ModelError):
        probe(make("Llama", vocab_size=VOCABULARY).bfloat16().apply(spoil), inputs())


def spoil(module):
    """Let the model's own head multiply by 1.2, which is more than rounding."""
    if isinstance(module, torch.nn.Linear) and module.out_features == VOCABULARY:
        module.register_forward_hook(lambda _, __, output: output * 1.2)
