"""Answers of bundles: what a student learns is read back whole, and so is what others write."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.bundle_answers import UNKNOWN, Bundle, read_answer, write_answer

BUNDLES = st.lists(
    st.builds(Bundle.of, st.sets(st.integers(1, 10**12), min_size=1, max_size=8), st.text(max_size=30)), max_size=5
)


@given(BUNDLES)
def test_what_is_written_is_read_back(bundles: list[Bundle]) -> None:
    assert read_answer(write_answer(bundles)) == tuple(bundles)


@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    found = read_answer(text)
    assert found is None or all(min(bundle.items) >= UNKNOWN for bundle in found)


@given(st.lists(st.sets(st.integers(1, 999), min_size=2, max_size=6), min_size=1, max_size=4))
def test_free_text_names_the_same_items(sets: list[set[int]]) -> None:
    text = "\n".join(f"Bundle {n}: items {', '.join(map(str, sorted(s)))}" for n, s in enumerate(sets, start=1))
    assert [set(bundle.items) for bundle in read_answer(text) or ()] == sets


READ = [
    ('```json\n{"bundle1": ["product1", "product10"]}\n```', [(1, 10)]),
    ("{'bundle1': ['product1', 'product10'], 'bundle2': ['product3']}", [(1, 10), (3,)]),
    ("[[1, 2], [3, 14]]", [(1, 2), (3, 14)]),
    ('{"items": [1, 2]}\n{"items": [3, 4]}', [(1, 2), (3, 4)]),
    ('First {"bundles": [{"items": [1, 2]}]}, no: {"bundles": [{"items": [1, 3]}]}', [(1, 3)]),
    ('{"bundles": [{"items": [1, 2], "intent": "a"}, {"items": [3', [(1, 2)]),
    ('{"bundles": []}', []),
    ('{"bundles": [{"items": [1, "USB cable"]}]}', [(UNKNOWN, 1)]),
    ('{"bundles": [{"items": [true, 2.5, 1]}]}', [(UNKNOWN, 1)]),
    ("Bundle 1: item 3, item 12 – charging a phone\nBundle 2: 4 and 5", [(3, 12), (4, 5)]),
    ("**Bundle 1**: #3, #11", [(3, 11)]),
    ("Bundle 1:\n- item 1\n- item 2\nIntent: 2 trips", [(1, 2)]),
    ("1. items 2, 3\n2. items 5 and 17", [(2, 3), (5, 17)]),
]


@pytest.mark.parametrize(("text", "items"), READ)
def test_the_forms_that_answers_come_in(text: str, items: list[tuple[int, ...]]) -> None:
    found = read_answer(text)
    assert found is not None
    assert [bundle.items for bundle in found] == items


UNREADABLE = ["", "none", "The session has 5 items and 3 brands.", "none of them; 12", '{"a": 1}', "[" * 20_000]


@pytest.mark.parametrize("text", UNREADABLE)
def test_what_names_no_bundle_is_none(text: str) -> None:
    assert read_answer(text) is None


def test_intents_of_free_text() -> None:
    text = "Bundle 1: item 3, item 12 – charging a phone\nBundle 2: 4 and 5 (intent: music)"
    assert [bundle.intent for bundle in read_answer(text) or ()] == ["charging a phone", "music"]
