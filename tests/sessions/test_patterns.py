"""Patterns: figures worked by hand, planted regularities recovered, clusters of titles that know training alone."""

import pytest

from understudy.bundle_answers import Bundle
from understudy.data.embedded.bundles import DOMAINS, REGULARITIES, generate, matched_items, regularities_of
from understudy.data.sessions import Item, Session, session_of
from understudy.errors import ConfigError
from understudy.sessions.patterns import Pattern, baskets_of, mine_patterns, multiset, verbalise
from understudy.sessions.title_clusters import TitleClusters


def session(name: str, categories: str, *bundles: Bundle) -> Session:
    items = tuple(Item(f"{name}{n}", f"a {c}", c) for n, c in enumerate(categories.split(), start=1))
    return Session(name, items, bundles)


def bought(name: str, categories: str, intent: str = "") -> Session:
    """A session that is one bundle."""
    made = session(name, categories)
    return Session(name, made.items, (Bundle(tuple(range(1, len(made.items) + 1)), intent),))


SESSIONS = [
    *(bought(f"a{n}", "camera card", "photos") for n in range(6)),
    *(bought(f"b{n}", "camera bag", "travel") for n in range(2)),
    *(bought(f"c{n}", "cable cable", "wires") for n in range(2)),
]


def test_figures_of_a_rule_worked_by_hand() -> None:
    patterns = {pattern.members: pattern for pattern in mine_patterns(SESSIONS, support=0.1).patterns}
    assert set(patterns) == {("camera", "card"), ("bag", "camera"), ("cable", "cable ×2")}
    card = patterns["camera", "card"]
    # Each card stands beside a camera: 6 of 6; of ten baskets eight hold a camera.
    assert (card.count, card.support, card.confidence, card.consequent) == (6, 0.6, 1.0, "camera")
    assert card.lift == pytest.approx(1 / 0.8)
    assert card.intents == ("photos",)
    assert card.text == (
        "With card goes camera, in 100% of cases (6 times, 1.2 times as often as elsewhere). It is bought for: photos."
    )
    assert mine_patterns(SESSIONS, support=0.3).patterns == (card,)


def test_what_a_larger_pattern_tells_is_not_told_again() -> None:
    sessions = [bought(f"a{n}", "tent bag mat") for n in range(9)] + [bought(f"b{n}", "tent bag") for n in range(2)]
    sessions += [bought(f"c{n}", "lamp cable") for n in range(9)]
    assert [pattern.members for pattern in mine_patterns(sessions).patterns] == [
        ("bag", "mat", "tent"),
        ("cable", "lamp"),
    ]


def test_what_is_together_by_chance_is_no_pattern() -> None:
    pairs = [bought(f"{a}{b}{n}", f"{a} {b}") for a in ("x", "y") for b in ("p", "q") for n in range(5)]
    assert mine_patterns(pairs).patterns == ()  # each pair has lift 1


def test_a_session_without_bundles_is_a_basket_and_one_with_them_is_not() -> None:
    plain = session("s", "tent bag lamp")
    assert [basket for basket, _ in baskets_of(plain, "category")] == [{"tent", "bag", "lamp"}]
    part = session("s", "tent bag lamp", Bundle((1, 2), "sleep outside"))
    assert list(baskets_of(part, "category")) == [({"tent", "bag"}, "sleep outside")]
    assert list(baskets_of(part, "item")) == [({"s1", "s2"}, "sleep outside")]
    assert list(baskets_of(part, "intent")) == [({"sleep", "outside"}, "sleep outside")]


def test_categories_are_a_multiset() -> None:
    assert multiset(["cable", "hub", "cable", "cable"]) == ["cable", "hub", "cable ×2", "cable ×3"]


def test_that_whoever_has_two_cables_has_one_is_no_rule() -> None:
    sessions = [bought(f"a{n}", "cable cable cable") for n in range(2)]
    sessions += [bought(f"b{n}", "cable cable") for n in range(4)] + [bought(f"c{n}", "lamp cable") for n in range(6)]
    sessions += [bought(f"d{n}", "tent mat") for n in range(4)]
    patterns = {pattern.members: pattern for pattern in mine_patterns(sessions, support=0.1).patterns}
    two, three = patterns["cable", "cable ×2"], patterns["cable", "cable ×2", "cable ×3"]
    assert (two.consequent, two.confidence) == ("cable ×2", 0.5), "of twelve with a cable six have another"
    assert (three.consequent, three.confidence) == ("cable ×3", 2 / 6)


def test_an_unknown_kind_is_named() -> None:
    with pytest.raises(ConfigError, match="there is no kind of pattern 'title'"):
        mine_patterns(SESSIONS, "title")


@pytest.mark.parametrize("confidence", [-0.1, 2, float("nan")])
def test_a_confidence_that_no_pattern_can_have_is_refused(confidence: float) -> None:
    with pytest.raises(ConfigError, match="is no share of baskets"):
        mine_patterns(SESSIONS, confidence=confidence)


# Planted regularities -------------------------------------------------------------------------------------------------


def recovered(patterns: tuple[Pattern, ...], planted: set[tuple[str, ...]]) -> tuple[float, float]:
    """Precision and recall of patterns."""
    found = {pattern.members for pattern in patterns}
    return len(found & planted) / len(found), len(found & planted) / len(planted)


def planted_in(*domains: str) -> set[tuple[str, ...]]:
    return {tuple(sorted(rule.categories)) for rule in regularities_of(*domains)}


@pytest.mark.parametrize("support", [0.005, 0.01, 0.02])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_planted_categories_are_recovered(seed: int, support: float) -> None:
    train = [session_of(row) for row in generate(seed=seed).train]
    precision, recall = recovered(mine_patterns(train, support=support).patterns, planted_in())
    assert recall == 1.0
    assert precision >= 0.9


@pytest.mark.parametrize("domain", DOMAINS)
def test_a_shop_teaches_its_own_regularities_and_no_others(domain: str) -> None:
    train = [session_of(row) for row in generate(domains=(domain,)).train]
    assert recovered(mine_patterns(train, support=0.01).patterns, planted_in(domain)) == (1.0, 1.0)
    other = next(name for name in DOMAINS if name != domain)
    shared = len(planted_in(domain) & planted_in(other)) / len(planted_in(other))
    assert recovered(mine_patterns(train, support=0.01).patterns, planted_in(other))[1] == pytest.approx(shared)


def test_planted_models_are_recovered_as_pairs_of_items() -> None:
    train = [session_of(row) for row in generate().train]
    patterns = mine_patterns(train, "item", support=0.002, confidence=0.8).patterns
    found = {frozenset(pattern.members) for pattern in patterns if len(pattern.members) == 2}
    planted = matched_items()
    assert len(found & planted) / len(found) >= 0.9
    assert len(found & planted) / len(planted) >= 0.6  # the last of eight models is sold one time in 22


def test_words_of_intents_are_those_of_the_regularities() -> None:
    train = [session_of(row) for row in generate().train]
    words = {tuple(sorted(set(i.split()) & {"charging", "devices"})) for r in REGULARITIES for i in r.intents}
    patterns = {pattern.members for pattern in mine_patterns(train, "intent", support=0.01).patterns}
    assert ("charging", "devices") in patterns
    assert ("charging", "devices") in words


def test_a_list_for_a_reader_names_titles_and_not_ids() -> None:
    train = [session_of(row) for row in generate().train]
    text = verbalise([mine_patterns(train, "item", support=0.01)], 3)
    assert text.count("\n") == 2
    assert "headphones" in text
    assert "office-" not in text


# Clusters of titles ---------------------------------------------------------------------------------------------------


def without_categories(sessions: list[Session]) -> list[Session]:
    return [Session(s.id, tuple(Item(i.id, i.title) for i in s.items), s.bundles, s.domain) for s in sessions]


def test_clusters_of_titles_stand_in_for_categories() -> None:
    splits = generate()
    train, test = ([session_of(row) for row in part] for part in (splits.train, splits.test))
    clusters = TitleClusters.fit(without_categories(train), how="words", count=40)
    assert len(set(clusters.names)) == 40
    stood_in = clusters.categorised(without_categories(test))
    pairs = [
        (own.category, made.category)
        for s, t in zip(test, stood_in, strict=True)
        for own, made in zip(s.items, t.items, strict=True)
    ]
    by_cluster: dict[str, list[str]] = {}
    for own, made in pairs:
        by_cluster.setdefault(made, []).append(own)
    pure = sum(max(map(owns.count, set(owns))) for owns in by_cluster.values()) / len(pairs)
    assert pure > 0.6
    assert clusters.categorised(test) == test  # what has a category keeps it


def test_clusters_know_the_training_titles_alone() -> None:
    train = [bought(f"a{n}", "x y") for n in range(4)]
    clusters = TitleClusters.fit(train, how="words", count=2)
    assert {word for name in clusters.names for word in name.split()} <= {"x", "y", "a", "other", "2"}
    assert clusters.of(["never seen zebra"])[0] in clusters.names
    with pytest.raises(ConfigError, match="cannot make 9 clusters"):
        TitleClusters.fit(train, how="words", count=9)
