"""The vocabulary of the embedded models for bundles: words, categories, and fixed parts of prompts as single tokens.

A unigram model over bytes whose entries are chosen, not counted: of all ways to cut a text that with the fewest tokens
is taken. No entry is part of a word but single bytes, so a word is one token wherever it is known, and any other text
is its bytes. A session of six items with question and answer takes some seventy tokens, where a vocabulary of words
takes twice as many.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from pretraining_text import CHAT_TEMPLATE, SPECIAL
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import Unigram
from transformers import PreTrainedTokenizerFast

ROW_LIMIT = 1024
NUMBERS = 100
_OFTEN = 4  # texts that hold a frame, before it is an entry
_UNIT, _BYTE = -1.0, -8.0


def make_tokenizer(units: Sequence[str], texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """A lossless tokenizer.

    Args:
        units: words and groups of words that vary; each is an entry with a space before it, and those that begin with
            a letter without one and capitalised too.
        texts: what frames – whatever stands between units, numbers and line ends – are taken from.
    """
    entries = dict.fromkeys(spelled for unit in units for spelled in _spellings(unit))
    entries |= dict.fromkeys(str(number) for number in range(NUMBERS + 1))
    entries |= dict.fromkeys(frames(units, texts))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    mapped = dict.fromkeys(entry.replace(" ", "Ġ").replace("\n", "Ċ") for entry in entries)
    vocabulary = [(name, 0.0) for name in SPECIAL] + [(byte, _BYTE) for byte in alphabet]
    vocabulary += [(entry, _UNIT) for entry in mapped if entry not in set(alphabet)]
    tokenizer = Tokenizer(Unigram(vocabulary, unk_id=0, byte_fallback=False))
    # No prefix space: an answer begins with its brace, as a grammar that decoding follows expects it to.
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            pre_tokenizers.Split(Regex(r"\d+"), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
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


def frames(units: Sequence[str], texts: Iterable[str]) -> Iterator[str]:
    """What stands between units, numbers and line ends in several texts; of the rest each word."""
    longest = sorted({*units, *map(_capital, units)}, key=len, reverse=True)
    cut = re.compile(rf"\d+|\n|(?: |(?<!\w))(?:{'|'.join(map(re.escape, longest))})(?!\w)")
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update({part for part in cut.split(text) if part})
    yield from (frame for frame, count in counts.items() if count >= _OFTEN)
    yield from dict.fromkeys(word for frame in counts for word in re.findall(r" ?[A-Za-z]+| ?[^A-Za-z\s]+", frame))
    yield "\n"


def _spellings(unit: str) -> tuple[str, ...]:
    if unit[0].isalpha():
        return (f" {unit}", unit, _capital(unit))
    return (unit if unit[0] == "." else f" {unit}",)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
