"""Where answers depart from the truth: each type by hand, and what holds of any two sets of bundles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from understudy.bundle_answers import UNKNOWN, Bundle
from understudy.data.sessions import Item, Session
from understudy.sessions.discrepancies import DISCREPANCIES, Discrepancy, describe, discrepancies, faults, hint

CAMP, SLEEP, LIGHT = Bundle((1, 2), "camp kitchen"), Bundle((3, 4, 5), "sleeping outside"), Bundle((6, 12), "light")
SESSION = Session("s", tuple(Item(f"i{n}", f"Thing {n}", f"kind {n}") for n in range(1, 13)), (CAMP, SLEEP, LIGHT))


def told(*predicted: Bundle, truth: tuple[Bundle, ...] = (CAMP, SLEEP)) -> list[tuple[str, tuple[int, ...]]]:
    return [(difference.kind, difference.items) for difference in discrepancies(predicted, truth)]


@pytest.mark.parametrize(
    ("predicted", "expected"),
    [
        ((CAMP, SLEEP), []),
        ((SLEEP, CAMP), []),
        ((CAMP, Bundle((3, 4))), [("missed_item", (5,))]),
        ((Bundle((1, 2, 9)), SLEEP), [("extra_item", (9,))]),
        ((CAMP, Bundle((3, 4, 9, 10))), [("missed_item", (5,)), ("extra_item", (9, 10))]),
        ((CAMP,), [("missed_bundle", (3, 4, 5))]),
        ((CAMP, SLEEP, Bundle((7, 8))), [("invented_bundle", (7, 8))]),
        ((), [("missed_bundle", (1, 2)), ("missed_bundle", (3, 4, 5))]),
        ((Bundle((1, 2), "gardening"), SLEEP), [("wrong_intent", (1, 2))]),
        ((Bundle((1, 2), "Cooking in camp"), SLEEP), []),
        ((Bundle((1, 2), "something to buy for the user"), SLEEP), [("wrong_intent", (1, 2))]),
        ((Bundle((1, 2)), SLEEP), []),
        # One of all: it stands beside the truth that it shares most with.
        ((Bundle((1, 2, 3, 4, 5)),), [("missed_bundle", (1, 2)), ("extra_item", (1, 2))]),
        # The same twice: the second is invented, not a hit of the other truth.
        ((CAMP, CAMP, SLEEP), [("invented_bundle", (1, 2))]),
        # Both share an item with one truth: the one that shares two is beside it.
        ((Bundle((1, 7)), CAMP, SLEEP), [("invented_bundle", (1, 7))]),
        ((Bundle((1, UNKNOWN)), SLEEP), [("missed_item", (2,)), ("extra_item", (UNKNOWN,))]),
        ((Bundle((2,)), SLEEP), [("missed_item", (1,))]),
    ],
)
def test_each_difference_has_its_type(predicted: tuple[Bundle, ...], expected: list) -> None:
    assert told(*predicted) == expected


def test_overlap_as_a_whole_decides_before_any_single_pair() -> None:
    """{1, 2, 3} shares two items with the first truth and two with the second; {1, 2} fits the first alone."""
    first, second = Bundle((1, 2)), Bundle((2, 3, 9))
    assert told(Bundle((1, 2, 3)), Bundle((1, 2)), truth=(first, second)) == [
        ("missed_item", (9,)),
        ("extra_item", (1,)),
    ]


bundles = st.lists(
    st.builds(Bundle.of, st.sets(st.integers(1, 9), min_size=1, max_size=5), st.sampled_from(["", "camp", "light"])),
    max_size=5,
).map(tuple)
truths = bundles.map(lambda rows: tuple({b.items: b for b in rows if len(b.items) > 1}.values()))


@given(bundles, truths)
def test_whoever_corrects_all_that_is_told_has_the_truth(
    predicted: tuple[Bundle, ...], truth: tuple[Bundle, ...]
) -> None:
    """Take the predicted bundles, do what each difference says, and the true ones are there, each once."""
    left = list(predicted)
    rows = discrepancies(predicted, truth)
    for place, bundle in enumerate(predicted):
        items = set(bundle.items)
        for row in (row for row in rows if row.predicted == bundle and row.truth is not None):
            items = items | set(row.items) if row.kind == "missed_item" else items
            items = items - set(row.items) if row.kind == "extra_item" else items
        left[place] = Bundle.of(items)
    for row in rows:
        if row.kind == "invented_bundle":
            assert row.predicted is not None
            # Of several alike one only may be invented.
            number = next(n for n in reversed(range(len(predicted))) if predicted[n] == row.predicted and left[n].items)
            left[number] = Bundle(())
    corrected = sorted(bundle.items for bundle in left if bundle.items)
    missed = sorted(row.items for row in rows if row.kind == "missed_bundle")
    if len(set(predicted)) == len(predicted):
        assert sorted([*corrected, *missed]) == sorted(bundle.items for bundle in truth)


@given(bundles, truths)
def test_types_are_disjoint_and_every_bundle_has_its_place(predicted: tuple, truth: tuple) -> None:
    rows = discrepancies(predicted, truth)
    assert {row.kind for row in rows} <= set(DISCREPANCIES)
    missed = sum(row.kind == "missed_bundle" for row in rows)
    invented = sum(row.kind == "invented_bundle" for row in rows)
    assert len(truth) - missed == len(predicted) - invented, "as many pairs from either side"
    assert all(row.predicted is None for row in rows if row.kind == "missed_bundle")
    assert all(row.truth is None for row in rows if row.kind == "invented_bundle")
    assert discrepancies(truth, truth) == ()


@given(bundles, truths)
def test_every_difference_can_be_said_and_the_hint_does_not_tell_the_truth(predicted: tuple, truth: tuple) -> None:
    for row in discrepancies(predicted, truth):
        assert describe(row, SESSION).endswith(".")
        numbers = {int(word.strip("[],.")) for word in hint(row).split() if word.strip("[],.").isdigit()}
        assert numbers <= set(row.predicted.items if row.predicted else ())


def test_differences_in_words() -> None:
    rows = {
        "missed_item": Discrepancy("missed_item", (5,), Bundle((3, 4)), SLEEP),
        "extra_item": Discrepancy("extra_item", (9,), Bundle((1, 2, 9)), CAMP),
        "missed_bundle": Discrepancy("missed_bundle", (6, 12), truth=LIGHT),
        "invented_bundle": Discrepancy("invented_bundle", (7, 8), Bundle((7, 8))),
        "wrong_intent": Discrepancy("wrong_intent", (1, 2), Bundle((1, 2), "gardening"), CAMP),
    }
    assert {kind: (describe(row, SESSION), hint(row)) for kind, row in rows.items()} == {
        "missed_item": (
            "Missed item: Thing 5 (kind 5) belongs to Thing 3 (kind 3) and Thing 4 (kind 4), for sleeping outside.",
            "Bundle [3, 4] lacks an item.",
        ),
        "extra_item": (
            "Extra item: Thing 9 (kind 9) does not belong to Thing 1 (kind 1) and Thing 2 (kind 2), for camp kitchen.",
            "Bundle [1, 2, 9] has an item that does not belong there.",
        ),
        "missed_bundle": ("Missed bundle: Thing 6 (kind 6) and Thing 12 (kind 12), for light.", "A bundle is missing."),
        "invented_bundle": (
            "Invented bundle: Thing 7 (kind 7) and Thing 8 (kind 8) are not bought together.",
            "[7, 8] is no bundle.",
        ),
        "wrong_intent": (
            "Wrong intent: Thing 1 (kind 1) and Thing 2 (kind 2) are bought for camp kitchen, not gardening.",
            "The intent of bundle [1, 2] is wrong.",
        ),
    }


@pytest.mark.parametrize(
    ("predicted", "lines"),
    [
        (None, ("The answer cannot be read.",)),
        ((), ("There is no bundle.",)),
        ((CAMP, SLEEP), ()),
        ((Bundle((7, 8)),), ()),
        ((Bundle((1, 13)),), ("Not among the items: 13.",)),
        ((Bundle((UNKNOWN, 1)),), ("Not among the items: something that is no number.",)),
        ((Bundle((3,)), CAMP), ("Bundle [3] has one item.",)),
        ((CAMP, CAMP), ("Bundle [1, 2] stands there twice.",)),
    ],
)
def test_what_can_be_told_without_the_truth(predicted: tuple[Bundle, ...] | None, lines: tuple[str, ...]) -> None:
    assert faults(predicted, SESSION) == lines
    assert faults(predicted, Session("s", SESSION.items)) == lines, "the bundles of the session are not looked at"
