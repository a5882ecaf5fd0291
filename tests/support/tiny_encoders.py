"""Encoders of a few thousand parameters that compare options, classify texts and tag words."""

from __future__ import annotations

import functools
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertForMultipleChoice,
    BertForSequenceClassification,
    BertForTokenClassification,
)

from support import tiny_span
from understudy.models.kinds import KINDS
from understudy.recipe import DataConfig, ModelConfig
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.types import Example

FUNCTIONS = ("AMF", "SMF", "UPF", "UDM")
TASKS = ("ends mobility", "ends sessions", "carries packets", "keeps subscriptions")
LABELS = ("mobility", "session", "user plane")
TAGS = ("O", "B-NF", "I-NF")
CLASSES: dict[str, Any] = {
    "choice": BertForMultipleChoice,
    "classify": BertForSequenceClassification,
    "tag": BertForTokenClassification,
}
DATA = {
    "choice": DataConfig(max_length=32, max_answer_tokens=8),
    "classify": DataConfig(max_length=24, max_answer_tokens=8, labels=LABELS),
    "tag": DataConfig(max_length=24, max_answer_tokens=8, labels=TAGS),
}


def choices(num: int = 16) -> list[Example]:
    """Questions with two to four options."""
    rows = []
    for n in range(num):
        right = n % 4
        others = [name for place, name in enumerate(FUNCTIONS) if place != right][: 1 + n % 3]
        options = [*others]
        options.insert(n % (len(others) + 1), FUNCTIONS[right])
        rows.append(Example(f"choice-{n}", f"Which one {TASKS[right]}?", (FUNCTIONS[right],), choices=tuple(options)))
    return rows


def texts(num: int = 18) -> list[Example]:
    """Texts with a label."""
    words = ("The AMF ends mobility", "The SMF ends sessions", "The UPF carries packets")
    return [Example(f"text-{n}", f"{words[n % 3]} of interface N{n}.", (LABELS[n % 3],)) for n in range(num)]


def sentences(num: int = 12) -> list[Example]:
    """Words with a label each."""
    rows = []
    for n in range(num):
        name = FUNCTIONS[n % 4]
        words = ["The", name, "function", "ends", f"N{n}"] if n % 2 else ["interface", f"N{n}", "of", name]
        labels = ["O", "B-NF", "I-NF", "O", "O"] if n % 2 else ["O", "O", "O", "B-NF"]
        rows.append(Example(f"words-{n}", " ".join(words), (" ".join(labels),)))
    return rows


ROWS = {"choice": choices, "classify": texts, "tag": sentences}


@functools.cache
def shared_tokenizer() -> Any:
    """One for all that must read alike."""
    rows = [*choices(), *texts(), *sentences()]
    return tiny_span.tokenizer([" ".join([row.question, *row.choices]) for row in rows], 160)


def bert(kind: str, *, width: int = 16, layers: int = 2, heads: int = 2, seed: int = 0, dropout: float = 0.0) -> Any:
    """A BERT of a kind."""
    labels = DATA[kind].labels
    config = BertConfig(
        vocab_size=len(shared_tokenizer()),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        max_position_embeddings=64,
        initializer_range=0.2,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        architectures=[CLASSES[kind].__name__],
    )
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: place for place, label in enumerate(labels)}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CLASSES[kind](config).eval()


def reader(kind: str, own: Any = None) -> ExampleTokenizer:
    """What turns examples into what a kind reads."""
    config: Any = ModelConfig(model="none")
    template = KINDS[kind].template(own or shared_tokenizer(), config, BertConfig(), "none")
    return KINDS[kind].example_tokenizer(template, DATA[kind])
