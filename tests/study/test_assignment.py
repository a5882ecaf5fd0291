"""Designs: balanced wherever numbers allow, and drawn so that drawing again is a fair comparison."""

from collections import Counter
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.errors import ConfigError
from understudy.study.assignment import (
    PairSeat,
    Seat,
    assign,
    assign_pairs,
    redraw,
    redraw_pairs,
    redraws,
    wave_size,
)

ITEMS = [f"item-{number}" for number in range(40)]
METHODS = ["cf", "mt", "mt_cf", "revised"]


@st.composite
def sizes(draw):
    num_methods = draw(st.integers(1, 6))
    num_items = draw(st.integers(1, 24))
    per_rater = draw(st.integers(1, min(num_items, 8)))
    raters = draw(st.integers(-(-num_methods // per_rater), 26))
    return num_items, num_methods, raters, per_rater, draw(st.integers(0, 10**6))


def spread(counted, cells) -> int:
    counts = Counter(counted)
    assert set(counts) <= set(cells)
    return max(counts[cell] for cell in cells) - min(counts[cell] for cell in cells)


def margins(seats, items, methods, raters, per_rater) -> dict[str, int]:
    positions = range(per_rater)
    return {
        "method": spread([s.method for s in seats], methods),
        "item": spread([s.item for s in seats], items),
        "item x method": spread([(s.item, s.method) for s in seats], [(i, m) for i in items for m in methods]),
        "position x method": spread(
            [(s.position, s.method) for s in seats], [(p, m) for p in positions for m in methods]
        ),
        "rater x method": spread(
            [(s.rater, s.method) for s in seats], [(r, m) for r in range(raters) for m in methods]
        ),
    }


@settings(max_examples=60, deadline=None)
@given(sizes())
def test_all_counts_are_within_one_and_a_rater_meets_an_item_once(size) -> None:
    num_items, num_methods, raters, per_rater, seed = size
    items, methods = ITEMS[:num_items], [f"m{number}" for number in range(num_methods)]
    seats = assign(items, methods, raters, per_rater, seed)
    assert [(s.rater, s.position) for s in seats] == [(r, p) for r in range(raters) for p in range(per_rater)]
    assert len({(s.rater, s.item) for s in seats}) == len(seats)
    assert max(margins(seats, items, methods, raters, per_rater).values()) <= 1


@settings(max_examples=25, deadline=None)
@given(sizes())
def test_a_redraw_changes_methods_alone_and_keeps_every_balance(size) -> None:
    num_items, num_methods, raters, per_rater, seed = size
    items, methods = ITEMS[:num_items], [f"m{number}" for number in range(num_methods)]
    seats = assign(items, methods, raters, per_rater, seed)
    drawn = redraw(seats, np.random.default_rng(seed))
    again = [Seat(s.rater, s.position, s.item, method) for s, method in zip(seats, drawn, strict=True)]
    assert max(margins(again, items, methods, raters, per_rater).values()) <= 1


def test_the_same_seed_gives_the_same_design_and_another_seed_another() -> None:
    first = assign(ITEMS, METHODS, 30, 12, seed=4)
    assert first == assign(ITEMS, METHODS, 30, 12, seed=4)
    assert first != assign(ITEMS, METHODS, 30, 12, seed=5)


def test_more_raters_go_on_from_whole_waves_of_fewer() -> None:
    assert wave_size(24, 4, 12) == 8  # 8 · 12 = 96 = 24 · 4
    assert wave_size(40, 4, 12) == 40
    few = assign(ITEMS[:24], METHODS, 19, 12, seed=1)
    many = assign(ITEMS[:24], METHODS, 30, 12, seed=1)
    assert few[: 16 * 12] == many[: 16 * 12]
    assert max(margins(few[: 16 * 12], ITEMS[:24], METHODS, 16, 12).values()) == 0


def test_a_first_draw_and_redraws_are_equally_likely() -> None:
    """2 raters, 2 items, 2 methods, 2 a rater: two designs of methods on given places, each half the time."""
    first = Counter()
    for seed in range(400):
        seats = assign(ITEMS[:2], METHODS[:2], 2, 2, seed)
        first[tuple(s.method for s in sorted(seats, key=lambda s: (s.rater, s.item)))] += 1
    assert len(first) == 2
    assert abs(first.most_common(1)[0][1] - 200) < 50  # 5 standard deviations
    names, drawn = redraws(seats, 400, np.random.default_rng(0))
    assert names == METHODS[:2]
    assert abs(int((drawn[:, 0] == 0).sum()) - 200) < 50


@pytest.mark.slow
def test_the_p_value_of_the_design_is_uniform_where_raters_and_items_differ_and_methods_do_not() -> None:
    """Ratings that depend on rater, item and position alone: shares of p at most 10, 25, 50% are 10, 25, 50%."""
    p_values = []
    for seed in range(200):
        rng = np.random.default_rng([seed, 9])
        seats = assign(ITEMS[:8], METHODS[:3], 6, 4, seed)
        raters, items, noise = rng.normal(0, 2, 6), rng.normal(0, 2, 8), rng.normal(size=24)
        values = np.array([raters[s.rater] + items[ITEMS.index(s.item)] + s.position for s in seats]) + noise
        names, drawn = redraws(seats, 99, rng)
        shown = np.array([[names.index(s.method) for s in seats]])
        statistic = [abs(values[row == 0].mean() - values[row == 1].mean()) for row in np.concatenate([shown, drawn])]
        p_values.append(float(np.mean(np.array(statistic) >= statistic[0] - 1e-12)))
    for level in (0.1, 0.25, 0.5):
        assert abs(np.mean(np.array(p_values) <= level) - level) < 4 * np.sqrt(level * (1 - level) / 200)


def test_redraws_reach_many_designs() -> None:
    seats = assign(ITEMS, METHODS, 30, 12, seed=2)
    names, drawn = redraws(seats, 60, np.random.default_rng(3))
    shown = np.array([names.index(s.method) for s in seats])
    assert len({row.tobytes() for row in drawn}) == 60
    # Independent draws agree on a quarter of the seats.
    assert abs((drawn == shown).mean() - 0.25) < 0.02
    assert abs(np.mean([(a == b).mean() for a, b in combinations(drawn[:20], 2)]) - 0.25) < 0.02


def test_pairs_are_balanced_in_kind_and_side() -> None:
    seats = assign_pairs(ITEMS, METHODS, 30, 12, seed=3)
    assert len({(s.rater, s.item) for s in seats}) == len(seats) == 360
    kinds = list(combinations(METHODS, 2))
    kind = {s: tuple(sorted((s.first, s.second))) for s in seats}
    assert spread(kind.values(), kinds) == 0
    assert spread([(s.item, kind[s]) for s in seats], [(i, k) for i in ITEMS for k in kinds]) <= 1
    for one, other in kinds:
        sides = Counter((s.first, s.second) for s in seats if kind[s] == (one, other))
        assert abs(sides[one, other] - sides[other, one]) <= 1
    assert seats == assign_pairs(ITEMS, METHODS, 30, 12, seed=3)
    [turned] = redraw_pairs(seats, 1, np.random.default_rng(0))
    again = [
        PairSeat(s.rater, s.position, s.item, *((s.second, s.first) if t else (s.first, s.second)))
        for s, t in zip(seats, turned, strict=True)
    ]
    sides = Counter((s.first, s.second) for s in again)
    assert all(abs(sides[a, b] - sides[b, a]) <= 1 for a, b in kinds)


def test_two_methods_make_one_kind_of_pair() -> None:
    seats = assign_pairs(ITEMS[:5], METHODS[:2], 4, 5, seed=0)
    assert Counter((s.first, s.second) for s in seats) == {("cf", "mt"): 10, ("mt", "cf"): 10}


@pytest.mark.parametrize(
    ("items", "methods", "raters", "per_rater", "message"),
    [
        (["a", "a"], METHODS, 3, 1, "named twice"),
        (ITEMS, ["m", "m"], 3, 1, "named twice"),
        (ITEMS, [], 3, 1, "at least 1 method"),
        (ITEMS[:3], METHODS, 3, 4, "4 explanations a rater of 3 items"),
        (ITEMS, METHODS, 1, 2, "fewer ratings than methods"),
    ],
)
def test_designs_that_cannot_be(items, methods, raters, per_rater, message) -> None:
    with pytest.raises(ConfigError, match=message):
        assign(items, methods, raters, per_rater, 0)
