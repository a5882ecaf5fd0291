"""The order of rows: every row once an epoch, the same order again, long rows together inside a step only."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.training.step_order import StepSampler

LENGTHS = st.lists(st.integers(1, 50), min_size=1, max_size=60)


@given(LENGTHS, st.integers(1, 9), st.integers(0, 5), st.integers(0, 5))
def test_every_row_stands_once_in_an_epoch_and_steps_are_sorted(lengths, step_rows, seed, epoch):
    sampler = StepSampler(lengths, step_rows, seed)
    sampler.set_epoch(epoch)
    order = list(sampler)
    assert sorted(order) == list(range(len(lengths)))
    assert order == list(sampler)
    for start in range(0, len(order), step_rows):
        widths = [lengths[row] for row in order[start : start + step_rows]]
        assert widths == sorted(widths)


def test_sorting_moves_no_row_into_another_step():
    """Whatever the lengths, a step holds the rows that the shuffle gave it."""
    flat, mixed = (StepSampler(lengths, 8, 3) for lengths in ([1] * 64, [n % 7 for n in range(64)]))
    for one, other in zip(range(0, 64, 8), range(0, 64, 8), strict=True):
        assert set(list(flat)[one : one + 8]) == set(list(mixed)[other : other + 8])


@pytest.mark.parametrize(("seed", "epoch"), [(1, 0), (0, 1)])
def test_another_seed_or_epoch_is_another_order(seed, epoch):
    first, second = StepSampler([1] * 50, 5, 0), StepSampler([1] * 50, 5, seed)
    second.set_epoch(epoch)
    assert list(first) != list(second)
