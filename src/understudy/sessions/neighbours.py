"""The training sessions nearest to a session, by the cosine of their titles' vectors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from understudy.data.sessions import Session
from understudy.sessions.vectors import Encode, encoder_of

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
        texts = [session.text for session in self.sessions]
        self.encode: Encode = encoder_of(how, texts, model)
        self._vectors = self.encode(texts)

    def nearest(self, queries: Sequence[Session], count: int = 1) -> list[list[Session]]:
        """Of each query the nearest sessions, the nearest first; a session itself is never its own neighbour."""
        vectors = self.encode([session.text for session in queries])
        found: list[list[Session]] = []
        for start in range(0, len(queries), _AT_ONCE):
            similarities = vectors[start : start + _AT_ONCE] @ self._vectors.T
            for query, row in zip(queries[start : start + _AT_ONCE], similarities, strict=True):
                order = np.argsort(-row, kind="stable")[: count + 1]
                others = [self.sessions[number] for number in order if self.sessions[number].id != query.id]
                found.append(others[:count])
        return found
