"""Permutation tests: against full enumeration, and against what they must not see."""

from itertools import permutations, product

import numpy as np
import pytest

from understudy.errors import DataError
from understudy.study.assignment import Seat, assign
from understudy.study.permutation import (
    DesignDraws,
    DesignMechanism,
    WithinRaters,
    adjusted,
    mechanism_of,
    permutation_tests,
)
from understudy.study.ratings import Ratings


def ratings_of(seats, values) -> Ratings:
    blank = np.full(len(seats), np.nan)
    columns = (np.array([getattr(s, name) for s in seats], dtype=object) for name in ("rater", "item", "method"))
    rater, item, method = columns
    named = np.array([f"r{number}" for number in rater], dtype=object)
    return Ratings(named, item, method, ("clear",), np.asarray(values, dtype=float)[:, None], blank, blank, blank)


def slots(seats) -> dict[str, int]:
    return {f"r{s.rater}": s.rater for s in seats}


def test_within_raters_p_is_that_of_all_permutations() -> None:
    """Three raters of three methods each: 6³ equally likely relabellings, counted one by one."""
    seats = [Seat(r, p, f"q{r}{p}", m) for r in range(3) for p, m in enumerate("abc")]
    values = [5, 3, 1, 4, 4, 2, 5, 2, 2]
    ratings = ratings_of(seats, values)
    residuals = adjusted(ratings.of("clear"), ratings)
    # Each item was shown once, so nothing is left of a rating once its item is taken off.
    np.testing.assert_allclose(residuals, 0, atol=1e-9)
    same_items = ratings_of([Seat(s.rater, s.position, f"q{s.position}", s.method) for s in seats], values)
    residuals = adjusted(same_items.of("clear"), same_items)
    table = np.array(values, dtype=float).reshape(3, 3)
    expected = table - table.mean(axis=1, keepdims=True) - table.mean(axis=0) + table.mean()
    np.testing.assert_allclose(residuals, expected.ravel(), atol=1e-9)
    # Items in another order for each rater, so that methods and items are not the same thing.
    shuffled = [Seat(s.rater, s.position, f"q{(s.position + s.rater) % 3}", s.method) for s in seats]
    ratings = ratings_of(shuffled, values)
    residuals = adjusted(ratings.of("clear"), ratings)
    observed = residuals[0::3].mean() - residuals[1::3].mean()
    as_far = [
        abs(sum(residuals[3 * r + o.index("a")] - residuals[3 * r + o.index("b")] for r, o in enumerate(orders)))
        >= 3 * abs(observed) - 1e-9
        for orders in product([p for p in permutations("abc") if p.index("c") == 2], repeat=3)
    ]  # fmt: skip
    found = permutation_tests(ratings, mechanism_of(ratings, None, {}), draws=20_000)["clear"]
    assert found.pairs["a", "b"][0] == pytest.approx(observed)
    assert found.pairs["a", "b"][1] == pytest.approx(np.mean(as_far), abs=0.015)


def test_permuting_within_raters_keeps_what_each_rater_saw() -> None:
    rater, method = np.repeat(np.arange(5), 4), np.tile([0, 1, 2, 2], 5)
    mechanism = WithinRaters(rater, method, seed=1)
    drawn, swapped = mechanism.redraws(50), mechanism.exchanges((0, 2), 50)
    for row in (*drawn, *swapped):
        assert all(sorted(row[rater == r]) == [0, 1, 2, 2] for r in range(5))
    assert (swapped[:, method == 1] == 1).all()
    assert len({row.tobytes() for row in drawn}) == 50


def test_an_exchange_of_the_design_leaves_other_methods_where_they_are_and_all_counts_even() -> None:
    seats = assign([f"q{n}" for n in range(12)], ["a", "b", "c"], 10, 6, seed=3)
    ratings = ratings_of(seats, np.arange(60))
    mechanism = mechanism_of(ratings, DesignDraws(seats, 0), slots(seats))
    assert isinstance(mechanism, DesignMechanism)
    drawn = mechanism.exchanges((0, 1), 200)
    shown = np.array(["abc".index(s.method) for s in seats])
    assert (drawn[:, shown == 2] == 2).all()
    assert not (drawn[:, shown == 2] != 2).any()
    for key in ("rater", "item", "position"):
        groups = np.unique([str(getattr(s, key)) for s in seats], return_inverse=True)[1]
        for method in (0, 1):
            counts = np.stack([np.bincount(groups, row == method, minlength=groups.max() + 1) for row in drawn])
            others = np.stack([np.bincount(groups, row == 1 - method, minlength=groups.max() + 1) for row in drawn])
            assert np.abs(counts - others).max() <= 1
    assert len({row.tobytes() for row in drawn}) > 150


def test_half_finished_raters_and_rows_in_any_order_keep_their_seats() -> None:
    seats = assign([f"q{n}" for n in range(8)], ["a", "b"], 6, 4, seed=0)
    kept = [s for s in reversed(seats) if s.rater != 2 and s.position < 3]
    ratings = ratings_of(kept, np.arange(len(kept)))
    drawn = mechanism_of(ratings, DesignDraws(seats, 0), slots(seats)).redraws(30)
    assert drawn.shape == (30, 15)
    full = DesignDraws(seats, 0).redraws(30)
    numbers = [seats.index(s) for s in kept]
    np.testing.assert_array_equal(drawn, full[:, numbers])


def test_ratings_of_another_study_are_refused() -> None:
    seats = assign(["q0", "q1", "q2"], ["a", "b"], 4, 2, seed=0)
    wrong = [Seat(s.rater, s.position, s.item, "b" if s.method == "a" else "a") for s in seats]
    with pytest.raises(DataError, match="the assignment has"):
        mechanism_of(ratings_of(wrong, np.ones(8)), DesignDraws(seats, 0), slots(seats))


def test_what_raters_and_items_do_by_themselves_is_not_seen() -> None:
    """Huge habits of raters and hardness of items change no p-value: they are taken off, to the last digit of a tie."""
    seats = assign([f"q{n}" for n in range(10)], ["a", "b", "c"], 9, 5, seed=1)
    rng = np.random.default_rng(0)
    values = rng.normal(size=45)
    habits, hardness = (
        rng.normal(0, 100, 9),
        dict(zip([f"q{n}" for n in range(10)], rng.normal(0, 100, 10), strict=True)),
    )
    moved = [v + habits[s.rater] + hardness[s.item] for v, s in zip(values, seats, strict=True)]
    tests = [
        permutation_tests(ratings, mechanism_of(ratings, DesignDraws(seats, 0), slots(seats)), draws=400)["clear"]
        for ratings in (ratings_of(seats, values), ratings_of(seats, moved))
    ]
    assert tests[0].any_method == tests[1].any_method
    for pair, found in tests[0].pairs.items():
        assert tests[1].pairs[pair][:2] == pytest.approx(found[:2])


@pytest.mark.slow
def test_a_pair_s_error_is_its_level_whatever_the_other_methods_do() -> None:
    """5% of null pairs are rejected at 5%, with a third method far above: 4,000 studies on 80 designs."""
    rejected = []
    for seed in range(80):
        seats = assign([f"q{n}" for n in range(20)], ["a", "b", "c", "d"], 12, 8, seed)
        draws = DesignDraws(seats, seed)
        rng = np.random.default_rng([seed, 5])
        drawn = draws.exchanges(("a", "b"), 199)
        shown = np.array(["abcd".index(s.method) for s in seats])
        rater = np.array([s.rater for s in seats])
        values = rng.normal(0, 1, (12, 50))[rater] + rng.normal(size=(96, 50)) + 1.5 * (shown == 2)[:, None]
        base = ratings_of(seats, np.zeros(96))
        residuals = np.stack([adjusted(column, base) for column in values.T], axis=1)
        rows = np.concatenate([shown[None], drawn])
        means = [(rows == m).astype(float) @ residuals / (rows == m).sum(axis=1, keepdims=True) for m in (0, 1)]
        statistic = np.abs(means[0] - means[1])
        rejected.append(((statistic >= statistic[0] - 1e-9).mean(axis=0) <= 0.05).mean())
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.015)
