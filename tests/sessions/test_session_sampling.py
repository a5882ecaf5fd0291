"""Samplers: nested at one seed, what each of them prefers, and bounded cost."""

import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.bundle_answers import Bundle, write_answer
from understudy.data.embedded.bundles import planted_sessions
from understudy.data.sessions import Item, Session
from understudy.errors import ConfigError, DataError
from understudy.sessions.neighbours import session_vectors, titles_of
from understudy.sessions.sampling import SAMPLERS, difficulty_of, farthest_first, order_of, taken
from understudy.sessions.vectors import encoder_of

SESSIONS = planted_sessions("office", count=200)
GIVEN = {
    "vectors": session_vectors(SESSIONS, encoder_of("words", titles_of(SESSIONS))),
    "difficulty": {session.id: len(session.items) / 10 for session in SESSIONS},
}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_order_has_every_session_once_and_a_seed_repeats_it(sampler: str) -> None:
    orders = [order_of(sampler, SESSIONS, seed=seed, **GIVEN) for seed in (0, 0, 1)]
    assert sorted(orders[0]) == list(range(200))
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("sampler", SAMPLERS)
@given(st.floats(0.001, 1.0), st.floats(0.001, 1.0), st.integers(0, 3))
def test_the_smaller_sample_lies_in_the_larger(sampler: str, one: float, other: float, seed: int) -> None:
    order = order_of(sampler, SESSIONS[:40], seed=seed, vectors=GIVEN["vectors"][:40], difficulty=GIVEN["difficulty"])
    smaller, larger = sorted((taken(order, one), taken(order, other)), key=len)
    assert set(smaller) <= set(larger)
    assert len(smaller) == max(1, -int(-min(one, other) * 40 // 1))


def test_lengths_take_turns() -> None:
    order = order_of("length", SESSIONS, seed=0)
    counts = Counter(len(SESSIONS[place].items) for place in order[:27])
    assert set(counts.values()) <= {2, 3, 4}
    assert len(counts) == len({len(session.items) for session in SESSIONS})


def test_the_hardest_come_first() -> None:
    order = order_of("difficulty", SESSIONS, **GIVEN)
    lengths = [len(SESSIONS[place].items) for place in order]
    assert lengths == sorted(lengths, reverse=True)


# Diversity ------------------------------------------------------------------------------------------------------------


def test_farthest_first_on_a_circle() -> None:
    angles = np.deg2rad([0, 10, 90, 180, 200])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    # From 0° the farthest is 180°, then 90°, then 200° (20° away), then 10°.
    assert farthest_first(vectors) == [0, 3, 2, 4, 1]


@given(st.integers(2, 40), st.integers(1, 12), st.integers(0, 9))
def test_it_covers_within_twice_the_best_radius(rows: int, centres: int, seed: int) -> None:
    vectors = np.random.default_rng(seed).standard_normal((rows, 3))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = farthest_first(vectors)
    assert sorted(order) == list(range(rows))
    distances = np.linalg.norm(vectors[:, None] - vectors[None], axis=2)
    chosen = order[: min(centres, rows)]
    radius = distances[:, chosen].min(axis=1).max()
    if len(chosen) < rows:
        # Gonzalez: next and chosen ones are `radius` apart pair by pair, so no k points do better than half of it.
        apart = [*chosen, order[len(chosen)]]
        assert distances[np.ix_(apart, apart)][~np.eye(len(apart), dtype=bool)].min() >= radius - 1e-5


def test_beyond_its_centres_it_goes_round_the_neighbourhoods() -> None:
    generator = np.random.default_rng(0)
    vectors = np.concatenate([centre + 0.05 * generator.standard_normal((50, 8)) for centre in np.eye(8)[:4]])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = farthest_first(vectors, centres=4)
    assert sorted(order) == list(range(200))
    for start in range(0, 40, 4):
        assert {place // 50 for place in order[start : start + 4]} == {0, 1, 2, 3}


def test_equal_rows_come_last_and_none_gives_none() -> None:
    vectors = np.array([[1.0, 0], [1, 0], [0, 1], [1, 0]])
    assert farthest_first(vectors) == [0, 2, 1, 3]
    assert farthest_first(np.zeros((0, 4))) == []


def test_diverse_sessions_cover_better_than_random_ones() -> None:
    vectors = GIVEN["vectors"]

    def radius(sampler: str) -> float:
        chosen = taken(order_of(sampler, SESSIONS, seed=0, **GIVEN), 0.1)
        return float((1 - vectors @ vectors[chosen].T).min(axis=1).max())

    assert radius("diversity") < radius("random")


@pytest.mark.slow
def test_diversity_of_a_hundred_thousand_stays_bounded() -> None:
    vectors = np.random.default_rng(0).standard_normal((100_000, 128)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    start = time.perf_counter()
    order = farthest_first(vectors)
    assert time.perf_counter() - start < 120
    assert sorted(order) == list(range(100_000))


# Difficulty -----------------------------------------------------------------------------------------------------------


def shop(name: str, *bundles: Bundle) -> Session:
    return Session(name, tuple(Item(str(n), f"title {n}") for n in range(6)), bundles)


def test_difficulty_is_error_where_bundles_are_known_and_disagreement_where_not() -> None:
    right, wrong = write_answer([Bundle((1, 2))]), write_answer([Bundle((3, 4))])
    known, unknown = shop("a", Bundle((1, 2))), shop("b")
    answers = {"a": [right, wrong], "b": [right, right, wrong]}
    # Known: one of two answers is right. Unknown: of three pairs one agrees.
    assert difficulty_of(answers, [known, unknown]) == pytest.approx({"a": 0.5, "b": 2 / 3})


def test_what_cannot_be_ordered_says_what_is_missing() -> None:
    with pytest.raises(ConfigError, match="needs a vector"):
        order_of("diversity", SESSIONS)
    with pytest.raises(ConfigError, match="needs a figure"):
        order_of("difficulty", SESSIONS)
    with pytest.raises(DataError, match=f"session '{SESSIONS[0].id}' has no figure"):
        order_of("difficulty", SESSIONS, difficulty={})
    with pytest.raises(ConfigError, match="there is no sampler 'divers'"):
        order_of("divers", SESSIONS)
    with pytest.raises(DataError, match="one answer alone and no known bundles"):
        difficulty_of({"b": ["1, 2"]}, [shop("b")])
    with pytest.raises(ConfigError, match="is no share of the sessions"):
        taken([0, 1], 0.0)
