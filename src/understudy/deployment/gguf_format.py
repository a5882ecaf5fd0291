"""GGUF by the `gguf` library's writer, for what llama.cpp is proven to read as the student was measured.

That are Llama and Qwen2 with plain rotary positions, and tokenizers of two families: byte-level BPE that cuts words by
a pattern which llama.cpp knows by name, and BPE over ▁ with bytes to fall back to (Llama's own, `llama` to llama.cpp).
All else is refused: a file that loads and reads other tokens is worse than none.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from understudy.errors import ModelError
from understudy.models.gguf import check_gguf
from understudy.models.head import base_model

Precision = Literal["f32", "f16", "q8_0"]
PRECISIONS: tuple[Precision, ...] = ("f32", "f16", "q8_0")
FILE = "model.gguf"
ARCHITECTURES = {"llama": "LLAMA", "qwen2": "QWEN2"}
"""`model_type` of a config -> the library's name."""

_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3 = _QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
_BYTES_ALONE = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}
_PATTERNS: tuple[tuple[str, list[dict[str, Any]]], ...] = (
    ("gpt-2", [_BYTES]),
    ("smollm", [{"type": "Digits", "individual_digits": True}, _BYTES]),
    ("qwen2", [{"type": "Split", "pattern": {"Regex": _QWEN2}, "behavior": "Isolated", "invert": False}, _BYTES_ALONE]),
    (
        "llama-bpe",
        [{"type": "Split", "pattern": {"Regex": _LLAMA3}, "behavior": "Isolated", "invert": False}, _BYTES_ALONE],
    ),
)
"""llama.cpp's name of a way to cut words -> the pre-tokenizers that cut like it."""
_SPACES = [
    {"type": "Prepend", "prepend": "▁"},
    {"type": "Replace", "pattern": {"String": " "}, "content": "▁"},
]
_HINT = "export to merged or onnx, or serve it with an engine that reads safetensors"


@dataclass(frozen=True)
class Vocabulary:
    """A tokenizer as the format has it.

    Attributes:
        model: `gpt2` for byte-level BPE, `llama` for BPE over ▁.
        pre: llama.cpp's name of the way to cut words.
        merges: in order of rank; of `llama` they are told by scores.
        scores: by id; of `gpt2` none.
    """

    model: Literal["gpt2", "llama"]
    pre: str
    merges: tuple[str, ...]
    scores: tuple[float, ...]


def check_exportable(model: Any, tokenizer: Any) -> Vocabulary:
    """Whether a model and its tokenizer can be written so that llama.cpp reads them alike.

    Raises:
        ModelError: they cannot; why is said.
    """
    check_gguf(FILE)
    _check_architecture(base_model(model).config)
    return vocabulary_of(json.loads(tokenizer.backend_tokenizer.to_str()))


def _check_architecture(config: Any) -> None:
    kind = config.model_type
    reason = ""
    if kind not in ARCHITECTURES:
        reason = f"{kind} is not among the architectures that are proven: {', '.join(ARCHITECTURES)}"
    elif (rope := getattr(config, "rope_parameters", None) or {}).get("rope_type", "default") != "default":
        reason = f"its rotary positions are scaled ({rope['rope_type']})"
    elif getattr(config, "use_sliding_window", False):
        reason = "it attends within a window"
    elif kind == "llama" and (getattr(config, "attention_bias", False) or getattr(config, "mlp_bias", False)):
        reason = "its layers have biases"
    elif config.hidden_act != "silu":
        reason = f"its activation is {config.hidden_act}"
    if reason:
        raise ModelError(f"this model is not exported to GGUF: {reason}", hint=_HINT)


def vocabulary_of(described: Mapping[str, Any]) -> Vocabulary:
    """The tokenizer of a `tokenizer.json` in the format's terms.

    Raises:
        ModelError: llama.cpp would read other tokens.
    """
    model, normalizer = described["model"], described["normalizer"]
    if model["type"] != "BPE":
        raise _unreadable(f"it is {model['type']}, and BPE is proven")
    merges = [" ".join(pair) if isinstance(pair, list) else pair for pair in model["merges"]]
    if model["byte_fallback"] and _parts(normalizer, "normalizers") == _SPACES and described["pre_tokenizer"] is None:
        return Vocabulary("llama", "default", (), _scores(model["vocab"], merges))
    steps = _parts(described["pre_tokenizer"], "pretokenizers")
    if any(step.get("add_prefix_space") for step in steps if step["type"] == "ByteLevel"):
        raise _unreadable("it puts a space before each text (add_prefix_space), and llama.cpp does not")
    if normalizer is not None and _parts(normalizer, "normalizers") != [{"type": "NFC"}]:
        raise _unreadable("it changes texts before it cuts them")
    bare = [{key: value for key, value in step.items() if key != "trim_offsets"} for step in steps]
    name = next((name for name, pattern in _PATTERNS if bare == pattern), None)
    if name is None:
        raise _unreadable("it cuts words by a pattern that llama.cpp has no name for")
    if (name == "llama-bpe") != bool(model["ignore_merges"]):
        raise _unreadable("whether words that are tokens are merged differs from llama.cpp's way of this pattern")
    return Vocabulary("gpt2", name, tuple(merges), ())


def _unreadable(why: str) -> ModelError:
    return ModelError(f"this tokenizer is not exported to GGUF: {why}", hint=_HINT)


def _parts(step: Mapping[str, Any] | None, inner: str) -> list[dict[str, Any]]:
    """The steps of a sequence, or a single one as such."""
    if step is None:
        return []
    return list(step[inner]) if step["type"] == "Sequence" else [dict(step)]


def _scores(vocabulary: Mapping[str, int], merges: list[str]) -> tuple[float, ...]:
    """A token's score is minus the rank of the merge that makes it: the higher, the sooner it is merged."""
    scores = dict.fromkeys(vocabulary, -float(len(merges)))
    for rank, pair in enumerate(merges):
        token = "".join(pair.split(" "))
        if token in scores:
            scores[token] = max(scores[token], -float(rank))
    by_id = sorted(vocabulary, key=lambda token: vocabulary[token])
    return tuple(scores[token] for token in by_id)


def write_gguf(model: Any, tokenizer: Any, path: Path, precision: Precision) -> None:
    """Write a model and its tokenizer; matrices in `precision`, vectors in 32 bits.

    Args:
        model: of `transformers`, in float32.
        tokenizer: of it, with the chat template that it is asked by.
        path: of the file.
        precision: of matrices.

    Raises:
        ModelError: see `check_exportable`.
    """
    import gguf

    vocabulary = check_exportable(model, tokenizer)
    config = model.config
    writer = gguf.GGUFWriter(path, config.model_type)
    _add_architecture(writer, config)
    _add_tokenizer(writer, tokenizer, vocabulary, config.vocab_size)
    _add_weights(writer, model, precision)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_architecture(writer: Any, config: Any) -> None:
    head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    writer.add_context_length(config.max_position_embeddings)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_dimension_count(head)
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: Any, tokenizer: Any, vocabulary: Vocabulary, size: int) -> None:
    from gguf import TokenType

    by_id = {index: token for token, index in tokenizer.get_vocab().items()}
    added = {index: token.special for index, token in tokenizer.added_tokens_decoder.items()}
    tokens, types = [], []
    for index in range(size):
        tokens.append(by_id.get(index, f"[PAD{index}]"))
        types.append(_type_of(index, tokens[-1], index in by_id, added, tokenizer, vocabulary, TokenType))
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    if vocabulary.model == "llama":
        writer.add_token_scores([*vocabulary.scores, *[-1e6] * (size - len(vocabulary.scores))])
        writer.add_add_space_prefix(True)
    else:
        writer.add_token_merges(list(vocabulary.merges))
    for add, index in (
        (writer.add_bos_token_id, tokenizer.bos_token_id),
        (writer.add_eos_token_id, tokenizer.eos_token_id),
        (writer.add_pad_token_id, tokenizer.pad_token_id),
        (writer.add_unk_token_id, tokenizer.unk_token_id),
    ):
        if index is not None:
            add(index)
    # What frames a conversation is written by the chat template, and by nothing else.
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(tokenizer.chat_template)


def _type_of(
    index: int,
    token: str,
    known: bool,
    added: Mapping[int, bool],
    tokenizer: Any,
    vocabulary: Vocabulary,
    types: Any,
) -> Any:
    if not known:
        return types.UNUSED
    if vocabulary.model == "llama" and index == tokenizer.unk_token_id:
        return types.UNKNOWN
    if index in added or index in tokenizer.all_special_ids:
        return types.CONTROL if added.get(index, True) else types.USER_DEFINED
    if vocabulary.model == "llama" and len(token) == 6 and token.startswith("<0x") and token.endswith(">"):
        return types.BYTE
    return types.NORMAL


def _add_weights(writer: Any, model: Any, precision: Precision) -> None:
    import gguf

    config = model.config
    kind = gguf.GGMLQuantizationType[precision.upper()]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH[ARCHITECTURES[config.model_type]], config.num_hidden_layers)
    for name, weight in model.state_dict().items():
        if name == "lm_head.weight" and config.tie_word_embeddings:
            continue
        stored = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if stored is None:
            raise ModelError(f"this model is not exported to GGUF: the format has no place for {name}", hint=_HINT)
        array = _in_file_order(name, weight.detach().float(), config).cpu().numpy()
        # Rows that are no multiple of a block cannot be packed: the library's own converters keep them in 16 bits.
        block = gguf.GGML_QUANT_SIZES[kind][0]
        chosen = kind if array.ndim == 2 and array.shape[-1] % block == 0 else gguf.GGMLQuantizationType.F32
        if array.ndim == 2 and chosen is not kind:
            chosen = gguf.GGMLQuantizationType.F16
        writer.add_tensor(stored, gguf.quantize(array, chosen), raw_dtype=chosen)


def _in_file_order(name: str, weight: torch.Tensor, config: Any) -> torch.Tensor:
    """Rows of a Llama's queries and keys as the format has them: the halves that rotate together side by side."""
    heads = {"q_proj.weight": config.num_attention_heads, "k_proj.weight": config.num_key_value_heads}
    count = next((count for part, count in heads.items() if name.endswith(part)), 0)
    if config.model_type != "llama" or not count:
        return weight
    rows = weight.shape[0] // count // 2
    return weight.reshape(count, 2, rows, -1).transpose(1, 2).reshape(weight.shape).contiguous()
