"""Encoders of a few thousand parameters that point at answers, with a WordPiece tokenizer trained on the spot."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import BertConfig, BertForQuestionAnswering, BertTokenizerFast

from understudy.models.kinds import KINDS
from understudy.recipe import DataConfig
from understudy.tokens.spans import SpanTemplate, SpanTokenizer
from understudy.types import Example

DATA = DataConfig(max_length=48, max_answer_tokens=8)
FUNCTIONS = ["AMF", "SMF", "UPF", "UDM", "AUSF", "NSSF", "CHF", "PCF"]
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


def examples(num: int = 24) -> list[Example]:
    """Contexts of three sentences, and a question about one of them; each sixth is not answered by its context."""
    rows = []
    for n in range(num):
        names = [FUNCTIONS[(n + step) % len(FUNCTIONS)] for step in (0, 2, 5)]
        context = " ".join(f"The {name} ends interface N{n % 7 + place}." for place, name in enumerate(names))
        place = n % 3
        question, answer = f"What ends interface N{n % 7 + place}?", names[place]
        if n % 6 == 5:
            question, answer = "What ends interface N99?", "unanswerable"
        rows.append(Example(f"span-{n}", question, (answer,), context))
    return rows


def tokenizer(texts: Iterable[str] = (), size: int = 200) -> Any:
    """A lowercase WordPiece as BERT has it: [CLS] question [SEP] context [SEP]."""
    core = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(lowercase=True)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=size, special_tokens=SPECIALS, show_progress=False)
    core.train_from_iterator([*texts] or [f"{row.question} {row.context}" for row in examples()], trainer)
    ends = [(token, core.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    core.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return BertTokenizerFast(tokenizer_object=core)


@functools.cache
def shared_tokenizer() -> Any:
    """One for all that must read alike: training WordPiece twice does not give the same pieces twice."""
    return tokenizer()


def bert(vocabulary: int, *, width: int = 16, layers: int = 2, seed: int = 0) -> Any:
    """A BERT with a head of two logits a position."""
    config = BertConfig(
        vocab_size=vocabulary,
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        architectures=["BertForQuestionAnswering"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return BertForQuestionAnswering(config).eval()


def reader(own: Any = None, data: DataConfig = DATA) -> SpanTokenizer:
    """What turns examples into windows."""
    made = KINDS["span"].example_tokenizer(SpanTemplate(own or shared_tokenizer()), data)
    assert isinstance(made, SpanTokenizer)
    return made


def texts_of(rows: Sequence[Example]) -> list[str]:
    """What a tokenizer is trained on."""
    return [f"{row.question} {row.context}" for row in rows]
