"""What requests looked like when the student was evaluated: the scores of requests and of blocks against it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.errors import DataError
from understudy.metrics.sequential.shift import Direction
from understudy.metrics.sequential.two_samples import KernelDistance, psi_of_shares
from understudy.monitor.embedding import HashedEmbedding
from understudy.monitor.signals import Observation, is_refusal, repetition

Array = NDArray[np.float64]

MIN_ROWS = 100
"""Fewer rows than this say too little of what is usual."""
_MOST_ROWS = 2000
_TOPICS = 12
BLOCK = 10
"""Requests of one value of MMD and of PSI."""


@dataclass(frozen=True, slots=True)
class Rule:
    """A kind of drift that is looked for.

    Attributes:
        name: as metrics and alerts call it.
        words: what it means, for people.
        direction: which change counts.
        block: requests that make one score.
    """

    name: str
    words: str
    direction: Direction
    block: int = 1


RULES = (
    Rule("distance", "questions unlike any of the evaluation set", "larger"),
    Rule("mmd", "questions spread otherwise than those of the evaluation set", "larger", BLOCK),
    Rule("topics", "other shares of the topics (PSI)", "larger", BLOCK),
    Rule("question_length", "longer or shorter questions", "both"),
    Rule("answer_length", "longer or shorter answers", "both"),
    Rule("refusal", "more answers that say nothing", "larger"),
    Rule("repetition", "more answers that repeat themselves", "larger"),
    Rule("confidence", "a student that is more or less sure", "both"),
)


@dataclass(frozen=True)
class Features:
    """What blocks are made of.

    Attributes:
        vectors: of the questions `[n, 256]`.
        topics: number of the topic of each `[n]`.
        closeness: mean kernel of each with the reference `[n]`.
    """

    vectors: Array
    topics: NDArray[np.int64]
    closeness: Array

    def __getitem__(self, part: slice | NDArray[np.int64]) -> Features:
        """Some of the rows."""
        return Features(self.vectors[part], self.topics[part], self.closeness[part])

    @classmethod
    def joined(cls, parts: Sequence[Features]) -> Features:
        """The rows of several, one after the other."""
        names = ("vectors", "topics", "closeness")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


class Reference:
    """A sample of usual requests. One half says what is strange, the other how strange the usual is.

    Args:
        rows: usual requests, in any order; of more than 2000 so many are drawn.
        seed: of the draw and the halves.

    Raises:
        DataError: there are fewer than `MIN_ROWS`.
    """

    def __init__(self, rows: Sequence[Observation], *, seed: int = 0) -> None:
        if len(rows) < MIN_ROWS:
            raise DataError(
                f"{len(rows)} rows say too little of what is usual: at least {MIN_ROWS} are needed",
                hint="give the monitor a larger evaluation set, or let it watch for longer first",
            )
        order = np.random.default_rng(seed).permutation(len(rows))[:_MOST_ROWS]
        half = len(order) // 2
        self.rows = [rows[place] for place in order[:half]]
        self.calibration = [rows[place] for place in order[half:]]
        self.embed = HashedEmbedding([row.question for row in self.rows])
        self._vectors = self.embed([row.question for row in self.rows])
        self._kernel = KernelDistance(self._vectors)
        self._centres = _centres(self._vectors)
        self.topic_counts = np.bincount(self._topics(self._vectors), minlength=len(self._centres))

    def features(self, rows: Sequence[Observation]) -> Features:
        """Vectors and topics of requests."""
        return self._features(self.embed([row.question for row in rows]))

    def _features(self, vectors: Array) -> Features:
        return Features(vectors, self._topics(vectors), self._kernel.closeness(vectors))

    def _topics(self, vectors: Array) -> NDArray[np.int64]:
        return np.argmax(vectors @ self._centres.T, axis=1)

    def request_scores(self, rows: Sequence[Observation], features: Features) -> dict[str, Array]:
        """Score of each request by each rule that looks at single ones; confidence is NaN where there is none."""
        scores = {name: np.array([float(of(row)) for row in rows]) for name, of in _OF_TEXTS.items()}
        scores["distance"] = 1 - (features.vectors @ self._vectors.T).max(axis=1)
        return scores

    def own_scores(self) -> dict[str, Array]:
        """The same of the first half itself, each question beside all others of it."""
        features = self._features(self._vectors)
        alike = self._vectors @ self._vectors.T
        np.fill_diagonal(alike, -1.0)
        return {**self.request_scores(self.rows, features), "distance": 1 - alike.max(axis=1)}

    def block_scores(self, features: Features) -> dict[str, float]:
        """Score of a block of requests by each rule that looks at blocks."""
        counts = np.bincount(features.topics, minlength=len(self._centres))
        mmd = self._kernel.mmd(features.vectors, features.closeness)
        return {"mmd": mmd, "topics": float(psi_of_shares(*self._shares(counts)))}

    def _shares(self, counts: NDArray[np.int64]) -> tuple[Array, Array]:
        live, usual = counts + 0.5, self.topic_counts + 0.5
        return live / live.sum(), usual / usual.sum()


_OF_TEXTS: Mapping[str, Callable[[Observation], float]] = {
    "question_length": lambda row: len(row.question),
    "answer_length": lambda row: len(row.answer),
    "refusal": lambda row: is_refusal(row.answer),
    "repetition": lambda row: repetition(row.answer),
    "confidence": lambda row: np.nan if row.confidence is None else row.confidence,
}


def _centres(vectors: Array) -> Array:
    """Centres of topics, by k-means."""
    from sklearn.cluster import KMeans

    settings: dict[str, Any] = {"n_init": 2, "random_state": 0}
    centres = KMeans(min(_TOPICS, len(vectors) // 8), **settings).fit(vectors).cluster_centers_
    return centres / np.linalg.norm(centres, axis=1, keepdims=True)


def block_rows(features: Features, scores: Callable[[Features], Mapping[str, float]], name: str) -> Array:
    """Scores of the blocks that rows in their order make; an incomplete last one is left out."""
    num = len(features.topics) // BLOCK
    blocks = (slice(number * BLOCK, (number + 1) * BLOCK) for number in range(num))
    return np.array([scores(features[part])[name] for part in blocks])
