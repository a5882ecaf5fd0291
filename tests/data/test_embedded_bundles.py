"""The two invented shops: the same rows for the same seed, and regularities that are planted as they are said to be."""

from collections import Counter

import pytest

from understudy.data.embedded.bundles import (
    DOMAINS,
    REGULARITIES,
    catalogue,
    generate,
    matched_items,
    planted_sessions,
    regularities_of,
)
from understudy.data.load import load_splits
from understudy.data.sessions import session_key
from understudy.errors import ConfigError
from understudy.recipe import DataConfig


def test_one_seed_gives_one_set_and_a_shop_the_same_sessions_beside_the_other() -> None:
    both, office = generate(seed=3), generate(seed=3, domains=("office",))
    assert both == generate(seed=3)
    assert both.train != generate(seed=4).train

    def questions(splits) -> set[str]:
        return {row.question for part in (splits.train, splits.dev, splits.test) for row in part}

    assert questions(office) < questions(both)


def test_splits_share_no_session_and_have_their_sizes() -> None:
    splits = load_splits(DataConfig(source="embedded:bundles"))
    assert splits.notes["sizes"] == {"train": 1260, "unlabelled": 0, "dev": 180, "test": 360}
    keys = Counter(session_key(row) for part in (splits.train, splits.dev, splits.test) for row in part)
    assert max(keys.values()) == 1
    assert {row.meta["domain"] for row in splits.test} == set(DOMAINS)


def test_some_sessions_may_be_left_to_a_teacher() -> None:
    splits = load_splits(DataConfig(source="embedded:bundles-outdoor", gold_share=0.3))
    assert 0.2 < len(splits.train) / (len(splits.train) + len(splits.unlabelled)) < 0.4
    assert all(not row.answers and "true_bundles" not in row.meta for row in splits.unlabelled)


@pytest.mark.parametrize("field", [{"dev": 0.3}, {"published_split": False}, {"catalogue": "c.csv"}])
def test_it_is_cut_and_described_in_its_own_way(field: dict) -> None:
    with pytest.raises(ConfigError, match="has its own splits"):
        load_splits(DataConfig(source="embedded:bundles", **field))


def test_shops_share_some_regularities_and_differ_in_others() -> None:
    office, outdoor = (set(regularities_of(domain)) for domain in DOMAINS)
    assert len(office & outdoor) == 3
    assert office - outdoor
    assert outdoor - office
    assert office | outdoor == set(REGULARITIES)
    ids = [{item.id for items in catalogue(domain).values() for item in items} for domain in DOMAINS]
    assert not ids[0] & ids[1]
    titles = [item.title for domain in DOMAINS for items in catalogue(domain).values() for item in items]
    assert all(len({i.title for i in items}) == len(items) for items in catalogue("office").values())
    assert all(title == title.strip() for title in titles)


@pytest.mark.parametrize("domain", DOMAINS)
def test_bundles_are_made_of_regularities(domain: str) -> None:
    sessions = planted_sessions(domain, seed=0)
    rules = {intent: rule for rule in regularities_of(domain) for intent in rule.intents}
    shares: Counter[str] = Counter()
    for session in sessions:
        assert 2 <= len(session.items) <= 10
        for bundle in session.bundles:
            rule = rules[bundle.intent]
            categories = {item.category for item in session.items_of(bundle)}
            shares["missing"] += len(categories & set(rule.categories)) < len(rule.categories)
            shares["stranger"] += bool(categories - set(rule.categories))
            shares["all"] += 1
            shares["long"] += len(rule.categories) > 2
    assert shares["missing"] / shares["long"] == pytest.approx(0.1, abs=0.04)
    assert shares["stranger"] / shares["all"] == pytest.approx(0.1, abs=0.04)


def test_what_goes_by_model_goes_together() -> None:
    pairs = matched_items("office")
    rules = {intent: rule for rule in regularities_of("office") for intent in rule.intents if rule.matched}
    seen = [
        {item.id for item in session.items_of(bundle) if item.category in rules[bundle.intent].categories[:2]}
        for session in planted_sessions("office")
        for bundle in session.bundles
        if bundle.intent in rules
    ]
    whole = [items for items in seen if len(items) == 2]
    assert len(whole) > 100
    assert all(frozenset(items) in pairs for items in whole)


def test_there_is_no_third_shop() -> None:
    with pytest.raises(ConfigError, match="there is no shop 'garden'"):
        catalogue("garden")
