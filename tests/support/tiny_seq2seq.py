"""Encoder–decoders of a few thousand parameters, with tokenizers that frame texts as theirs do, trained on the spot."""

from __future__ import annotations

import functools
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from support.tiny import FACTS, Pair
from support.tiny import tokenizer as byte_level
from understudy.data.load import load_splits
from understudy.recipe import DataConfig
from understudy.tokens.seq2seq_template import Seq2SeqTemplate
from understudy.tokens.template import Template

KINDS = ("t5", "t5-v1.1", "bart")


def unigram(size: int = 300) -> Any:
    """A Unigram tokenizer as T5 has it: spaces as ▁, one for any blank, </s> behind every text, no <s>."""
    core = Tokenizer(models.Unigram())
    core.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("\n", " ")])
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    specials = ["<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(
        vocab_size=size, special_tokens=specials, unk_token="<unk>", show_progress=False, max_piece_length=8
    )
    core.train_from_iterator(_texts(), trainer)
    core.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", pad_token="<pad>", unk_token="<unk>")


@functools.cache
def _texts() -> list[str]:
    """The facts, and questions and answers of the embedded set."""
    rows = load_splits(DataConfig(limit=300)).train
    return [" ".join(fact) for fact in FACTS] + [f"{row.question} {row.answers[0]}" for row in rows]


def framed_bytes(size: int = 300) -> Any:
    """A byte-level BPE as BART has it: <s> before and </s> behind every text."""
    made = byte_level(size)
    ids = [(token, made.convert_tokens_to_ids(token)) for token in ("<s>", "</s>")]
    made.backend_tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A </s>", special_tokens=ids)
    return made


def tokenizer(kind: str, size: int = 300) -> Any:
    """The tokenizer of a kind."""
    return framed_bytes(size) if kind == "bart" else unigram(size)


def model(kind: str, vocabulary: int, *, width: int = 16, seed: int = 0, dropout: float = 0.0) -> Any:
    """A tiny model of a kind, every parameter random; that of T5 v1.1 gated, its head untied and unscaled."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = _bart(vocabulary, width, dropout) if kind == "bart" else _t5(kind, vocabulary, width, dropout)
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.copy_(torch.randn(parameter.shape) * 0.4)
            if kind == "bart":
                made.final_logits_bias.normal_()
            elif kind == "t5-v1.1":
                made.lm_head.weight = torch.nn.Parameter(torch.randn(vocabulary, width) * 0.4)
    return made.eval()


def _t5(kind: str, vocabulary: int, width: int, dropout: float) -> Any:
    later = kind == "t5-v1.1"
    config = T5Config(
        vocab_size=vocabulary,
        d_model=width,
        d_kv=8,
        d_ff=2 * width,
        num_layers=2,
        num_heads=2,
        dropout_rate=dropout,
        feed_forward_proj="gated-gelu" if later else "relu",
        # The published configs of v1.1 say so, and the library reads it as: do not scale.
        **({"tie_word_embeddings": False} if later else {}),
        decoder_start_token_id=0,
    )
    return T5ForConditionalGeneration(config)


def _bart(vocabulary: int, width: int, dropout: float) -> Any:
    config = BartConfig(
        vocab_size=vocabulary,
        d_model=width,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=2 * width,
        decoder_ffn_dim=2 * width,
        max_position_embeddings=256,
        dropout=dropout,
        scale_embedding=True,
        eos_token_id=0,
        forced_eos_token_id=0,
        pad_token_id=1,
        bos_token_id=2,
        decoder_start_token_id=0,
    )
    return BartForConditionalGeneration(config)


def template(kind: str, size: int = 300) -> Template:
    """A template as `load_template` makes it of a folder."""
    return Seq2SeqTemplate(tokenizer(kind, size), start_id=0)


def pair(kind: str, *, dropout: float = 0.0) -> Pair:
    """A student and a wider teacher of one kind and vocabulary."""
    ours, theirs = template(kind), template(kind)
    size = len(ours.tokenizer)  # pyright: ignore
    return Pair(model(kind, size, dropout=dropout), model(kind, size, width=24, seed=1), ours, theirs)
