"""QLoRA: four-bit frozen weights, adapters merged into the full-precision base."""

import pytest
import torch
from transformers import AutoModelForCausalLM

from understudy.models.adapters import add_lora
from understudy.models.load import is_quantized, load_model, load_template
from understudy.recipe import LoraConfig, ModelConfig
from understudy.training.session import save_model

pytest.importorskip("bitsandbytes", reason="the extra understudy-distil[qlora] is not installed")


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning", "ignore::DeprecationWarning")
def test_four_bit_adapters_end_in_the_full_precision_base(shared, tmp_path) -> None:
    config = ModelConfig(model=str(shared / "models" / "stories260k"))
    device = torch.device("cpu")
    full = load_model(config, device)
    model = add_lora(load_model(config, device, quantize=True), LoraConfig(r=2, quantize_4bit=True))
    assert is_quantized(model.get_base_model())
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    template = load_template(config)
    save_model(model, template, tmp_path / "model", reload=lambda: load_model(config, device))
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    layer = model.get_base_model().model.layers[0].self_attn.q_proj
    delta = layer.scaling["default"] * layer.lora_B["default"].weight @ layer.lora_A["default"].weight
    expected = full.model.layers[0].self_attn.q_proj.weight + delta
    found = saved.model.layers[0].self_attn.q_proj.weight
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    assert not is_quantized(saved)
