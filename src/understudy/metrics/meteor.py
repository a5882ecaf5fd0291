"""METEOR as nltk computes it, with every word stemmed and looked up once.

A prediction is aligned with a reference in stages – equal words, equal stems, synonyms – each stage taking words from
the end towards the front. nltk's wheel brings no WordNet; where it is not installed the third stage falls out, and the
signature says so. Nothing is downloaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from importlib.metadata import version
from itertools import pairwise
from typing import Any

from understudy.metrics.ngram import best_reference, porter_stem
from understudy.metrics.scores import MetricInputs, Score, mean_score

ALPHA, BETA, GAMMA = 0.9, 3.0, 0.5
_WORD = re.compile(r"\w+|[^\w\s]+")
_ASCII = re.compile(r"[\t-\r -~]*")

Synonyms = Callable[[str], frozenset[str]]


def meteor(inputs: MetricInputs) -> Score:
    """Mean METEOR (Banerjee and Lavie, 2005; parameters of Lavie and Agarwal, 2007); equal to nltk's `meteor_score`.

    ```text
    F = P·R / (α·P + (1 − α)·R)     METEOR = F · (1 − γ·(chunks/matches)^β)     α = 0.9, β = 3, γ = 0.5
    ```

    P and R are the shares of aligned words, a chunk a run of them that is adjacent on both sides. Several references:
    the best. A perfect answer of m words gets 1 − 0.5/m³, not 1: one word alone gets 0.5.
    """
    synonyms, wordnet = _wordnet()
    values = best_reference(
        inputs,
        lambda prediction, reference: sentence_meteor(meteor_words(prediction), meteor_words(reference), synonyms),
    )
    signature = (
        f"nltk:{version('nltk')}|tokenizer:wordpunct|case:lower|stages:exact,stem:porter"
        f"{',synonym' if synonyms else ''}|wordnet:{wordnet}|alpha:{ALPHA}|beta:{BETA}|gamma:{GAMMA}|references:best"
    )
    return mean_score("meteor", values, signature)


@lru_cache(maxsize=1 << 16)
def meteor_words(text: str) -> tuple[str, ...]:
    """Words and runs of punctuation by nltk's `wordpunct_tokenize`, which needs no data; then in lower case."""
    if _ASCII.fullmatch(text):  # here all engines of regular expressions agree, and order does not matter
        return tuple(_WORD.findall(text.lower()))
    from nltk.tokenize import wordpunct_tokenize

    return tuple([word.lower() for word in wordpunct_tokenize(text)])


def sentence_meteor(prediction: Sequence[str], reference: Sequence[str], synonyms: Synonyms | None = None) -> float:
    """METEOR of one prediction against one reference, both lists of lower-cased words."""
    aligned = align(prediction, reference, synonyms)
    matched = [(position, partner) for position, partner in enumerate(aligned) if partner >= 0]
    if not matched:
        return 0.0
    precision, recall = len(matched) / len(prediction), len(matched) / len(reference)
    chunks = 1
    for (position, partner), (next_position, next_partner) in pairwise(matched):
        chunks += next_position != position + 1 or next_partner != partner + 1
    mean = precision * recall / (ALPHA * precision + (1 - ALPHA) * recall)
    return (1 - GAMMA * (chunks / len(matched)) ** BETA) * mean


def align(prediction: Sequence[str], reference: Sequence[str], synonyms: Synonyms | None = None) -> list[int]:
    """For each word of the prediction, the position of its partner in the reference; −1 where it has none."""
    aligned = [-1] * len(prediction)
    left, right = _stage(list(enumerate(prediction)), list(enumerate(reference)), aligned)
    if left and right:
        left = [(index, porter_stem(word)) for index, word in left]
        right = [(index, porter_stem(word)) for index, word in right]
        left, right = _stage(left, right, aligned)
    if synonyms and left and right:
        _synonym_stage(left, right, aligned, synonyms)
    return aligned


Unmatched = list[tuple[int, str]]  # words without a partner, with their positions, in order


def _stage(left: Unmatched, right: Unmatched, aligned: list[int]) -> tuple[Unmatched, Unmatched]:
    """Pair equal words, the last with the last, and return what stays unmatched on either side."""
    positions_of = _positions_of_words(right)
    unmatched = []
    for index, word in reversed(left):
        positions = positions_of.get(word)
        if positions:
            aligned[index] = positions.pop()
        else:
            unmatched.append((index, word))
    unmatched.reverse()
    matched = set(aligned)
    return unmatched, [entry for entry in right if entry[0] not in matched]


def _synonym_stage(left: Unmatched, right: Unmatched, aligned: list[int], synonyms: Synonyms) -> None:
    """Pair each word with the last unmatched synonym; nltk looks the *stems* up, and so do we."""
    positions_of = _positions_of_words(right)
    for index, word in reversed(left):
        candidates = [positions for name in synonyms(word) | {word} if (positions := positions_of.get(name))]
        if candidates:
            aligned[index] = max(candidates, key=lambda positions: positions[-1]).pop()


def _positions_of_words(entries: Unmatched) -> dict[str, list[int]]:
    positions_of: dict[str, list[int]] = {}
    for index, word in entries:
        positions_of.setdefault(word, []).append(index)
    return positions_of


@lru_cache(maxsize=1)
def _wordnet() -> tuple[Synonyms | None, str]:
    """How to look synonyms up, and WordNet's version; None and `absent` where it is not installed."""
    if not any(map(_installed, ("corpora/wordnet", "corpora/wordnet.zip"))):
        return None, "absent"
    from nltk.corpus import wordnet

    return synonyms_of(wordnet), str(wordnet.get_version())


def _installed(resource: str) -> bool:
    from nltk import data

    try:
        data.find(resource)
    except LookupError:
        return False
    return True


def synonyms_of(wordnet: Any) -> Synonyms:
    """The single words that share a synset with a word, remembered."""

    @lru_cache(maxsize=1 << 16)
    def synonyms(word: str) -> frozenset[str]:
        names = (lemma.name() for synset in wordnet.synsets(word) for lemma in synset.lemmas())
        return frozenset(name for name in names if "_" not in name)

    return synonyms
