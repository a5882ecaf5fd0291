"""Metrics that compare words or characters: exact match, token F1, BLEU, ROUGE, chrF, accuracy.

Where a library is the standard, the values are that library's (sacrebleu, rouge-score) to the last digit; the tests
hold them together. With several references, BLEU clips against all of them at once (its own form); every other metric
takes the best reference of each item.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from importlib.metadata import version
from typing import Any

import numpy as np

from understudy.metrics.scores import Score, Texts, mean_score

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")


def accuracy(texts: Texts) -> Score:
    """Share of predictions that equal a reference letter for letter, outer blanks aside: for answers out of a list."""
    values = [
        float(prediction.strip() in {reference.strip() for reference in references})
        for prediction, references in zip(texts.predictions, texts.references, strict=True)
    ]
    return mean_score("accuracy", values, "accuracy|strip:yes|case:mixed|references:any")


def exact_match(texts: Texts) -> Score:
    """Share of predictions that equal a reference after SQuAD normalisation (Rajpurkar et al., 2016)."""
    values = _best(texts, lambda prediction, reference: float(normalise(prediction) == normalise(reference)))
    return mean_score("exact_match", values, "exact_match|normalise:squad|references:best")


def token_f1(texts: Texts) -> Score:
    """Mean F1 of the bags of normalised words (Rajpurkar et al., 2016; the empty answer as in SQuAD 2.0)."""
    values = _best(texts, _bag_f1)
    return mean_score("token_f1", values, "token_f1|normalise:squad|references:best")


@lru_cache(maxsize=1 << 16)
def normalise(text: str) -> str:
    """SQuAD's normal form: lower case, without ASCII punctuation and articles, single blanks."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def _bag_f1(prediction: str, reference: str) -> float:
    predicted, right = normalise(prediction).split(), normalise(reference).split()
    if not predicted or not right:
        return float(predicted == right)
    common = sum((Counter(predicted) & Counter(right)).values())
    return 2 * common / (len(predicted) + len(right))


def _best(texts: Texts, compare: Callable[[str, str], float]) -> list[float]:
    pairs = zip(texts.predictions, texts.references, strict=True)
    return [max(compare(prediction, reference) for reference in references) for prediction, references in pairs]


# ROUGE ----------------------------------------------------------------------------------------------------------------


def rouge_n(texts: Texts, *, order: int) -> Score:
    """Mean F1 of n-gram overlap (Lin, 2004), words stemmed by Porter; equal to rouge-score's `rouge{order}`."""
    values = _best(texts, partial(_ngram_f1, order=order))
    return mean_score(f"rouge{order}", values, _rouge_signature())


def rouge_l(texts: Texts) -> Score:
    """Mean F1 of the longest common subsequence of words (Lin, 2004), stemmed; equal to rouge-score's `rougeL`."""
    return mean_score("rougeL", _best(texts, _subsequence_f1), _rouge_signature())


def _rouge_signature() -> str:
    return f"rouge-score:{version('rouge-score')}|stemmer:porter|value:f1|references:best"


def _ngram_f1(prediction: str, reference: str, *, order: int) -> float:
    predicted, right = _ngrams(prediction, order), _ngrams(reference, order)
    common = sum(min(count, right[ngram]) for ngram, count in predicted.items() if ngram in right)
    return _f1(common, predicted.total(), right.total())


def _subsequence_f1(prediction: str, reference: str) -> float:
    predicted, right = _stems(prediction), _stems(reference)
    return _f1(longest_common_subsequence(predicted, right), len(predicted), len(right))


def _f1(common: int, predicted: int, right: int) -> float:
    return 2 * common / (predicted + right) if common else 0.0


@lru_cache(maxsize=1 << 16)
def _stems(text: str) -> tuple[str, ...]:
    from rouge_score import tokenize  # brings nltk along, half a second that only ROUGE should pay

    return tuple(tokenize.tokenize(text, _Stemmer))


@lru_cache(maxsize=1 << 14)
def _ngrams(text: str, order: int) -> Counter[tuple[str, ...]]:
    stems = _stems(text)
    return Counter(stems[start : start + order] for start in range(len(stems) - order + 1))


class _Stemmer:
    """Porter's stemmer with a memory: stemming is most of ROUGE's time and words repeat."""

    @staticmethod
    @lru_cache(maxsize=1 << 17)
    def stem(word: str) -> str:
        return _porter().stem(word)


@lru_cache(maxsize=1)
def _porter() -> Any:
    from nltk.stem import porter

    return porter.PorterStemmer()


def longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence, one whole row of the table held in the bits of one integer.

    Bit i of `row` is 0 where the table's value steps up at element i of `first` (Hyyrö, 2004), so a row costs a few
    operations on integers instead of a loop over `first`.
    """
    positions: dict[str, int] = {}
    for index, token in enumerate(first):
        positions[token] = positions.get(token, 0) | 1 << index
    full = (1 << len(first)) - 1
    row = full
    for token in second:
        matches = row & positions.get(token, 0)
        row = (row + matches) | (row - matches)
    return len(first) - (row & full).bit_count()


# BLEU and chrF --------------------------------------------------------------------------------------------------------


def bleu(texts: Texts) -> Score:
    """Corpus BLEU by sacrebleu (Papineni et al., 2002; Post, 2018), 0 to 100; `per_example` is sentence BLEU.

    `statistics` holds [length, reference length, 4 correct, 4 total] an item.
    """
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(force=True)
    counts = _sacrebleu_counts(metric, texts)
    value = float(bleu_from_counts(counts.sum(axis=0)))
    sentences = tuple(bleu_from_counts(counts, effective_order=True).tolist())
    signature = f"sacrebleu|{metric.get_signature()}"
    return Score("bleu", value, sentences, counts, bleu_from_counts, signature, maximum=100.0)


def chrf(texts: Texts) -> Score:
    """Corpus chrF2 by sacrebleu (Popović, 2015), 0 to 100; `per_example` is sentence chrF.

    `statistics` holds [in prediction, in reference, matched] for each of six orders of character n-grams.
    """
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    counts = _sacrebleu_counts(metric, texts)
    value = float(chrf_from_counts(counts.sum(axis=0)))
    sentences = tuple(chrf_from_counts(counts).tolist())
    return Score(
        "chrf", value, sentences, counts, chrf_from_counts, f"sacrebleu|{metric.get_signature()}", maximum=100.0
    )


def _sacrebleu_counts(metric: Any, texts: Texts) -> np.ndarray:
    """One row of counts an item; the same call by which sacrebleu's own significance tests get theirs."""
    width = max(len(references) for references in texts.references)
    streams = [
        [references[column] if column < len(references) else None for references in texts.references]
        for column in range(width)
    ]
    return np.asarray(metric._extract_corpus_statistics(texts.predictions, streams), dtype=np.float64)


def bleu_from_counts(counts: np.ndarray, *, effective_order: bool = False) -> np.ndarray:
    """BLEU = BP · exp(mean log precision) of `[..., 10]` summed counts, exponential smoothing, 0 to 100.

    With `effective_order` only the orders that the prediction is long enough for are averaged (sentence BLEU).
    """
    length, reference_length = counts[..., 0], counts[..., 1]
    correct, total = counts[..., 2:6], counts[..., 6:10]
    missed = (correct == 0) & (total > 0)
    smoothed = np.where(missed, 0.5 ** np.cumsum(missed, axis=-1), correct)
    log_precision = np.log(np.where(total > 0, smoothed, 1.0)) - np.log(np.maximum(total, 1.0))
    orders = (total > 0).sum(axis=-1)
    mean = log_precision.sum(axis=-1) / (np.maximum(orders, 1) if effective_order else 4)
    brevity = np.minimum(0.0, 1 - reference_length / np.maximum(length, 1))
    defined = correct.any(axis=-1) & ((orders == 4) | effective_order)
    return np.where(defined, 100 * np.exp(brevity + mean), 0.0)


def chrf_from_counts(counts: np.ndarray, *, beta: float = 2.0) -> np.ndarray:
    """chrF_β = (1 + β²)PR / (β²P + R) of `[..., 18]` summed counts, P and R averaged over the orders, 0 to 100."""
    predicted, right, matched = counts[..., 0::3], counts[..., 1::3], counts[..., 2::3]
    defined = (predicted > 0) & (right > 0)
    orders = np.maximum(defined.sum(axis=-1), 1)
    precision = np.where(defined, matched / np.maximum(predicted, 1), 0).sum(axis=-1) / orders
    recall = np.where(defined, matched / np.maximum(right, 1), 0).sum(axis=-1) / orders
    below = beta**2 * precision + recall
    return np.where(below > 0, 100 * (1 + beta**2) * precision * recall / np.where(below > 0, below, 1), 0.0)
