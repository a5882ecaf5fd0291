"""Baselines: what each answers, that nothing but training is looked at, and who wins where it is known who must."""

from dataclasses import replace

import numpy as np
import pytest

from understudy.bundle_answers import Bundle, write_answer
from understudy.data.embedded.bundles import generate
from understudy.data.sessions import Item, Session, session_of
from understudy.errors import ConfigError
from understudy.metrics import score
from understudy.sessions.baselines import BASELINES, baseline
from understudy.sessions.neighbours import Neighbours
from understudy.sessions.vectors import encoder_of

SPLITS = generate()
TRAIN, TEST = ([session_of(row) for row in part] for part in (SPLITS.train, SPLITS.test))


def titled(name: str, *titles: str, bundles: tuple[Bundle, ...] = ()) -> Session:
    return Session(name, tuple(Item(f"{name}-{n}", title) for n, title in enumerate(titles)), bundles)


@pytest.mark.parametrize("name", BASELINES)
def test_the_truth_of_a_test_session_changes_no_answer(name: str) -> None:
    blind = [replace(session, bundles=()) for session in TEST[:60]]
    assert baseline(name, TRAIN, TEST[:60]) == baseline(name, TRAIN, blind)


@pytest.mark.parametrize("name", BASELINES)
def test_bundles_hold_items_of_the_session_and_two_or_more(name: str) -> None:
    for session, bundles in zip(TEST, baseline(name, TRAIN, TEST), strict=True):
        assert all(len(b.items) > 1 and min(b.items) > 0 and max(b.items) <= len(session.items) for b in bundles)


def test_chance_depends_on_seed_and_session_alone() -> None:
    whole = baseline("random", TRAIN, TEST, seed=1)
    assert baseline("random", TRAIN, TEST[5:9], seed=1) == whole[5:9]
    assert baseline("random", TRAIN, TEST, seed=2) != whole


def test_all_in_one_is_one_bundle_of_all() -> None:
    assert baseline("all_in_one", TRAIN, TEST[:1])[0] == (Bundle(tuple(range(1, len(TEST[0].items) + 1))),)


def test_the_nearest_session_lends_its_bundles() -> None:
    train = [
        titled("a", "red tent", "blue mat", "desk lamp", bundles=(Bundle((1, 2), "camping"),)),
        titled("b", "white printer", "black ink", bundles=(Bundle((1, 2), "printing"),)),
    ]
    asked = [titled("q", "desk lamp large", "green mat", "green tent"), titled("r", "grey ink", "grey printer")]
    answers = baseline("nearest", train, asked)
    assert answers == [(Bundle((2, 3), "camping"),), (Bundle((1, 2), "printing"),)]


def test_retrieval_never_finds_a_test_session_nor_the_session_itself() -> None:
    neighbours = Neighbours(TRAIN)
    test_ids = {session.id for session in TEST}
    found = neighbours.nearest([*TEST, *TRAIN[:50]], count=5)
    assert all(len(sessions) == 5 and not test_ids & {s.id for s in sessions} for sessions in found)
    assert all(session.id not in {s.id for s in near} for session, near in zip(TRAIN[:50], found[-50:], strict=True))


def test_patterns_take_the_commonest_first_and_no_item_twice() -> None:
    def shop(name: str, categories: str, *bundles: Bundle) -> Session:
        items = tuple(Item(f"{name}{n}", c, c) for n, c in enumerate(categories.split()))
        return Session(name, items, bundles)

    train = [shop(f"a{n}", "tent mat", Bundle((1, 2), "sleep")) for n in range(5)]
    train += [shop(f"b{n}", "tent lamp", Bundle((1, 2), "light")) for n in range(3)]
    train += [shop(f"c{n}", "cable cable", Bundle((1, 2), "wires")) for n in range(3)]
    train += [shop(f"d{n}", "sock shoe", Bundle((1, 2), "feet")) for n in range(9)]
    asked = [shop("q", "lamp cable mat tent cable"), shop("r", "lamp tent cable")]
    assert baseline("patterns", train, asked) == [
        (Bundle((3, 4), "sleep"), Bundle((2, 5), "wires")),
        (Bundle((1, 2), "light"),),
    ]


def test_where_regularities_are_all_there_is_patterns_win() -> None:
    values = {
        name: score(
            list(map(write_answer, baseline(name, TRAIN, TEST))),
            [row.answers for row in SPLITS.test],
            metrics=["bundle_f1"],
        )["bundle_f1"].value
        for name in BASELINES
    }
    assert values["all_in_one"] < values["random"] < values["nearest"] < values["patterns"]
    assert values["patterns"] > 0.85


def test_an_unknown_baseline_or_vector_is_named() -> None:
    with pytest.raises(ConfigError, match="there is no baseline 'chance'"):
        baseline("chance", TRAIN, TEST)
    with pytest.raises(ConfigError, match="there is no way to make vectors 'bert'"):
        baseline("nearest", TRAIN, TEST, how="bert")


def test_vectors_by_words_are_unit_weigh_rare_words_more_and_bear_empty_titles() -> None:
    texts = ["usb cable", "usb charger", "usb lamp"]
    vectors = encoder_of("words", texts)(["usb cable", "cable", "usb", "", "?"])
    assert np.linalg.norm(vectors, axis=1) == pytest.approx([1, 1, 0, 0, 0], abs=1e-6)  # `usb` stands in every text
    assert vectors[0] @ vectors[1] == pytest.approx(1.0, abs=1e-5)
