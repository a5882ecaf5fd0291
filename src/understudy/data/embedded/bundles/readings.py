"""What the base weights for bundles read: sessions of the two shops in part, and of shops that never were.

Six of the fifteen regularities are held back, `HELD_BACK`: no session that was read holds such a bundle, no text
states one, and nothing that was read says the contrary, for their categories are never all there. Nor does anything
that was read go by model. Invented shops sell the same things, and other things go together there, which only the text
in front of a session tells; two categories of a planted regularity never go together by invention.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from understudy.data.embedded.bundles.regularities import DOMAINS, Regularity, categories_of, regularities_of
from understudy.data.embedded.bundles.sessions import catalogue, planted_sessions, session_by
from understudy.data.sessions import Session
from understudy.files import fingerprint

HELD_BACK: frozenset[tuple[str, ...]] = frozenset(
    {
        ("camera", "memory card", "camera bag"),
        ("desk", "desk lamp"),
        ("keyboard", "mouse", "mouse pad"),
        ("backpack", "rain cover", "water bottle"),
        ("head lamp", "batteries"),
        ("camera", "power bank"),
    }
)
"""Categories of regularities of which the base weights have read nothing: one of both shops, five of one."""
SEEDS = 20
"""Sessions of `generate(seed=0)` to this seed, not included, are never read."""
_INVENTED = (4, 6)
_SIZES = {2: 0.35, 3: 0.5, 4: 0.15}

_DOING = (
    *("charging", "listening", "taking", "lighting", "sitting", "raising", "typing", "pointing", "printing", "seeing"),
    *("furnishing", "sleeping", "cooking", "hiking", "filming", "riding", "cycling", "camping", "drawing", "packing"),
    *("walking", "waiting", "working", "resting", "cleaning"),
)
_WHERE = (
    *("outside", "at home", "in the dark", "for a day", "for a night", "for a desk", "far from home", "on the move"),
    *("at night", "at eye level", "well", "while sitting", "devices", "music", "pictures", "a desk", "a screen"),
    *("a workplace", "in the kitchen", "in the camp"),
)
_FIRST = ("long", "day", "new", "home", "camp", "computer", "night", "quiet")
_SECOND = ("light", "hike", "input", "photography", "kitchen", "filming", "screen", "comfort", "power", "workplace")


@dataclass(frozen=True, slots=True)
class Shop:
    """A shop of which sessions are read.

    Attributes:
        domain: whose catalogue it has.
        known: regularities of the real shop that may be read.
        invented: what goes together in this shop alone; empty in the real one.
    """

    domain: str
    known: tuple[Regularity, ...]
    invented: tuple[Regularity, ...] = ()

    def sessions(self, draw: random.Random, count: int, *, rules: tuple[Regularity, ...] = ()) -> Iterator[Session]:
        """Sessions of this shop by some of its regularities, by all where none is named; none of `unread_keys`."""
        items, chosen = catalogue(self.domain), rules or self.known + self.invented
        others = [rule for rule in (*regularities_of(self.domain), *self.invented) if rule not in chosen]
        name = f"{self.domain}-{draw.randrange(10**6)}"
        for number in range(count):
            session = session_by(draw, items, chosen, others=others, name=f"{name}-{number}", domain=self.domain)
            if key_of(session) not in unread_keys(self.domain) and not _completes_held_back(session):
                yield session


def is_held_back(rule: Regularity) -> bool:
    """Whether the base weights have read nothing of a regularity."""
    return rule.categories in HELD_BACK


def _completes_held_back(session: Session) -> bool:
    """A stranger in a bundle may: such a session would speak of what is held back."""
    categories = {item.category for item in session.items}
    return any(categories.issuperset(held) for held in HELD_BACK)


def real_shop(domain: str) -> Shop:
    """The shop as far as it is read: no regularity that is held back, none by model."""
    rules = (rule for rule in regularities_of(domain) if not is_held_back(rule))
    return Shop(domain, tuple(replace(rule, matched=False) for rule in rules))


def invented_shop(draw: random.Random) -> Shop:
    """A shop with what is read of a real one and regularities of its own."""
    domain = draw.choice(DOMAINS)
    rules: list[Regularity] = []
    for _ in range(draw.randint(*_INVENTED)):
        rules.append(_invented(draw, domain, rules))
    return Shop(domain, real_shop(domain).known, tuple(rules))


def _invented(draw: random.Random, domain: str, before: list[Regularity]) -> Regularity:
    """One that shares no two categories with any other."""
    while True:
        size = draw.choices(list(_SIZES), list(_SIZES.values()))[0]
        categories = tuple(draw.sample(categories_of(domain), size))
        others = (*regularities_of(*DOMAINS), *before)
        if all(len(set(categories) & set(other.categories)) < 2 for other in others):
            return Regularity(categories, (invented_intent(draw), invented_intent(draw)), domain)


def invented_intent(draw: random.Random) -> str:
    """A few words that no planted regularity is bought for."""
    while True:
        form = draw.random()
        if form < 0.7:
            intent = f"{draw.choice(_DOING)} {draw.choice(_WHERE)}"
        elif form < 0.9:
            intent = f"{draw.choice(_FIRST)} {draw.choice(_SECOND)}"
        else:
            intent = " and ".join(draw.sample(_DOING, 2))
        if intent not in planted_intents():
            return intent


@lru_cache(maxsize=1)
def planted_intents() -> frozenset[str]:
    """Every intent of every planted regularity."""
    return frozenset(intent for rule in regularities_of() for intent in rule.intents)


def key_of(session: Session) -> frozenset[str]:
    """What makes two sessions of a shop the same: their items."""
    return frozenset(item.id for item in session.items)


@lru_cache(maxsize=len(DOMAINS))
def unread_keys(domain: str) -> frozenset[frozenset[str]]:
    """The sessions of the data set, at `SEEDS` seeds: whatever is split off for test or development is among them."""
    return frozenset(key_of(session) for seed in range(SEEDS) for session in planted_sessions(domain, seed))


def text_fingerprint() -> str:
    """Digest of what the base weights have read of the real shops; their provenance names it."""
    items = [item.title for domain in DOMAINS for kinds in catalogue(domain).values() for item in kinds]
    rules = [[rule.categories, rule.intents] for domain in DOMAINS for rule in real_shop(domain).known]
    return fingerprint([items, rules, sorted(HELD_BACK), SEEDS, _DOING, _WHERE, _FIRST, _SECOND])
