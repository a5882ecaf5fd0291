"""Which sessions are written about: a share of them by a sampler, so that knowledge comes in quantities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from understudy.data.read import read_source
from understudy.data.rows import BadRow, lowered, required
from understudy.data.sessions import Session, is_session, session_of
from understudy.errors import DataError
from understudy.recipe.knowledge import SessionsConfig
from understudy.sessions.neighbours import session_vectors, titles_of
from understudy.sessions.sampling import difficulty_of, order_of, taken
from understudy.sessions.vectors import encoder_of
from understudy.types import Example


def sampled(examples: Sequence[Example], config: SessionsConfig, seed: int) -> list[Example]:
    """The examples that a section takes, in their order; of a smaller ratio they are among those of a larger one.

    Raises:
        ConfigError: the sampler lacks what it goes by.
        DataError: the rows are no sessions of items.
    """
    if not all(map(is_session, examples)):
        raise DataError(
            "generate.sessions: the rows are no sessions of items", hint="`understudy docs bundles` says which are"
        )
    if config.ratio == 1:
        return list(examples)
    order = session_order(
        list(map(session_of, examples)),
        config.sampler,
        seed=seed,
        vectors=config.vectors,
        answers=config.difficulty_from,
    )
    return [examples[place] for place in taken(order, config.ratio)]


def session_order(
    sessions: Sequence[Session], sampler: str, *, seed: int, vectors: str = "words", answers: str | Path | None = None
) -> list[int]:
    """`order_of`, with the vectors or figures that a sampler goes by.

    Args:
        sessions: those of training.
        sampler: one of `SAMPLERS`.
        seed: decides all that is left to chance.
        vectors: `words` or `embedding`, for diversity.
        answers: for difficulty, a file of rows with `id` and `prediction`.

    Raises:
        ConfigError: no such sampler, or difficulty without answers.
        DataError: a row of the file is none, or a session has no answer.
        ModelError: the sentence model is not there.
    """
    encode = encoder_of(vectors, titles_of(sessions)) if sampler == "diversity" else None
    return order_of(
        sampler,
        sessions,
        seed=seed,
        vectors=session_vectors(sessions, encode) if encode else None,
        difficulty=difficulty_of(answers_in(answers), sessions) if answers and sampler == "difficulty" else None,
    )


def answers_in(path: str | Path) -> dict[str, list[str]]:
    """Id -> the answers of a file of predictions.

    Raises:
        DataError: a row has no id or no prediction, which may be empty.
    """
    answers: dict[str, list[str]] = {}
    for row in read_source(str(path)).rows:
        try:
            if row.fault:
                raise BadRow("", row.fault)
            fields = lowered(row)
            if "prediction" not in fields:
                raise BadRow("prediction", "absent")
            answers.setdefault(required(fields, "id"), []).append(str(fields["prediction"] or ""))
        except BadRow as bad:
            raise DataError(f"{row.where}: {bad}", hint="a row needs id and prediction") from bad
    return answers
