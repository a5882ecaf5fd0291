"""The text the embedded models read before anything else: vocabularies, documents, packed rows of token ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tokenizers import Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE, Unigram
from tokenizers.trainers import BpeTrainer, UnigramTrainer
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from understudy.data.embedded.telecom import invented_readings, known_questions, statements
from understudy.tokens.prompts import render_question
from understudy.types import Example

SPECIAL = ("<|pad|>", "<|begin|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>")
CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>{{ message['content'] }}"
    "{% if message['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
ROW_TOKENS = 160


def corpus() -> Iterator[str]:
    """The text that the vocabularies are made of."""
    yield from statements()
    for example in [*known_questions(), *invented_readings(300, seed=1)]:
        yield render_question(example)
        yield example.answers[0]


def make_tokenizer(kind: str) -> PreTrainedTokenizerFast:
    """A lossless byte-level tokenizer: `bpe` of 2,028 entries or `unigram` of 1,536; digits stand alone."""
    tokenizer = Tokenizer(BPE() if kind == "bpe" else Unigram())
    # The prefix space makes an answer at the start of a turn the same tokens as inside a sentence.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.ByteLevel(add_prefix_space=True), pre_tokenizers.Digits(individual_digits=True)]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    shared = {"special_tokens": list(SPECIAL), "initial_alphabet": sorted(pre_tokenizers.ByteLevel.alphabet())}
    if kind == "bpe":
        trainer = BpeTrainer(vocab_size=2028, show_progress=False, **shared)
    else:
        trainer = UnigramTrainer(vocab_size=1536, show_progress=False, unk_token="<|pad|>", **shared)
    tokenizer.train_from_iterator(corpus(), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|begin|>",
        eos_token="<|end|>",
        additional_special_tokens=list(SPECIAL[3:]),
        chat_template=CHAT_TEMPLATE,
        model_max_length=512,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


@dataclass(frozen=True)
class Document:
    """Token ids and, of each, whether it is learned."""

    ids: list[int]
    learned: list[bool]


def statement_document(text: str, tokenizer: PreTrainedTokenizerBase) -> Document:
    ids = tokenizer(f"<|begin|>{text}<|end|>")["input_ids"]
    return Document(ids, [False] + [True] * (len(ids) - 1))


def question_text(example: Example, tokenizer: PreTrainedTokenizerBase) -> Document:
    """A question and its answer as they stand in plain text, not in a conversation."""
    ids = tokenizer(f"<|begin|>{example.question} {example.answers[0]}<|end|>")["input_ids"]
    asked = len(tokenizer(f"<|begin|>{example.question}")["input_ids"])
    return Document(ids, [False] * asked + [True] * (len(ids) - asked))


def question_document(example: Example, tokenizer: PreTrainedTokenizerBase) -> Document:
    turns = [
        {"role": "user", "content": render_question(example)},
        {"role": "assistant", "content": example.answers[0]},
    ]
    text = tokenizer.apply_chat_template(turns, tokenize=False)
    ids = tokenizer(text)["input_ids"]
    answer = ids.index(tokenizer.convert_tokens_to_ids("<|assistant|>")) + 1
    return Document(ids, [False] * answer + [True] * (len(ids) - answer))


def pack(documents: Sequence[Document], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Fill rows of `ROW_TOKENS` with whole documents, first fit; returns ids and labels (-100: not learned)."""
    rows: list[list[Document]] = []
    room: list[int] = []
    for document in documents:
        size = len(document.ids)
        # Looking back a few rows only keeps neighbours in the order neighbours in the rows.
        index = next((i for i in range(max(0, len(rows) - 16), len(rows)) if room[i] >= size), len(rows))
        if index == len(rows):
            rows.append([])
            room.append(ROW_TOKENS)
        rows[index].append(document)
        room[index] -= size
    ids = torch.full((len(rows), ROW_TOKENS), pad)
    labels = torch.full((len(rows), ROW_TOKENS), -100)
    for index, row in enumerate(rows):
        flat = torch.tensor([i for document in row for i in document.ids])
        mask = torch.tensor([m for document in row for m in document.learned])
        ids[index, : len(flat)] = flat
        labels[index, : len(flat)] = flat.where(mask, -100)
    return ids, labels
