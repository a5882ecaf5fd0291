"""Students that are exported: tiny ones of each kind, and llama.cpp where it is installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from support import tiny_seq2seq, tiny_span
from support.tiny import FACTS, llama, tokenizer
from understudy.deployment import gguf_format
from understudy.deployment.export import Student
from understudy.recipe import DataConfig, EvaluateConfig
from understudy.tokens.example_tokenizer import ExampleTokenizer
from understudy.tokens.template import Template
from understudy.training.session import save_model
from understudy.types import Example

DATA = DataConfig(max_length=160, max_answer_tokens=8)
EVALUATE = EvaluateConfig(metrics=("exact_match", "chrf"), resamples=200)
CHAT = (
    "{% for m in messages %}<s>{{ m['role'] }}: {{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant:{% endif %}"
)
ODD = (
    "  two  spaces, 3 5 digits 2152",
    "naïve café Ωmega 漢字 😀 'll I'm",
    "a\n\n b\tc  ",
    "x</s>y",
    "N2?!…",
    "１２３ ½",
)
"""Questions that tokenizers cut differently; one spells a control token."""


def rows(num: int = 42) -> list[Example]:
    """The facts in several wordings, and questions that are hard to cut."""
    facts = [(n // len(FACTS), *FACTS[n % len(FACTS)]) for n in range(num - len(ODD))]
    plain = [(f"{'Please: ' * times}{question}", answer) for times, question, answer in facts]
    odd = [(f"{text} {n}", "AMF") for n, text in enumerate(ODD)]
    return [Example(f"row-{n}", question, (answer,)) for n, (question, answer) in enumerate([*odd, *plain])]


def causal(folder: Path, *, own: Any = None, model: Any = None, seed: int = 0) -> Student:
    """A tiny Llama with byte-level BPE and a chat template of its own."""
    words = own or tokenizer(300)
    words.chat_template = CHAT
    template = Template(words)
    student = model or llama(len(words), width=32, tied=False, seed=seed)
    save_model(student, template, folder)
    return Student(student, ExampleTokenizer(template, DATA), folder, rows(), EVALUATE)


def seq2seq(folder: Path, kind: str) -> Student:
    """A tiny encoder–decoder."""
    template = tiny_seq2seq.template(kind)
    student = tiny_seq2seq.model(kind, len(template.tokenizer))  # pyright: ignore[reportArgumentType]
    save_model(student, template, folder)
    return Student(student, ExampleTokenizer(template, DATA), folder, rows(12), EVALUATE)


def span(folder: Path) -> Student:
    """A tiny encoder that points."""
    reader = tiny_span.reader()
    student = tiny_span.bert(len(reader.template.tokenizer), seed=3)  # pyright: ignore[reportArgumentType]
    save_model(student, reader.template, folder)
    return Student(student, reader, folder, tiny_span.examples(12), EVALUATE)


def cut_by(name: str) -> Any:
    """Byte-level BPE that cuts words as one of llama.cpp's patterns does."""
    steps = dict(gguf_format._PATTERNS)[name]
    core = Tokenizer(models.BPE(ignore_merges=name == "llama-bpe"))
    core.pre_tokenizer = pre_tokenizers.Sequence([_step(step) for step in steps])
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=340,
        special_tokens=["</s>", "<pad>", "<s>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    core.train_from_iterator([f"{q} {a} 12 345 6789\n\n" for q, a in FACTS], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>", pad_token="<pad>", bos_token="<s>")


def _step(step: dict[str, Any]) -> Any:
    if step["type"] == "Digits":
        return pre_tokenizers.Digits(individual_digits=True)
    if step["type"] == "Split":
        return pre_tokenizers.Split(Regex(step["pattern"]["Regex"]), "isolated")
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=step["use_regex"])


def qwen2(vocabulary: int) -> Any:
    """A tiny Qwen2, whose queries, keys and values have biases."""
    config = Qwen2Config(
        vocab_size=vocabulary,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        initializer_range=0.2,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name.endswith("bias"):
                    parameter.normal_(std=0.3)
    return model
