"""Vectors of questions without a model: hashed character n-grams, weighed by rarity, projected at random."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.errors import ConfigError

_FEATURES = 2**13
_LENGTHS = (3, 5)
WIDTH = 256


class HashedEmbedding:
    """Character 3- to 5-grams within words, hashed to 8192 features, tf–idf, a Gaussian projection, length 1.

    The projection keeps inner products to within about 1/√256 (Johnson and Lindenstrauss 1984). What no text of the
    sample has is as visible as what many have; a model of a language would know of neither.

    Args:
        texts: sample that says how rare each n-gram is.

    Raises:
        ConfigError: scikit-learn is not installed.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        try:
            from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"watching for drift needs the package {error.name}", hint="install understudy-distil[monitor]"
            ) from error
        counted: dict[str, Any] = {"alternate_sign": False, "norm": None}
        self._hashed: Any = HashingVectorizer(analyzer="char_wb", ngram_range=_LENGTHS, n_features=_FEATURES, **counted)
        self._rarity: Any = TfidfTransformer(sublinear_tf=True).fit(self._hashed.transform(texts))
        self._projection = np.random.default_rng(0).standard_normal((_FEATURES, WIDTH)) / np.sqrt(WIDTH)

    def __call__(self, texts: Sequence[str]) -> NDArray[np.float64]:
        """Vectors `[n, 256]` of length 1; 0 for a text without a character."""
        vectors = self._rarity.transform(self._hashed.transform(texts)) @ self._projection
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)
