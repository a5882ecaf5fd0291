"""Categories for a catalogue that has none: clusters of titles, each named by its most typical words.

Fitted on the titles of training sessions alone; a title from elsewhere goes to the nearest centre.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from understudy.data.sessions import Item, Session
from understudy.distribution import install_command
from understudy.errors import ConfigError, ModelError
from understudy.sessions.vectors import Encode, encoder_of, words_of

NAMED_BY = 3
"""Words of a cluster's name."""


class TitleClusters:
    """k-means of title vectors.

    Attributes:
        names: of the clusters; no two alike.
    """

    def __init__(self, encode: Encode, centres: np.ndarray, names: Sequence[str]) -> None:
        self.names = tuple(names)
        self._encode, self._centres = encode, centres

    @classmethod
    def fit(
        cls, sessions: Iterable[Session], *, count: int | None = None, how: str = "embedding", model: str = "auto"
    ) -> TitleClusters:
        """Cluster the different titles of training sessions.

        Args:
            sessions: those of training.
            count: how many clusters; default: the square root of the number of titles.
            how: `embedding` or `words`, as `encoder_of`.
            model: the sentence model.

        Raises:
            ConfigError: more clusters than titles.
            ModelError: scikit-learn or the sentence model is not there.
        """
        titles = sorted({item.title for session in sessions for item in session.items})
        count = count or max(1, round(math.sqrt(len(titles))))
        if count > len(titles):
            raise ConfigError(f"{len(titles)} different titles cannot make {count} clusters")
        encode = encoder_of(how, titles, model)
        labels, centres = _kmeans(encode(titles), count)
        return cls(encode, centres, _names(titles, labels, count))

    def of(self, titles: Sequence[str]) -> list[str]:
        """The name of each title's cluster."""
        if not titles:
            return []
        vectors = self._encode(titles)
        distances = (self._centres**2).sum(axis=1) - 2 * vectors @ self._centres.T
        return [self.names[number] for number in distances.argmin(axis=1)]

    def categorised(self, sessions: Sequence[Session]) -> list[Session]:
        """The sessions with the cluster of each item as its category, where it has none of its own."""
        titles = sorted({item.title for session in sessions for item in session.items})
        cluster = dict(zip(titles, self.of(titles), strict=True))

        def filled(item: Item) -> Item:
            return item if item.category else replace(item, category=cluster[item.title])

        return [replace(session, items=tuple(map(filled, session.items))) for session in sessions]


def with_categories(
    train: Sequence[Session], others: Sequence[Session] = (), *, how: str = "words", model: str = "auto"
) -> tuple[list[Session], list[Session], TitleClusters | None]:
    """Sessions as they are, or, where no item of training has a category, with clusters of its titles as categories.

    Args:
        train: whose titles are clustered.
        others: sessions that are only looked up.
        how: `embedding` or `words`, as `encoder_of`.
        model: the sentence model.

    Returns:
        Both, and the clusters, where they were needed.

    Raises:
        ModelError: scikit-learn or the sentence model is not there.
    """
    if any(item.category for session in train for item in session.items):
        return list(train), list(others), None
    clusters = TitleClusters.fit(train, how=how, model=model)
    return clusters.categorised(train), clusters.categorised(others), clusters


def _kmeans(vectors: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    try:
        from sklearn.cluster import MiniBatchKMeans
    except ImportError as error:
        raise ModelError(
            "clusters of titles need scikit-learn, which is not installed", hint=install_command("bundles")
        ) from error
    options: dict[str, Any] = {"n_init": 3, "batch_size": 1024, "random_state": 0}
    fitted = MiniBatchKMeans(count, **options).fit(vectors)
    return np.asarray(fitted.labels_), np.asarray(fitted.cluster_centers_)


def _names(titles: Sequence[str], labels: np.ndarray, count: int) -> list[str]:
    """The words that are commonest in a cluster and rare in others: tf(w, c) · ln(1 + C / df(w)), df over clusters."""
    words = [Counter[str]() for _ in range(count)]
    for title, label in zip(titles, labels, strict=True):
        words[label].update({word for word in words_of(title) if not word.isdigit()})
    spread = Counter(word for cluster in words for word in cluster)

    def typical(cluster: Counter[str]) -> str:
        weight = {word: times * math.log(1 + count / spread[word]) for word, times in cluster.items()}
        return " ".join(sorted(weight, key=lambda word: (-weight[word], word))[:NAMED_BY]) or "other"

    names: list[str] = []
    for cluster in words:
        name, number = typical(cluster), 2
        while (name if number == 2 else f"{name} {number - 1}") in names:
            number += 1
        names.append(name if number == 2 else f"{name} {number - 1}")
    return names
