"""BLEU and chrF: one value for a whole set of items, from counts that add up. Both as sacrebleu has them, 0 to 100.

sacrebleu tokenises, names its options and is the standard that the tests hold every count to; counting itself is done
for all items at once (`ngram_counts`).
"""

from __future__ import annotations

import re
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np

from understudy.metrics.ngram_counts import index_characters, index_words, matches, totals
from understudy.metrics.scores import MetricInputs, Score

_SYMBOLS = '{|}~[\\]^_`!"#$%&()*+:;<=>?@/'
_ENTITIES = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_AFTER_TEXT = re.compile(r"([^0-9])([.,])")
_BEFORE_TEXT = re.compile(r"([.,])([^0-9])")
_AFTER_DIGIT = re.compile(r"([0-9])-")


def bleu(inputs: MetricInputs) -> Score:
    """Corpus BLEU by sacrebleu (Papineni et al., 2002; Post, 2018), 0 to 100; `per_example` is sentence BLEU.

    `statistics` holds [length, reference length, 4 correct, 4 total] an item.
    """
    from sacrebleu.metrics.bleu import BLEU

    metric = BLEU(force=True)
    counts = _bleu_counts(metric, inputs)
    value = float(bleu_from_counts(counts.sum(axis=0)))
    sentences = tuple(bleu_from_counts(counts, effective_order=True).tolist())
    return Score("bleu", value, sentences, counts, bleu_from_counts, _signature(metric, inputs), maximum=100.0)


def chrf(inputs: MetricInputs) -> Score:
    """Corpus chrF2 by sacrebleu (Popović, 2015), 0 to 100; `per_example` is sentence chrF.

    `statistics` holds [in prediction, in reference, matched] for each of six orders of character n-grams.
    """
    from sacrebleu.metrics.chrf import CHRF

    metric = CHRF()
    counts = _chrf_counts(inputs, metric.char_order)
    value = float(chrf_from_counts(counts.sum(axis=0)))
    sentences = tuple(chrf_from_counts(counts).tolist())
    return Score("chrf", value, sentences, counts, chrf_from_counts, _signature(metric, inputs), maximum=100.0)


def _signature(metric: Any, inputs: MetricInputs) -> str:
    sizes = {len(references) for references in inputs.references}
    metric.num_refs = sizes.pop() if len(sizes) == 1 else -1  # sacrebleu prints -1 as "var"
    return f"sacrebleu|{metric.get_signature()}"


def _bleu_counts(metric: Any, inputs: MetricInputs) -> np.ndarray:
    """`[n, 10]` BLEU's counts; several references clip together, the one nearest in length gives the length."""
    order = metric.max_ngram_order
    split = lru_cache(maxsize=None)(bleu_words)
    rows = (split(text) for item in zip(inputs.predictions, inputs.references, strict=True) for text in _flat(*item))
    texts = index_words(rows, [1 + len(references) for references in inputs.references])
    predicted = texts.starts[:-1]
    length = texts.lengths[predicted]
    nearest = [
        min(
            map(int, texts.lengths[start + 1 : stop]),
            key=lambda candidate, predicted_length=predicted_length: (abs(predicted_length - candidate), candidate),
        )
        for start, stop, predicted_length in zip(predicted, texts.starts[1:], length.tolist(), strict=True)
    ]
    columns = [length[:, None], np.array(nearest)[:, None], matches(texts, order), totals(length, order)]
    return np.concatenate(columns, axis=1).astype(np.float64)


def bleu_words(text: str) -> list[str]:
    """The words of sacrebleu's default tokenizer, `13a`: symbols stand alone, points and commas unless inside a number.

    Blanks are left as they are on the way, they only separate; most of the original's time goes into padding them.
    """
    line = text.rstrip().replace("<skipped>", "").replace("-\n", "").replace("\n", " ")
    if "&" in line:
        for entity, symbol in _ENTITIES:
            line = line.replace(entity, symbol)
    for symbol in _SYMBOLS:
        if symbol in line:
            line = line.replace(symbol, f" {symbol} ")
    line = f" {line} "
    if "." in line or "," in line:
        line = _BEFORE_TEXT.sub(r" \1 \2", _AFTER_TEXT.sub(r"\1 \2 ", line))
    if "-" in line:
        line = _AFTER_DIGIT.sub(r"\1 - ", line)
    return line.split()


def _chrf_counts(inputs: MetricInputs, orders: int) -> np.ndarray:
    """`[n, 3 * orders]` chrF's counts against the reference that gives the best chrF, the first of equals."""
    solid = lru_cache(maxsize=None)(lambda text: "".join(text.split()))
    sizes = np.array([len(references) for references in inputs.references])
    flat = [
        solid(text)
        for prediction, references in zip(inputs.predictions, inputs.references, strict=True)
        for reference in references
        for text in (prediction, reference)
    ]
    texts = index_characters(flat, [2] * int(sizes.sum()))
    ngram_totals = totals(texts.lengths, orders)
    counts = np.stack(
        [ngram_totals[0::2] * (ngram_totals[1::2] > 0), ngram_totals[1::2], matches(texts, orders)], axis=-1
    )
    counts = counts.reshape(len(counts), -1).astype(np.float64)
    if sizes.max() == 1:
        return counts
    ends = np.cumsum(sizes)
    values = chrf_from_counts(counts)
    best = [start + int(np.argmax(values[start:end])) for start, end in zip(ends - sizes, ends, strict=True)]
    return counts[best]


def _flat(prediction: str, references: tuple[str, ...]) -> chain[str]:
    return chain((prediction,), references)


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
    """chrF_β = (1 + β²)PR / (β²P + R) of `[..., 18]` summed counts, P and R averaged over the orders, 0 to 100.

    The order of operations is sacrebleu's, so that references that tie there tie here too.
    """
    predicted, referenced, matched = counts[..., 0::3], counts[..., 1::3], counts[..., 2::3]
    defined = (predicted > 0) & (referenced > 0)
    orders = np.maximum(defined.sum(axis=-1), 1)
    precision = np.cumsum(np.where(defined, matched / np.maximum(predicted, 1), 0), axis=-1)[..., -1] / orders
    recall = np.cumsum(np.where(defined, matched / np.maximum(referenced, 1), 0), axis=-1)[..., -1] / orders
    below = beta**2 * precision + recall
    return 100 * ((1 + beta**2) * precision * recall / np.where(below > 0, below, 1))
