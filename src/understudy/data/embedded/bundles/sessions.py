"""A seed -> the catalogues of two shops, sessions in which regularities are planted, and their splits.

A session holds one bundle or two, and items of other categories beside them. Of a regularity's bundle, one in ten
lacks an item (where three or more belong to it) and one in ten holds a stranger, so that what is planted is not all
that is seen. The items beside the bundles complete no regularity.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from itertools import product

from understudy.bundle_answers import Bundle
from understudy.data.embedded.bundles.regularities import DOMAINS, Regularity, categories_of, regularities_of
from understudy.data.session_split import cut_sessions
from understudy.data.sessions import Item, Session, example_of
from understudy.data.split import withhold
from understudy.errors import ConfigError
from understudy.types import Splits

PER_CATEGORY = 8
"""Items of each category of a shop."""
SESSIONS = 900
"""Sessions of each shop."""
MISSING, STRANGER, SECOND = 0.1, 0.1, 0.45
"""Chance that a bundle lacks an item, that it holds one from elsewhere, and that a session has a second bundle."""

_BRANDS = ("Norvik", "Aldenby", "Tarnholt", "Hesperan")
_KINDS = ("small", "large", "light", "robust", "grey", "blue", "plain", "classic")


def catalogue(domain: str) -> dict[str, tuple[Item, ...]]:
    """Category -> the items of a shop, the one that is bought most often first.

    Raises:
        ConfigError: there is no such shop.
    """
    if domain not in DOMAINS:
        raise ConfigError(f"there is no shop {domain!r}", hint=f"there are: {', '.join(DOMAINS)}")
    names = list(product(_BRANDS, _KINDS))
    return {
        category: tuple(
            Item(
                f"{domain}-{category.replace(' ', '-')}-{k + 1}",
                f"{_named(names, place, k)} {category}",
                category,
            )
            for k in range(PER_CATEGORY)
        )
        for place, category in enumerate(categories_of(domain))
    }


def _named(names: Sequence[tuple[str, str]], place: int, k: int) -> str:
    brand, kind = names[(5 * place + 9 * k) % len(names)]
    return f"{brand} {kind}"


def matched_items(*domains: str) -> set[frozenset[str]]:
    """Pairs of item ids that go together by model."""
    pairs = set()
    for domain in domains or DOMAINS:
        items = catalogue(domain)
        for rule in regularities_of(domain):
            if rule.matched:
                first, second = (items[category] for category in rule.categories[:2])
                pairs |= {frozenset((a.id, b.id)) for a, b in zip(first, second, strict=True)}
    return pairs


def generate(*, gold_share: float = 1.0, seed: int = 0, domains: Sequence[str] = DOMAINS) -> Splits:
    """Sessions of these shops, cut by length: 10% for development, 20% for test.

    The same arguments give the same rows, and a shop the same sessions whichever others stand beside it.

    Args:
        gold_share: share of the training sessions that keep their bundles.
        seed: of sessions and splits.
        domains: which shops.
    """
    examples = [example_of(session) for domain in domains for session in planted_sessions(domain, seed)]
    train, dev, test = cut_sessions(examples, dev=0.1, test=0.2, seed=seed, published=False).splits
    gold, unlabelled = withhold(train, gold_share=gold_share, seed=seed)
    notes = {"domains": list(domains), "regularities": len(regularities_of(*domains))}
    return Splits(gold, unlabelled, dev, test, notes)


def planted_sessions(domain: str, seed: int = 0, count: int = SESSIONS) -> tuple[Session, ...]:
    """Sessions of one shop, no two of the same items."""
    generator = random.Random(f"{seed} {domain}")
    items = catalogue(domain)
    seen: set[frozenset[str]] = set()
    sessions: list[Session] = []
    while len(sessions) < count:
        session = _session(generator, domain, items, f"{domain}-{len(sessions) + 1}")
        key = frozenset(item.id for item in session.items)
        if key not in seen:
            seen.add(key)
            sessions.append(session)
    return tuple(sessions)


def _session(generator: random.Random, domain: str, items: dict[str, tuple[Item, ...]], name: str) -> Session:
    rules = regularities_of(domain)
    return session_by(generator, items, rules, name=name, domain=domain)


def session_by(
    generator: random.Random,
    items: dict[str, tuple[Item, ...]],
    rules: Sequence[Regularity],
    *,
    others: Sequence[Regularity] = (),
    name: str = "",
    domain: str = "",
) -> Session:
    """One session in which one or two of `rules` hold.

    Args:
        generator: of chance.
        items: category -> what is sold of it.
        rules: what may be bought together.
        others: further regularities, which nothing in the session completes.
        name: id of the session.
        domain: whose session it is.
    """
    known = [*rules, *others]
    chosen = _rules(generator, rules, known)
    length = generator.randint(max(2, sum(len(rule.categories) for rule in chosen)), 10)
    bundles = [_bundle(generator, rule, items) for rule in chosen]
    members = {item.id: item for bundle, _ in bundles for item in bundle}
    used = {item.category for item in members.values()} | {c for rule in chosen for c in rule.categories}
    for item in _others(generator, items, used, known, length - len(members)):
        members[item.id] = item
    shown = list(members.values())
    generator.shuffle(shown)
    number = {item.id: n for n, item in enumerate(shown, start=1)}
    named = {Bundle.of(number[item.id] for item in bundle).items: intent for bundle, intent in bundles}
    return Session(name, tuple(shown), tuple(Bundle(numbers, intent) for numbers, intent in named.items()), domain)


def _rules(generator: random.Random, rules: Sequence[Regularity], known: Sequence[Regularity]) -> list[Regularity]:
    """One regularity or two that share no category and together with no other one make a third complete."""
    first = generator.choice(rules)
    if generator.random() >= SECOND:
        return [first]
    apart = [rule for rule in rules if not set(rule.categories) & set(first.categories)]
    if not apart:
        return [first]
    second = generator.choice(apart)
    both = {*first.categories, *second.categories}
    complete = [rule for rule in known if set(rule.categories) <= both]
    return [first, second] if len(complete) == 2 and len(both) <= 8 else [first]


def _bundle(generator: random.Random, rule: Regularity, items: dict[str, tuple[Item, ...]]) -> tuple[list[Item], str]:
    categories = list(rule.categories)
    if len(categories) > 2 and generator.random() < MISSING:
        categories.pop()
    chosen = [_item(generator, items[category]) for category in categories]
    if rule.matched:
        place = items[categories[0]].index(chosen[0])
        chosen[1] = items[categories[1]][place]
    if generator.random() < STRANGER:
        strange = generator.choice([category for category in items if category not in rule.categories])
        chosen.append(_item(generator, items[strange]))
    intent = rule.intents[0] if generator.random() < 0.7 else generator.choice(rule.intents[1:])
    return chosen, intent


def _item(generator: random.Random, items: Sequence[Item]) -> Item:
    """An item, the k-th with a chance in proportion to 1 / k."""
    return generator.choices(items, [1 / k for k in range(1, len(items) + 1)])[0]


def _others(
    generator: random.Random,
    items: dict[str, tuple[Item, ...]],
    used: set[str],
    rules: Sequence[Regularity],
    count: int,
) -> Iterator[Item]:
    """Items of categories that complete no regularity with what is there."""
    there = set(used)
    for category in generator.sample(sorted(items), len(items)):
        if count <= 0:
            return
        completes = any(category in rule.categories and set(rule.categories) <= there | {category} for rule in rules)
        if category not in there and not completes:
            there.add(category)
            count -= 1
            yield _item(generator, items[category])
