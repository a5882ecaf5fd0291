"""Texts as unit vectors: by their words alone, or by a sentence model.

`words` needs no model and costs some microseconds a text: each word is a random direction, weighted by how rare it is
among the texts that the vectors are fitted on (a random projection of tf-idf). `embedding` is the sentence model of the
metrics.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, get_args

import numpy as np

from understudy.errors import unknown
from understudy.metrics.embedding import sentence_embeddings

How = Literal["words", "embedding"]
Encode = Callable[[Sequence[str]], np.ndarray]
WIDTH = 128
"""Numbers of a vector by words."""
_WORD = re.compile(r"[^\W_]+")


def words_of(text: str) -> list[str]:
    """The words of a text in lower case, those of one character left out."""
    return [word for word in _WORD.findall(text.casefold()) if len(word) > 1]


def encoder_of(how: str, texts: Sequence[str], model: str = "auto") -> Encode:
    """What turns texts into `[n, d]` unit vectors of float32; a text without words becomes zeros.

    Args:
        how: `words` or `embedding`.
        texts: those that the weights of words are fitted on, a line of titles each or single ones; those of training.
        model: the sentence model, as `MetricModels.embedding_model`.

    Raises:
        ConfigError: no way of that name.
        ModelError: the sentence model is not there.
    """
    if how == "words":
        return WordVectors(texts)
    if how == "embedding":
        return _kept(model)
    raise unknown("way to make vectors", how, get_args(How))


class SentenceVectors:
    """Vectors of a sentence model; each text is encoded once."""

    def __init__(self, model: str = "auto") -> None:
        self._model = model
        self._known: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """`[n, d]` unit vectors.

        Raises:
            ModelError: the sentence model is not there.
        """
        new = sorted(set(texts) - self._known.keys())
        self._known |= zip(new, sentence_embeddings(new, self._model).astype(np.float32), strict=True) if new else ()
        return np.stack([self._known[text] for text in texts]) if texts else np.zeros((0, 0), dtype=np.float32)


_kept = lru_cache(maxsize=2)(SentenceVectors)  # neighbours and clusters encode the same titles


class WordVectors:
    """Words as fixed random directions, weighted by rarity: v(text) = Σ_w tf(w) · ln((1 + n) / (1 + df(w))) · r(w)."""

    def __init__(self, texts: Sequence[str]) -> None:
        self._documents = len(texts)
        self._frequencies = Counter(word for text in texts for word in set(words_of(text)))
        self._directions: dict[str, np.ndarray] = {}

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """`[n, WIDTH]` unit vectors."""
        vectors = np.zeros((len(texts), WIDTH), dtype=np.float32)
        for row, text in zip(vectors, texts, strict=True):
            for word, times in Counter(words_of(text)).items():
                row += times * self._weighted(word)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(norms > 0, norms, 1)

    def _weighted(self, word: str) -> np.ndarray:
        if word not in self._directions:
            weight = math.log((1 + self._documents) / (1 + self._frequencies[word]))
            self._directions[word] = np.float32(weight) * _direction(word)
        return self._directions[word]


def _direction(word: str) -> np.ndarray:
    """A direction that depends on the word alone."""
    seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:8])
    return np.random.default_rng(seed).standard_normal(WIDTH).astype(np.float32) / np.float32(math.sqrt(WIDTH))
