"""Where the positions of a model end, by its config alone; what comes behind the last is asked of the model itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForQuestionAnswering,
    AutoModelForSeq2SeqLM,
    BartConfig,
    BertConfig,
    BloomConfig,
    DebertaV2Config,
    FalconConfig,
    FSMTConfig,
    GPT2Config,
    GPTJConfig,
    LEDConfig,
    LlamaConfig,
    MarianConfig,
    MptConfig,
    NystromformerConfig,
    OPTConfig,
    PreTrainedConfig,
    RobertaConfig,
    T5Config,
)

from understudy.models.positions import Positions, positions_of
from understudy.recipe import ModelConfig

IDS: dict[str, Any] = {"vocab_size": 40, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
WIDE = {**IDS, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
DEEP = {"d_model": 16, "encoder_layers": 1, "decoder_layers": 1, "decoder_start_token_id": 1}
SIDES = {f"{side}_{name}": 2 for side in ("encoder", "decoder") for name in ("attention_heads", "ffn_dim")}
TWO_SIDES = {**IDS, **DEEP, **SIDES}
OF_SPAN = {"architectures": ["BertForQuestionAnswering"]}

TABLES = {
    "gpt2": (GPT2Config(**IDS, n_positions=24, n_embd=16, n_layer=1, n_head=2), 24, None),
    "opt": (OPTConfig(**WIDE, ffn_dim=16, word_embed_proj_dim=16, max_position_embeddings=24), 24, None),
    "gptj": (GPTJConfig(**IDS, n_positions=24, n_embd=16, n_layer=1, n_head=2, rotary_dim=4), 24, None),
    "bert": (BertConfig(**WIDE, **OF_SPAN, max_position_embeddings=24), 24, None),
    # Its positions are counted from the one behind its pad token: 26 entries hold 24.
    "roberta": (RobertaConfig(**WIDE, **OF_SPAN, max_position_embeddings=26), 24, None),
    "nystromformer": (
        NystromformerConfig(
            **WIDE,
            architectures=["NystromformerForQuestionAnswering"],
            max_position_embeddings=24,
            num_landmarks=24,
            segment_means_seq_len=24,
        ),
        24,
        None,
    ),
    # Its biases are made for so many positions, though they need no table.
    "mpt": (MptConfig(vocab_size=40, d_model=16, n_heads=2, n_layers=1, max_seq_len=24), 24, None),
    "bart": (BartConfig(**TWO_SIDES, max_position_embeddings=24), 24, 24),
    "marian": (MarianConfig(**TWO_SIDES, max_position_embeddings=24), 24, 24),
    "led": (
        LEDConfig(
            **TWO_SIDES, attention_window=4, max_encoder_position_embeddings=32, max_decoder_position_embeddings=20
        ),
        32,
        20,
    ),
}
ENDLESS = {
    "t5": T5Config(**IDS, d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2, n_positions=24),
    "bloom": BloomConfig(**IDS, hidden_size=16, n_layer=1, n_head=2, seq_length=24),
    # Its table grows with what it reads.
    "fsmt": FSMTConfig(
        langs=["en", "de"], src_vocab_size=40, tgt_vocab_size=40, max_position_embeddings=24, **DEEP, **SIDES
    ),
    "falcon with ALiBi": FalconConfig(**WIDE, alibi=True, max_position_embeddings=24, new_decoder_architecture=False),
    "deberta without absolute ones": DebertaV2Config(
        **WIDE,
        architectures=["DebertaV2ForQuestionAnswering"],
        max_position_embeddings=24,
        position_biased_input=False,
        relative_attention=True,
        pos_att_type=["c2p"],
        position_buckets=8,
    ),
}


def found(architecture: PreTrainedConfig, folder: Path, longest: int = 200, **fields: Any) -> Positions | None:
    """What is told of a config that lies in a folder without weights."""
    architecture.save_pretrained(folder)
    return positions_of(ModelConfig(model=str(folder), **fields), longest)


@torch.no_grad()
def run(config: PreTrainedConfig, read: int, written: int) -> None:
    """Let a model of that config read and write so many tokens; none of them is padding."""
    if config.is_encoder_decoder:
        ids = {"input_ids": torch.full((1, read), 5), "decoder_input_ids": torch.full((1, written), 5)}
        AutoModelForSeq2SeqLM.from_config(config).eval()(**ids)
        return
    points = any(name.endswith("ForQuestionAnswering") for name in config.architectures or ())
    auto: Any = AutoModelForQuestionAnswering if points else AutoModelForCausalLM
    auto.from_config(config).eval()(input_ids=torch.full((1, read), 5))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_ends_where_the_model_fails(name: str, tmp_path: Path) -> None:
    config, read, written = TABLES[name]
    assert found(config, tmp_path) == Positions(read, written, in_table=True)
    run(config, read, written or 1)
    with pytest.raises((IndexError, RuntimeError)):
        run(config, read + 1, 1)
    if written:
        with pytest.raises((IndexError, RuntimeError)):
            run(config, 1, written + 1)


@pytest.mark.parametrize("name", ENDLESS)
def test_a_model_without_a_last_position_has_none(name: str, tmp_path: Path) -> None:
    assert found(ENDLESS[name], tmp_path) is None
    run(ENDLESS[name], 100, 100)


def llama(**fields: Any) -> LlamaConfig:
    return LlamaConfig(**WIDE, **fields)


@pytest.mark.parametrize(
    ("rope", "learned"),
    [
        ({"rope_type": "default"}, 64),
        ({"rope_type": "linear", "factor": 2.0}, 128),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32}, 128),
        # Here 64 is what it was stretched to.
        (
            {
                "rope_type": "llama3",
                "factor": 8.0,
                "original_max_position_embeddings": 8,
                "low_freq_factor": 1.0,
                "high_freq_factor": 4.0,
            },
            64,
        ),
    ],
)
def test_rotary_positions_end_where_they_were_learned(rope: dict[str, Any], learned: int, tmp_path: Path) -> None:
    config = llama(max_position_embeddings=64, rope_parameters={"rope_theta": 10000.0, **rope})
    assert found(config, tmp_path) == Positions(learned, learned, in_table=False)


def test_a_model_that_declares_enough_is_not_looked_into_and_its_own_fields_count(tmp_path: Path) -> None:
    config = GPT2Config(**IDS, n_positions=64, n_embd=16, n_layer=1, n_head=2)
    assert found(config, tmp_path, longest=48) is None
    assert found(config, tmp_path, longest=65) == Positions(64, None, in_table=True)
    fresh = found(config, tmp_path, longest=48, init="fresh", config={"n_positions": 32})
    assert fresh == Positions(32, None, in_table=True)
    rotary = llama(max_position_embeddings=64)
    assert found(rotary, tmp_path / "rotary") == Positions(64, 64, in_table=False)
    # Random weights learn whatever positions they are shown.
    assert found(rotary, tmp_path / "rotary", init="fresh") is None
