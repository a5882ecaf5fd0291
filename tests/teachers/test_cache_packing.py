"""Ids and small numbers come back out of their bits, and take no more of these than is said."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.teachers.cache.packing import SortedIds, fixed_width, from_fixed_width


@st.composite
def sorted_ids(draw: st.DrawFn) -> tuple[int, np.ndarray]:
    bound = draw(st.integers(1, 200_000))
    count = draw(st.integers(1, 40))
    rows = draw(st.lists(st.lists(st.integers(0, bound - 1), min_size=count, max_size=count), max_size=5))
    return bound, np.sort(np.array(rows, np.int64).reshape(-1, count), axis=1)


@given(sorted_ids())
def test_sorted_ids_come_back_repeated_ones_too(case: tuple[int, np.ndarray]) -> None:
    bound, ids = case
    code = SortedIds(ids.shape[1], bound)
    bits = code.encode(ids)
    assert bits.shape == (len(ids), code.num_bits)
    np.testing.assert_array_equal(code.decode(bits), ids)


@given(st.integers(1, 20), st.data())
def test_fixed_widths_come_back(width: int, data: st.DataObject) -> None:
    numbers = data.draw(st.lists(st.integers(0, 2**width - 1), min_size=6, max_size=6))
    values = np.array(numbers).reshape(2, 3)
    np.testing.assert_array_equal(from_fixed_width(fixed_width(values, width), width), values)


def test_a_hand_worked_code() -> None:
    """V = 8, K = 2: with one low bit 2 + 2 + 3 = 7 bits; with none 2 + 7 = 9, with two 4 + 2 + 1 = 7."""
    code = SortedIds(2, 8)
    assert (code.low, code.num_bits) == (1, 7)
    # 3 = 1·2 + 1 and 6 = 3·2 + 0: low bits 1 0; high parts 1 and 3 set bits 1 + 0 and 3 + 1 of five.
    np.testing.assert_array_equal(code.encode(np.array([[3, 6]])), [[1, 0, 0, 1, 0, 0, 1]])


@pytest.mark.parametrize(("count", "bound"), [(16, 151_936), (50, 151_936), (50, 262_144), (16, 32_000)])
def test_within_two_bits_an_id_of_what_any_code_of_sets_needs(count: int, bound: int) -> None:
    least = (math.lgamma(bound + 1) - math.lgamma(count + 1) - math.lgamma(bound - count + 1)) / math.log(2)
    assert least < SortedIds(count, bound).num_bits < least + 2 * count
