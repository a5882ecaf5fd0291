"""GGUF files of tiny Llamas, written as converters write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import torch

TYPES = {name: gguf.GGMLQuantizationType[name] for name in ("F32", "F16", "Q8_0")}
NORMAL, CONTROL = 1, 3


def write_gguf(path: Path, model: Any, tokenizer: Any, kind: str = "F16", *, chat_template: str | None = None) -> Path:
    """Write a Llama and its byte-level BPE; matrices in `kind`, norms in 32 bits."""
    config = model.config
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    _add_tokenizer(writer, tokenizer, chat_template)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stored = names.get_name(name, try_suffixes=(".weight",))
        assert stored is not None, name
        array = _in_file_order(name, weight, config).float().numpy()
        chosen = TYPES[kind] if array.ndim == 2 else TYPES["F32"]
        writer.add_tensor(stored, gguf.quantize(array, chosen), raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _in_file_order(name: str, weight: torch.Tensor, config: Any) -> torch.Tensor:
    """Rows of queries and keys as the format has them: the two halves that rotate together, side by side."""
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for part, count in heads.items():
        if part in name:
            rows = weight.shape[0] // count // 2
            return weight.reshape(count, 2, rows, -1).transpose(1, 2).reshape(weight.shape).contiguous()
    return weight


def _add_tokenizer(writer: Any, tokenizer: Any, chat_template: str | None) -> None:
    by_id = sorted((index, token) for token, index in tokenizer.get_vocab().items())
    assert [index for index, _ in by_id] == list(range(len(by_id)))
    special = set(tokenizer.all_special_tokens)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([token for _, token in by_id])
    writer.add_token_types([CONTROL if token in special else NORMAL for _, token in by_id])
    merges = json.loads(tokenizer.backend_tokenizer.to_str())["model"]["merges"]
    writer.add_token_merges([" ".join(pair) for pair in merges])
    for add, index in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
    ):
        if index is not None:
            add(index)
    writer.add_add_bos_token(False)
    if chat_template is not None:
        writer.add_chat_template(chat_template)


def rounded(model: Any, kind: str) -> Any:
    """The model with its matrices rounded as the format says.

    F16: to half precision. Q8_0: each 32 weights of a row are integers of -127 to 127 times one half-precision number,
    their largest absolute value over 127; written out here once more, not taken from the package.
    """
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() < 2 or kind == "F32":
                continue
            if kind == "F16":
                weight.copy_(weight.half().float())
                continue
            blocks = weight.reshape(-1, 32)
            scale = blocks.abs().amax(dim=1, keepdim=True) / 127
            integers = torch.where(scale > 0, blocks / scale, 0.0)
            integers = torch.sign(integers) * (integers.abs() + 0.5).floor()
            weight.copy_((integers * scale.half().float()).reshape(weight.shape))
    return model
