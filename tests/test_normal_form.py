"""The normal form by hand: what is the same number, what is another one, and that nothing changes twice."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from understudy.normal_form import normalise, plain_numbers

BY_HAND = {
    "  The N2-interface,  an\tANSWER a ": "n2interface answer",
    "theatre": "theatre",
    "−85 dBm": "-85 dbm",
    "(–85 dBm)": "-85 dbm",
    "‑85 dBm": "-85 dbm",
    "Level:-85 dBm.": "level -85 dbm",
    "'-200'": "-200",
    "**-200**": "-200",
    "-$200": "-200",
    "$-200": "-200",
    "-€200": "€ -200",
    "3.5 GHz": "3.5 ghz",
    "TS 23.501.": "ts 23.501",
    ".5": "0.5",
    "-.5": "-0.5",
    "1,000": "1000",
    "1,234,567.5 Hz": "1234567.5 hz",
    "1,5": "1,5",
    "0,123": "0,123",
    "1,0000": "1,0000",
    "1,000,00": "1,000,00",
    "5, 6": "5 6",
    "5-10 ms": "5-10 ms",
    "5–10 ms": "5-10 ms",
    "-5--10": "-5 -10",
    "5%-10%": "5 10",
    "5...10": "5 10",
    "2024-05-01": "2024-05-01",
    "01.05.2024": "01.05.2024",
    "10:30": "10:30",
    "1/2": "1/2",
    "x=-5": "x -5",
    "10^-3": "10^-3",
    "1e-3": "1e-3",
    "+/-5": "±5",
    "word--5": "word5",
    "low–power": "lowpower",
    "phase-5": "phase5",
}


@pytest.mark.parametrize("text", BY_HAND)
def test_by_hand(text: str) -> None:
    assert normalise(text) == BY_HAND[text]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("-200", "200"),
        ("1.4", "14"),
        ("22.5", "225"),
        ("23.501", "23501"),
        ("5-10", "510"),
        ("5-10", "5 -10"),
        ("1/2", "12"),
        ("1e-5", "1e5"),
        ("10^-3", "10^3"),
        ("±5", "-5"),
        (".5", "5"),
        ("1,5", "15"),
    ],
)
def test_other_numbers_are_not_the_same(one: str, other: str) -> None:
    assert normalise(one) != normalise(other)
    assert plain_numbers(one) != plain_numbers(other)


def test_squads_form_stays_as_it_was() -> None:
    assert [normalise(text, "squad") for text in ("-200", "1.4", "The 1,000!", "−85")] == ["200", "14", "1000", "−85"]


def test_plain_numbers_change_nothing_but_numbers() -> None:
    text = "The rate (-1,000 – or −.5?) isn't N2-5: a–b, the 3.5."
    assert plain_numbers(text) == "The rate (-1000 – or -0.5?) isn't N2-5: a–b, the 3.5."
    assert plain_numbers("Low–power, (the) UE!") == "Low–power, (the) UE!"


@settings(max_examples=400, deadline=None)
@given(st.text("0159.,-−–+/*$€%() =aeth\"':^±x", max_size=12) | st.text(max_size=12))
def test_a_second_time_changes_nothing(text: str) -> None:
    for form in ("numbers", "squad"):
        assert normalise(normalise(text, form), form) == normalise(text, form)
    assert plain_numbers(plain_numbers(text)) == plain_numbers(text)


@given(st.integers(-(10**9), 10**9), st.sampled_from(["{}", "({})", "= {} dBm", "“{}”", "x={}", "{}."]))
def test_every_spelling_of_a_number_is_one(number: int, around: str) -> None:
    spellings = {f"{number}", f"{number:,}", f"{number:,}".replace("-", "−"), f"{number}".replace("-", "–")}
    assert len({normalise(around.format(spelling)) for spelling in spellings}) == 1
    assert not number or normalise(around.format(number)) != normalise(around.format(-number))


@given(st.decimals(0, 1000, places=2), st.decimals(0, 1000, places=2))
def test_two_numbers_are_one_only_where_they_are_equal(one, other) -> None:
    assert (normalise(f"{one}") == normalise(f"{other}")) == (one == other)
