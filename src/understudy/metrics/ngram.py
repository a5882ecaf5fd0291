"""Metrics of words, one value an item: exact match, accuracy, token F1, ROUGE.

Where a library is the standard, the values are that library's to the last digit; the tests hold them together. Of
several references each item takes the best.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np

from understudy.metrics.ngram_counts import NgramTexts, index_words, matches, totals
from understudy.metrics.scores import MetricInputs, Score, mean_score
from understudy.normal_form import NORMAL_WORDS, normalise

_ALPHANUMERIC = re.compile(r"[a-z0-9]+")

References = tuple[tuple[str, ...], ...]


def accuracy(inputs: MetricInputs) -> Score:
    """Share of predictions that equal a reference letter for letter, outer blanks aside: for answers out of a list."""
    values = [
        float(prediction.strip() in {reference.strip() for reference in references})
        for prediction, references in zip(inputs.predictions, inputs.references, strict=True)
    ]
    return mean_score("accuracy", values, "accuracy|strip:yes|case:mixed|references:any")


def exact_match(inputs: MetricInputs) -> Score:
    """Share of predictions that equal a reference in the normal form of `inputs.models.normalise`.

    `squad` is Rajpurkar et al. (2016); `numbers`, the default, departs from it by what belongs to a number.
    """
    form = inputs.models.normalise
    values = best_reference(
        inputs, lambda prediction, reference: float(normalise(prediction, form) == normalise(reference, form))
    )
    return mean_score("exact_match", values, f"exact_match|normalise:{form}|references:best")


def token_f1(inputs: MetricInputs) -> Score:
    """Mean F1 of the bags of words in the normal form (Rajpurkar et al., 2016; the empty answer as in SQuAD 2.0)."""
    form = inputs.models.normalise
    texts = _ngram_texts(inputs.predictions, inputs.references, NORMAL_WORDS[form])
    values = _f1(matches(texts, 1)[:, 0], texts.lengths[0::2], texts.lengths[1::2])
    values[(texts.lengths[0::2] == 0) & (texts.lengths[1::2] == 0)] = 1.0
    return mean_score("token_f1", _best(values, inputs), f"token_f1|normalise:{form}|references:best")


def best_reference(inputs: MetricInputs, compare: Callable[[str, str], float]) -> list[float]:
    """`compare` of each prediction with the reference that suits it best."""
    pairs = zip(inputs.predictions, inputs.references, strict=True)
    return [max(compare(prediction, reference) for reference in references) for prediction, references in pairs]


# ROUGE ----------------------------------------------------------------------------------------------------------------


def rouge_n(inputs: MetricInputs, *, order: int) -> Score:
    """Mean F1 of n-gram overlap (Lin, 2004), words stemmed by Porter; equal to rouge-score's `rouge{order}`."""
    texts = _ngram_texts(inputs.predictions, inputs.references, rouge_words)
    matched = _rouge_matches(inputs.predictions, inputs.references, max(order, 2))[:, order - 1]
    grams = totals(texts.lengths, order)[:, order - 1]
    return mean_score(f"rouge{order}", _best(_f1(matched, grams[0::2], grams[1::2]), inputs), _rouge_signature())


def rouge_l(inputs: MetricInputs) -> Score:
    """Mean F1 of the longest common subsequence of words (Lin, 2004), stemmed; equal to rouge-score's `rougeL`."""
    texts = _ngram_texts(inputs.predictions, inputs.references, rouge_words)
    ids, offsets = texts.tokens.tolist(), texts.offsets.tolist()
    common = [
        longest_common_subsequence(ids[start:middle], ids[middle:end])
        for start, middle, end in zip(offsets[0::2], offsets[1::2], offsets[2::2], strict=False)
    ]
    values = _f1(np.array(common), texts.lengths[0::2], texts.lengths[1::2])
    return mean_score("rougeL", _best(values, inputs), _rouge_signature())


def _rouge_signature() -> str:
    return (
        f"rouge-score:{version('rouge-score')}|nltk:{version('nltk')}|tokenizer:a-z0-9|stemmer:porter|value:f1"
        "|references:best"
    )


@lru_cache(maxsize=2)
def _rouge_matches(predictions: tuple[str, ...], references: References, orders: int) -> np.ndarray:
    return matches(_ngram_texts(predictions, references, rouge_words), orders)


def rouge_words(text: str) -> list[str]:
    """rouge-score's tokens: lower case, runs of a–z and 0–9, those of more than three letters stemmed."""
    return [porter_stem(word) if len(word) > 3 else word for word in _ALPHANUMERIC.findall(text.lower())]


@lru_cache(maxsize=1 << 17)
def porter_stem(word: str) -> str:
    """Porter's stem with a memory: stemming is most of ROUGE's and METEOR's time, and words repeat."""
    return _porter().stem(word)


@lru_cache(maxsize=1)
def _porter() -> Any:
    from nltk.stem import porter  # half a second that only those who stem should pay

    return porter.PorterStemmer()


# Pairs of a prediction and one reference ------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def _ngram_texts(
    predictions: tuple[str, ...], references: References, split: Callable[[str], Sequence[str]]
) -> NgramTexts:
    """Every prediction beside each of its references, each distinct text split once."""
    split_once = lru_cache(maxsize=None)(split)
    flat = (
        split_once(text)
        for prediction, item_references in zip(predictions, references, strict=True)
        for reference in item_references
        for text in (prediction, reference)
    )
    return index_words(flat, [2] * sum(map(len, references)))


def _f1(common: np.ndarray, predicted: np.ndarray, referenced: np.ndarray) -> np.ndarray:
    return 2 * common / np.maximum(predicted + referenced, 1)


def _best(values: np.ndarray, inputs: MetricInputs) -> np.ndarray:
    """`[pairs] -> [items]`, the largest value of each item's references."""
    sizes = [len(references) for references in inputs.references]
    return np.maximum.reduceat(values, np.concatenate([[0], np.cumsum(sizes[:-1], dtype=np.int64)]))


def longest_common_subsequence(first: Sequence[object], second: Sequence[object]) -> int:
    """Length of the longest common subsequence, one whole row of the table held in the bits of one integer.

    Bit i of `row` is 0 where the table's value steps up at element i of `first` (Hyyrö, 2004), so a row costs a few
    operations on integers instead of a loop over `first`.
    """
    positions: dict[object, int] = {}
    bit = 1
    for token in first:
        positions[token] = positions.get(token, 0) | bit
        bit <<= 1
    full = bit - 1
    row = full
    for token in second:
        occurrences = positions.get(token)
        if occurrences is not None:
            common = row & occurrences
            row = (row + common) | (row - common)
    return len(first) - (row & full).bit_count()
