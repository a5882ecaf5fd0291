"""The training sessions nearest to a session, by the cosine of the means of their titles' vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from understudy.data.sessions import Session
from understudy.sessions.vectors import Encode, encoder_of


def titles_of(sessions: Sequence[Session]) -> list[str]:
    """The different titles of sessions, sorted."""
    return sorted({item.title for session in sessions for item in session.items})


def session_vectors(sessions: Sequence[Session], encode: Encode) -> np.ndarray:
    """`[n, d]` unit vectors: v(session) in proportion to Σ over its items of v(title)."""
    titles = titles_of(sessions)
    place = {title: number for number, title in enumerate(titles)}
    vectors = encode(titles)
    sums = np.zeros((len(sessions), vectors.shape[1]), dtype=np.float32)
    for row, session in zip(sums, sessions, strict=True):
        row += vectors[[place[item.title] for item in session.items]].sum(axis=0)
    norms = np.linalg.norm(sums, axis=1, keepdims=True)
    return sums / np.where(norms > 0, norms, 1)


_AT_ONCE = 256  # queries whose similarities to all sessions are in memory together


class Neighbours:
    """Sessions that may be looked up. What is passed in is all that is ever found: pass those of training.

    Attributes:
        sessions: those that may be found.
        encode: texts -> `[n, d]` unit vectors.
    """

    def __init__(self, sessions: Sequence[Session], *, how: str = "words", model: str = "auto") -> None:
        """Fit and encode.

        Args:
            sessions: those of training.
            how: `words` or `embedding`, as `encoder_of`.
            model: the sentence model.

        Raises:
            ConfigError: no way of that name.
            ModelError: the sentence model is not there.
        """
        self.sessions = tuple(sessions)
        self.encode: Encode = encoder_of(how, titles_of(self.sessions), model)
        self._vectors = session_vectors(self.sessions, self.encode)

    def nearest(self, queries: Sequence[Session], count: int = 1) -> list[list[Session]]:
        """Of each query the nearest sessions, the nearest first; a session itself is never its own neighbour."""
        vectors = session_vectors(queries, self.encode)
        found: list[list[Session]] = []
        for start in range(0, len(queries), _AT_ONCE):
            similarities = vectors[start : start + _AT_ONCE] @ self._vectors.T
            for query, row in zip(queries[start : start + _AT_ONCE], similarities, strict=True):
                order = np.argsort(-row, kind="stable")[: count + 1]
                others = [self.sessions[number] for number in order if self.sessions[number].id != query.id]
                found.append(others[:count])
        return found
