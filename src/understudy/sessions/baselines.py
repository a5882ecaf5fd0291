"""Bundles without a model: what any student has to beat.

| baseline | bundles of a session |
|---|---|
| `random` | as many and as large as in a training session of like length, filled by chance |
| `all_in_one` | one bundle of all items |
| `nearest` | those of the nearest training session, each item standing for the one it is most like |
| `patterns` | items whose categories make up a frequent pattern of training, the commonest first |

Nothing but the training sessions is looked at.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

import numpy as np

from understudy.bundle_answers import Bundle
from understudy.data.sessions import Session
from understudy.errors import unknown
from understudy.sessions.neighbours import Neighbours
from understudy.sessions.patterns import mine_patterns

BASELINES = ("random", "all_in_one", "nearest", "patterns")

Bundles = tuple[Bundle, ...]


def baseline(
    name: str,
    train: Sequence[Session],
    sessions: Sequence[Session],
    *,
    seed: int = 0,
    support: float = 0.001,
    how: str = "words",
    model: str = "auto",
) -> list[Bundles]:
    """The bundles of each session by a baseline.

    Args:
        name: one of `BASELINES`.
        train: training sessions, with their bundles; for `patterns` with categories.
        sessions: those to answer, whose own bundles are not read.
        seed: of `random`.
        support: the least share of training bundles that a pattern stands in.
        how: vectors for `nearest`, as `encoder_of`.
        model: the sentence model.

    Raises:
        ConfigError: no such baseline.
        ModelError: a library or model that it needs is not there.
    """
    if name == "random":
        return _random(train, sessions, seed)
    if name == "all_in_one":
        return [(Bundle(tuple(range(1, len(session.items) + 1))),) for session in sessions]
    if name == "nearest":
        neighbours = Neighbours(train, how=how, model=model)
        nearest = neighbours.nearest(sessions)
        near = [session for found in nearest for session in found]
        neighbours.encode([item.title for session in (*sessions, *near) for item in session.items])  # all at once
        return [_like(neighbours, session, near) for session, near in zip(sessions, nearest, strict=True)]
    if name == "patterns":
        return _by_patterns(train, sessions, support)
    raise unknown("baseline", name, BASELINES)


def _random(train: Sequence[Session], sessions: Sequence[Session], seed: int) -> list[Bundles]:
    """Sizes of a training session's bundles, items by chance; each session's draw depends on seed and id alone."""
    sizes: dict[int, list[list[int]]] = defaultdict(list)
    for session in train:
        sizes[len(session.items)].append([len(bundle.items) for bundle in session.bundles])

    def drawn(session: Session) -> Bundles:
        generator = random.Random(f"{seed} {session.id}")
        length = len(session.items)
        like = min(sizes, key=lambda known: (abs(known - length), known))
        members = range(1, length + 1)
        return tuple(Bundle.of(generator.sample(members, min(size, length))) for size in generator.choice(sizes[like]))

    return [drawn(session) for session in sessions]


def _like(neighbours: Neighbours, session: Session, nearest: Sequence[Session]) -> Bundles:
    """The neighbour's bundles, its items replaced by those most like them; bundles of one item are left out."""
    if not nearest:
        return ()
    near = nearest[0]
    own, others = (neighbours.encode([item.title for item in s.items]) for s in (session, near))
    stands_for = (own @ others.T).argmax(axis=1) + 1
    bundles = (
        Bundle.of((np.flatnonzero(np.isin(stands_for, bundle.items)) + 1).tolist(), bundle.intent)
        for bundle in near.bundles
    )
    return tuple(bundle for bundle in bundles if len(bundle.items) > 1)


def _by_patterns(train: Sequence[Session], sessions: Sequence[Session], support: float) -> list[Bundles]:
    """The commonest pattern first, which did better on development sessions than the largest; no item twice."""
    wanted = [
        (Counter(member.partition(" ×")[0] for member in pattern.members), next(iter(pattern.intents), ""))
        for pattern in mine_patterns(train, "category", support=support).patterns
    ]

    def matched(session: Session) -> Bundles:
        left: defaultdict[str, list[int]] = defaultdict(list)
        for number, item in enumerate(session.items, start=1):
            left[item.category].append(number)
        bundles = []
        for counts, intent in wanted:
            if all(len(left[category]) >= count for category, count in counts.items() if category):
                bundles.append(Bundle.of((left[c].pop(0) for c, n in counts.items() for _ in range(n)), intent))
        return tuple(bundles)

    return [matched(session) for session in sessions]
