"""The vocabulary of the embedded models for bundles: a byte-level BPE whose tokens may hold several words.

Numbers, categories, words of titles and intents and the fixed parts of prompts and answers are single tokens, so that a
session of six items with its answer takes some eighty of them. Text is cut at line ends and around numbers alone;
`max_token_length` bounds what grows together in between.
"""

from __future__ import annotations

from collections.abc import Iterable

from pretraining_text import CHAT_TEMPLATE, SPECIAL
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer
from transformers import PreTrainedTokenizerFast

LONGEST, ENTRIES, ROW_LIMIT = 28, 1280, 1024


def make_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A lossless tokenizer made of these texts; numbers are cut off from what stands around them."""
    tokenizer = Tokenizer(BPE())
    # Line ends are Ċ by then. The prefix space makes a text at the start of a turn the same tokens as inside one.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False),
            pre_tokenizers.Split(Regex(r"\d+|Ċ+"), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), decoders.Strip(" ", 1, 0)])
    trainer = BpeTrainer(
        vocab_size=ENTRIES,
        max_token_length=LONGEST,
        show_progress=False,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        bos_token="<|begin|>",
        eos_token="<|end|>",
        additional_special_tokens=list(SPECIAL[3:]),
        chat_template=CHAT_TEMPLATE,
        model_max_length=ROW_LIMIT,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )
