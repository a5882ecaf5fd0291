"""Which options a text names: whole words, the longest first, whatever characters options are made of."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.data.option_mentions import folded, is_right, mentioned, named_option
from understudy.types import Example

TEXT = st.text(max_size=60)
OPTIONS = st.lists(st.text(min_size=1, max_size=12), min_size=1, max_size=5)


@pytest.mark.parametrize(
    ("text", "options", "places"),
    [
        ("The train station has trains.", ["train", "train station", "station"], (1,)),
        ("A train leaves the train station.", ["train", "train station", "station"], (0, 1)),
        ("category, cats", ["cat"], ()),
        ("A CAT\n sat", ["cat sat", "cat"], (0,)),
        ("He is an upstanding citizen", ["being an upstanding citizen.", "upstanding citizen."], (1,)),
        ("C++ or C, not a.b", ["C++", "C", "a.b", "axb", "(c)"], (0, 1, 2)),
        ("a bridge", ["bridge", "Bridge", "bus"], (0, 1)),
        ("", ["x"], ()),
        ("anything", [".", " "], ()),
    ],
)
def test_mentions(text, options, places):
    assert mentioned(text, options) == places


@given(OPTIONS, st.integers(0, 4), st.sampled_from([" ", "\n", "  \t"]))
def test_an_option_between_blanks_is_always_found(options, place, blank):
    option = options[place % len(options)]
    text = f"so{blank}{option}{blank}it is"
    found = mentioned(text, [option])
    assert found == ((0,) if folded(option) else ())


@given(TEXT, OPTIONS)
def test_what_is_named_stands_in_the_text_and_equal_options_go_together(text, options):
    places = mentioned(text, options)
    flat = " ".join(text.casefold().split())
    assert all(folded(options[place]) in flat for place in places)
    named = {folded(options[place]) for place in places}
    assert places == tuple(place for place, option in enumerate(options) if folded(option) in named)
    assert mentioned(text, options[::-1]) == tuple(sorted(len(options) - 1 - place for place in places))


@given(st.text(alphabet="ab ", max_size=12), st.lists(st.text(alphabet="ab ", min_size=1, max_size=5), max_size=4))
def test_options_inside_each_other_never_share_a_place(text, options):
    """By brute force over words: the longest options take their words first."""
    wanted = sorted({tuple(o.split()) for o in options if o.split()}, key=lambda o: (-len(" ".join(o)), o))
    words, found = text.split(), set()
    for option in wanted:
        place = 0
        while place + len(option) <= len(words):
            if tuple(words[place : place + len(option)]) == option:
                words[place : place + len(option)] = [None] * len(option)
                found.add(" ".join(option))
                place += len(option)
            else:
                place += 1
    assert {folded(options[place]) for place in mentioned(text, options)} == found


@pytest.mark.parametrize(
    ("answer", "place"),
    [
        ("pond", 1),
        (" Pond. ", 1),
        ("(b)", 1),
        ("B.", 1),
        ("b) pond", 1),
        ("option 2", 1),
        ("a pond with fish", 1),
        ("aquarium or pond", None),
        ("b) aquarium", 0),  # the label says one thing, the words another: only the words name an option
        ("river", None),
        ("", None),
        ("f", None),
    ],
)
def test_the_option_that_an_answer_names(answer, place):
    assert named_option(answer, ["aquarium", "pond", "fish tank"]) == place


@given(TEXT, st.lists(st.text(min_size=1, max_size=8).filter(str.strip), min_size=2, max_size=5))
def test_any_answer_can_be_asked_about(answer, choices):
    place = named_option(answer, choices)
    assert place is None or 0 <= place < len(choices)
    for number, choice in enumerate(choices):
        if folded(choice):
            first = [folded(other) for other in choices].index(folded(choices[number]))
            assert named_option(choice, choices) == first


def test_right_answers():
    twins = Example("x", "q", ("bridge",), choices=("bus", "bridge", "bridge"), meta={"answer_index": 2})
    assert is_right("(b)", twins)
    assert is_right("BRIDGE.", twins)
    assert not is_right("bus or bridge", twins)
    assert is_right(" the  AMF.", Example("x", "q", ("The AMF",)))
    assert not is_right("the AMF of it", Example("x", "q", ("the AMF",)))
    assert not is_right("", Example("x", "q"))


def test_options_that_differ_in_case_alone_are_told_apart() -> None:
    assert [named_option(answer, ["mW", "MW", "kW"]) for answer in ("mW", "MW", " MW ", "kw")] == [0, 1, 1, 2]


def test_a_number_with_another_sign_or_point_is_another_option() -> None:
    options = ("85 dBm", "-85 dBm", "3.5 GHz", "5 GHz", "1000")
    assert mentioned("It is −85 dBm at 3.5 GHz.", options) == (1, 2)
    assert mentioned("It is −85 dBm.", ("85 dBm", "5 GHz")) == ()
    assert mentioned("It is 85 dBm (of 1,000).", options) == (0, 4)
    assert named_option("–85 dBm", options) == 1
    assert named_option("1,000", options) == 4
