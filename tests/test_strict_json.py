"""JSON from elsewhere: whatever is wrong with it comes as one class of error."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.strict_json import MAX_DEPTH, MAX_DIGITS, JsonFault, Unreadable, parse_json, unreadable_in


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ('{"a":\n 1,}', "not valid JSON: ", 2),
        ("", "not valid JSON: ", 1),
        ('{"a": 1,\n"b": ' + "9" * 5000 + "}", "a number of 5,000 digits", 2),
        ("[" * 100_000 + "]" * 100_000, "nested deeper than 100 levels", 0),
        ('{"a": ' * 100_000, "nested deeper than 100 levels", 0),
        ("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1), "nested deeper than 100 levels", 0),
        ('[{"a": 1, "b": 2, "a": 3}]', "the key 'a' stands twice", 0),
        (b'{"a": "\xff"}', "not valid Unicode (byte 7)", 0),
    ],
)
def test_every_fault_is_one_class_with_reason_and_line(text: str | bytes, reason: str, line: int) -> None:
    with pytest.raises(JsonFault) as caught:
        parse_json(text)
    assert reason in caught.value.reason
    assert "\n" not in caught.value.reason
    assert caught.value.line == line


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "-1e400"])
def test_numbers_that_json_does_not_have_are_refused_where_they_must_be_finite(number: str) -> None:
    with pytest.raises(JsonFault, match="which JSON does not have"):
        parse_json(f'{{"answer": {number}}}', finite=True)
    assert isinstance(parse_json(f'{{"answer": {number}}}')["answer"], float)


def test_what_stands_at_a_bound_is_read() -> None:
    assert parse_json("9" * MAX_DIGITS) == int("9" * MAX_DIGITS)
    deep = parse_json("[" * MAX_DEPTH + "]" * MAX_DEPTH)
    assert json.dumps(deep) == "[" * MAX_DEPTH + "]" * MAX_DEPTH


def test_neighbours_of_what_cannot_be_read_are_read() -> None:
    value = parse_json(f'[{{"a": 1}}, {{"a": {"9" * 5000}}}, {{"b": {{"c": 1, "c": 2}}}}, 4]', keep_going=True)
    assert (value[0], value[3]) == ({"a": 1}, 4)
    assert value[1]["a"] == Unreadable("a number of 5,000 digits")
    assert [unreadable_in(part) for part in value] == [
        "",
        "a number of 5,000 digits",
        "the key 'c' stands twice",
        "",
    ]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(JSON)
def test_sound_json_comes_back_as_it_was_written(value: Any) -> None:
    for ascii_only in (True, False):
        text = json.dumps(value, ensure_ascii=ascii_only)
        assert parse_json(text, finite=True) == value
        assert parse_json(text.encode("utf-8", "surrogatepass"), keep_going=True) == value
