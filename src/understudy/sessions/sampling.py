"""Which training sessions to take: an order of all of them, of which any share is a prefix.

So the samples of one sampler and seed are nested: the sessions of 10% are among those of 30%.

| sampler | order |
|---|---|
| `random` | by chance |
| `length` | one session of each length in turn, the longest first, so that no length outweighs another |
| `diversity` | farthest first (k-centre, Gonzalez 1985): each next session is the one least like all before it |
| `difficulty` | hardest first, by a figure for each session: the teacher's error, or its disagreement with itself |
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, zip_longest

import numpy as np

from understudy.bundle_answers import Bundle, read_answer, write_answer
from understudy.data.sessions import Session
from understudy.errors import ConfigError, DataError, shortened, unknown
from understudy.metrics import score

CENTRES = 2_000
"""How many sessions are chosen one by one, farthest first; further ones go by their distance from these."""


def order_of(
    sampler: str,
    sessions: Sequence[Session],
    *,
    seed: int = 0,
    vectors: np.ndarray | None = None,
    difficulty: Mapping[str, float] | None = None,
) -> list[int]:
    """Places of all sessions in the order in which a sampler takes them.

    Args:
        sampler: `random`, `length`, `diversity` or `difficulty`.
        sessions: those of training.
        seed: decides all that is left to chance.
        vectors: `[n, d]` unit vectors of the sessions, for `diversity`.
        difficulty: session id -> how hard it is, for `difficulty`.

    Raises:
        ConfigError: no such sampler, or `diversity` without vectors, or `difficulty` without figures.
        DataError: a session has no figure.
    """
    generator = np.random.default_rng(seed)
    chance = generator.permutation(len(sessions))
    if sampler == "random":
        return chance.tolist()
    if sampler == "length":
        return _by_length(sessions, chance.tolist())
    if sampler == "diversity":
        if vectors is None:
            raise ConfigError(
                "diversity needs a vector of each session", hint="sessions.neighbours.session_vectors makes them"
            )
        return farthest_first(vectors, first=int(chance[0]) if len(sessions) else 0)
    if sampler == "difficulty":
        if difficulty is None:
            raise ConfigError(
                "difficulty needs a figure of each session",
                hint="name a teacher's answers to them: --answers FILE.jsonl, or generate.sessions.difficulty_from",
            )
        missing = next((session.id for session in sessions if session.id not in difficulty), None)
        if missing is not None:
            raise DataError(f"session {shortened(missing)!r} has no figure of difficulty")
        return sorted(chance.tolist(), key=lambda place: -difficulty[sessions[place].id])
    raise unknown("sampler", sampler, SAMPLERS)


SAMPLERS = ("random", "length", "diversity", "difficulty")


def taken(order: Sequence[int], ratio: float) -> list[int]:
    """The places that a share takes: the first ⌈ratio · n⌉ of an order, ascending.

    Raises:
        ConfigError: a share outside ]0, 1].
    """
    if not 0 < ratio <= 1:
        raise ConfigError(f"a ratio of {ratio:g} is no share of the sessions", hint="give one above 0, up to 1")
    return sorted(order[: math.ceil(ratio * len(order) - 1e-9)])


def _by_length(sessions: Sequence[Session], chance: Sequence[int]) -> list[int]:
    lengths: dict[int, list[int]] = defaultdict(list)
    for place in chance:
        lengths[len(sessions[place].items)].append(place)
    turns = zip_longest(*(lengths[length] for length in sorted(lengths, reverse=True)))
    return [place for turn in turns for place in turn if place is not None]


def farthest_first(vectors: np.ndarray, *, first: int = 0, centres: int = CENTRES) -> list[int]:
    """An order in which each row is the farthest from all before it: `[n, d]` unit vectors -> n places.

    ```text
    next = argmax_i min_(j before) (1 − v_i · v_j)
    ```

    This 2-approximates the k-centre problem at every k (Gonzalez, 1985) and costs O(n · k · d). Beyond `centres` rows
    it goes on in rounds, one row of each centre's neighbourhood in turn, the outermost first; so cost stays bounded.
    Rows that equal one before them come last, in their order.
    """
    if not len(vectors):
        return []
    vectors = np.ascontiguousarray(vectors, dtype=np.float32)
    distance, nearest = np.full(len(vectors), np.inf, dtype=np.float32), np.zeros(len(vectors), dtype=np.int64)
    order, place = [first], first
    while True:
        now = 1 - vectors @ vectors[place]
        closer = now < distance
        distance[closer], nearest[closer] = now[closer], len(order) - 1
        distance[place] = -np.inf
        place = int(distance.argmax())
        if len(order) == min(centres, len(vectors)) or distance[place] <= 1e-6:
            return order + _outwards(distance, nearest, len(order))
        order.append(place)


def _outwards(distance: np.ndarray, nearest: np.ndarray, centres: int) -> list[int]:
    """The rows that are no centres: of each neighbourhood in turn the outermost that is left."""
    left = np.flatnonzero(distance > -np.inf)
    left = left[np.lexsort((left, -distance[left]))]
    rounds = np.zeros(centres, dtype=np.int64)
    turn = np.empty(len(left), dtype=np.int64)
    for number, place in enumerate(left):
        turn[number] = rounds[nearest[place]]
        rounds[nearest[place]] += 1
    same = distance[left] <= 1e-6
    return left[np.lexsort((np.arange(len(left)), turn, same))].tolist()


def difficulty_of(answers: Mapping[str, Sequence[str]], sessions: Sequence[Session]) -> dict[str, float]:
    """Session id -> how hard it is for whoever wrote the answers.

    ```text
    bundles known:    1 − mean F1 of its answers        (error)
    bundles unknown:  1 − mean F1 of pairs of answers   (disagreement)
    ```

    Args:
        answers: session id -> what was answered; several where it was asked several times.
        sessions: those to judge.

    Raises:
        DataError: a session without an answer, or with one alone where its bundles are not known.
    """
    return {session.id: _difficulty(session, answers.get(session.id, ())) for session in sessions}


def _difficulty(session: Session, answers: Sequence[str]) -> float:
    if not answers or (len(answers) == 1 and not session.bundles):
        needed = "no answer" if not answers else "one answer alone and no known bundles"
        raise DataError(f"session {shortened(session.id)!r} has {needed}", hint="give answers of every session")
    if session.bundles:
        truth = write_answer(session.bundles)
        return 1 - score(list(answers), [[truth]] * len(answers), metrics=["bundle_f1"])["bundle_f1"].value
    return 1 - float(np.mean([_agreement(a, b) for a, b in combinations(map(read_answer, answers), 2)]))


def _agreement(one: tuple[Bundle, ...] | None, other: tuple[Bundle, ...] | None) -> float:
    """F1 of two answers' bundles to the item, which is the same either way round; two empty answers agree."""
    first, second = ({bundle.items for bundle in answer or ()} for answer in (one, other))
    return 2 * len(first & second) / (len(first) + len(second)) if first or second else 1.0
