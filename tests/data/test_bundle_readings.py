"""What the base weights for bundles have read: no session of a test split, and nothing of what is held back."""

import random
from importlib import import_module
from itertools import islice
from pathlib import Path

import pytest

from understudy.data.embedded.bundles import DOMAINS, catalogue, generate, regularities_of
from understudy.data.embedded.bundles.readings import (
    HELD_BACK,
    SEEDS,
    Shop,
    invented_shop,
    is_held_back,
    key_of,
    planted_intents,
    real_shop,
    unread_keys,
)
from understudy.data.sessions import Session, session_of
from understudy.knowledge.session_rules import named_categories
from understudy.sessions.patterns import mine_patterns

SCRIPTS = Path(__file__).resolve().parents[2] / "scripts"


def shops() -> list[Shop]:
    """The real ones, and some that never were."""
    draw = random.Random(5)
    return [*map(real_shop, DOMAINS), *(invented_shop(draw) for _ in range(10))]


def sessions() -> list[Session]:
    draw = random.Random(6)
    return [session for shop in shops() for session in shop.sessions(draw, 150)]


def test_no_session_of_the_data_set_is_read() -> None:
    splits = generate(seed=0)
    held_out = {key_of(session_of(row)) for row in (*splits.dev, *splits.test)}
    assert held_out <= unread_keys("office") | unread_keys("outdoor")
    read = {key_of(session) for session in sessions()}
    assert not read & (unread_keys("office") | unread_keys("outdoor"))
    assert len(read) > 1500


def test_without_the_check_some_sessions_would_be_read() -> None:
    """Short sessions of popular items come up in any seed: other seeds alone would not do."""
    ours = {key_of(session_of(row)) for row in generate(seed=0).test}
    others = {key_of(session_of(row)) for seed in range(1, 4) for row in generate(seed=seed).train}
    assert ours & others
    assert SEEDS > 4


def test_what_is_held_back_is_planted_and_never_together_in_a_session() -> None:
    assert {rule.categories for rule in regularities_of() if is_held_back(rule)} == HELD_BACK
    for session in sessions():
        categories = {item.category for item in session.items}
        assert not any(categories.issuperset(held) for held in HELD_BACK)


def test_invention_says_nothing_of_the_real_shops() -> None:
    for shop in shops():
        for rule in shop.invented:
            assert not set(rule.intents) & planted_intents()
            assert all(len(set(rule.categories) & set(other.categories)) < 2 for other in regularities_of())
        assert not any(rule.matched for rule in (*shop.known, *shop.invented))


def test_what_may_be_read_can_be_recovered_and_no_more() -> None:
    shop = real_shop("outdoor")
    mined = mine_patterns(list(shop.sessions(random.Random(7), 900)), support=0.02).patterns
    assert {pattern.members for pattern in mined} == {tuple(sorted(rule.categories)) for rule in shop.known}


@pytest.fixture
def texts(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    return import_module("bundle_texts")


def test_the_texts_name_nothing_that_is_held_back(texts) -> None:
    """Statements, rules and patterns of the real shops too: no line says that held-back categories go together."""
    hidden = {intent for rule in regularities_of() if is_held_back(rule) for intent in rule.intents}
    everything = {category for domain in DOMAINS for category in catalogue(domain)}
    held = [set(categories) for categories in HELD_BACK]
    kinds = dict.fromkeys(texts.KINDS, (1.0, 1.0))
    read = list(islice(texts.texts(3, kinds), 400))
    assert {text.kind for text in read} == set(texts.KINDS)
    for text in read:
        lines = [line for turn in text.turns for line in turn.content.split("\n")] + text.answer.split("\n")
        for line in lines:
            assert not any(f'"{intent}"' in line or f"for {intent}." in line for intent in hidden)
            named = set(named_categories(line.replace("a desk", ""), everything))  # a word of intents too
            assert not any(named >= categories for categories in held), line
