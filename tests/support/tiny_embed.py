"""Encoders of a few thousand parameters that make vectors of queries and passages."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
from transformers import BertConfig, BertModel

from support import tiny_span
from understudy.models.embedding_settings import MARK
from understudy.recipe import DataConfig
from understudy.tokens.passages import Embedding, PassageTemplate, PassageTokenizer
from understudy.types import Example

FUNCTIONS = ("AMF", "SMF", "UPF", "UDM", "AUSF", "NSSF", "CHF", "PCF")
DUTIES = ("mobility", "sessions", "packets", "subscriptions", "authentication", "slices", "charging", "policies")
PASSAGES = tuple(f"The {name} keeps {duty}." for name, duty in zip(FUNCTIONS, DUTIES, strict=True))
DATA = DataConfig(max_length=24, max_answer_tokens=8)
SETTINGS = Embedding(temperature=0.1)


def rows(num: int = 16) -> list[Example]:
    """Queries with a passage, and a hard negative in every second one; each passage is asked for more than once."""
    made = []
    for n in range(num):
        right = PASSAGES[n % 8]
        choices = (right, PASSAGES[(n + 3) % 8]) if n % 2 else ()
        question = f"Who keeps {DUTIES[n % 8]}?" if n < 8 else f"What of {DUTIES[n % 8]}?"
        made.append(Example(f"query-{n}", question, (right,), choices=choices))
    return made


@functools.cache
def shared_tokenizer() -> Any:
    """One for all that must read alike."""
    return tiny_span.tokenizer([*PASSAGES, *(row.question for row in rows()), "query passage: about"], 200)


def bert(
    *, width: int = 16, layers: int = 2, seed: int = 0, settings: Embedding = SETTINGS, tokens: int | None = None
) -> Any:
    """A BERT without a head, known as a model of the kind."""
    config = BertConfig(
        vocab_size=tokens or len(shared_tokenizer()),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.2,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        architectures=["BertModel"],
    )
    setattr(config, MARK, settings.to_config())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = BertModel(config).eval()
    model.pooler.requires_grad_(False)
    return model


def reader(settings: Embedding = SETTINGS, data: DataConfig = DATA, own: Any = None) -> PassageTokenizer:
    """What turns examples into queries and passages."""
    return PassageTokenizer(PassageTemplate(own or shared_tokenizer(), embedding=settings), data)


def folder(path: Path, **fields: Any) -> Path:
    """A plain encoder as it comes from elsewhere, without a mark of ours."""
    model = bert(**fields)
    delattr(model.config, MARK)
    model.save_pretrained(path)
    shared_tokenizer().save_pretrained(path)
    return path
