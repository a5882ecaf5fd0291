"""Patterns of training sessions: categories, items and words of intents that are found together, in sentences.

A basket is a bundle; a session without bundles is one whole. Categories are counted as a multiset: of two cables the
second is a member of its own, `cable ×2`.

```text
support(S) = baskets with S / baskets
rule S∖{c} → {c}: confidence = support(S) / support(S∖{c}),  lift = confidence / support({c})
```

Of an itemset the rule of the highest confidence is told. A category is no consequent where the others hold a further
one of it: whoever has two cables has one.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, get_args

from understudy.data.sessions import Item, Session
from understudy.errors import ConfigError, unknown
from understudy.sessions.itemsets import FrequentItemsets, frequent_itemsets
from understudy.sessions.vectors import words_of

Kind = Literal["category", "item", "intent"]
KINDS: tuple[Kind, ...] = get_args(Kind)
EXPLAINED = 0.5
"""A pattern is told by a larger one that stands in this share of its baskets."""

_REPEATED = re.compile(r"(.+) ×(\d{1,4})", re.DOTALL)
_EMPTY = frozenset(
    (
        *("the", "an", "and", "or", "of", "for", "to", "in", "on", "at", "with", "by", "from", "as", "is", "are", "be"),
        *("it", "its", "this", "that", "they", "them", "their", "there", "user", "users", "buy", "buying", "bought"),
        *("want", "wants", "need", "needs", "some", "different", "various", "related"),
    )
)


@dataclass(frozen=True, slots=True)
class Pattern:
    """Things that are found together.

    Attributes:
        kind: `category`, `item` or `intent`.
        members: what they are, sorted: categories, item ids, words.
        count: baskets that hold all of them.
        support: the same as a share.
        confidence: of the rule that the others lead to `consequent`.
        lift: how much likelier `consequent` is beside the others than anywhere.
        consequent: one of the members.
        intents: what the baskets were bought for, the commonest first; three at most.
        text: all that in a sentence.
    """

    kind: Kind
    members: tuple[str, ...]
    count: int
    support: float
    confidence: float
    lift: float
    consequent: str
    intents: tuple[str, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Mined:
    """Patterns of one kind, the commonest first, and what they were mined from."""

    patterns: tuple[Pattern, ...]
    baskets: int
    min_count: int
    longest: int | None
    cut: int

    @property
    def remark(self) -> str:
        """A sentence where baskets were too long to be mined whole; else empty."""
        if not self.cut:
            return ""
        return f"{self.cut:,} of {self.baskets:,} baskets were cut to their {self.longest} commonest members."


def mine_patterns(
    sessions: Sequence[Session],
    kind: str = "category",
    *,
    support: float = 0.001,
    confidence: float = 0.0,
    largest: int = 5,
) -> Mined:
    """The patterns of one kind in sessions of training.

    Kept are itemsets that are likelier together than apart (lift above 1) and are not told by a larger one: no
    frequent itemset that holds one more member stands in half of their baskets or more.

    Args:
        sessions: those of training; categories come from the catalogue or from `TitleClusters.categorised`.
        kind: `category`, `item` or `intent`.
        support: the least share of baskets.
        confidence: the least confidence of a pattern's rule.
        largest: members of the largest pattern.

    Raises:
        ConfigError: no such kind, or a support, confidence or size that means nothing.
        ModelError: efficient-apriori is not installed.
    """
    if kind not in KINDS:
        raise unknown("kind of pattern", kind, KINDS)
    if not 0 <= confidence <= 1:
        raise ConfigError(f"a confidence of {confidence:g} is no share of baskets", hint="give one from 0 to 1")
    baskets = [(members, intent) for session in sessions for members, intent in baskets_of(session, kind)]
    found = frequent_itemsets([members for members, _ in baskets], support=support, largest=largest)
    kept = _not_told(found.itemsets)
    rules = {members: _rule(found, members) for members in kept}
    kept = [members for members in kept if rules[members].lift > 1 and rules[members].confidence >= confidence]
    intents = _intents(kept, baskets)
    titles = {item.id: item.title for session in sessions for item in session.items} if kind == "item" else {}
    patterns = [_pattern(kind, members, found, rules[members], intents[members], titles) for members in kept]
    patterns.sort(key=lambda pattern: (-pattern.count, -len(pattern.members), pattern.members))
    return Mined(tuple(patterns), found.baskets, found.min_count, found.longest, found.cut)


def baskets_of(session: Session, kind: str) -> Iterable[tuple[frozenset[str], str]]:
    """The baskets of a session, each with its intent: its bundles, or all of it where it has none."""
    bundles = [(session.items_of(bundle), bundle.intent) for bundle in session.bundles]
    for items, intent in bundles or [(session.items, "")]:
        members = _members(items, intent, kind)
        if members:
            yield frozenset(members), intent


def _members(items: Sequence[Item], intent: str, kind: str) -> Iterable[str]:
    if kind == "item":
        return [item.id for item in items]
    if kind == "intent":
        return telling_words(intent)
    return multiset(item.category for item in items if item.category)


def telling_words(intent: str) -> list[str]:
    """The words of an intent, without those that any intent may have."""
    return [word for word in words_of(intent) if word not in _EMPTY]


def multiset(categories: Iterable[str]) -> list[str]:
    """Categories as members of a set: the second of a kind is `cable ×2`, the third `cable ×3`."""
    seen: Counter[str] = Counter()
    members = []
    for category in categories:
        seen[category] += 1
        members.append(category if seen[category] == 1 else f"{category} ×{seen[category]}")
    return members


def _consequents(members: frozenset[str]) -> list[str]:
    """The members that a rule may lead to, sorted: of `cable` and `cable ×2` the latter."""
    most: Counter[str] = Counter()
    for category, number in map(_category_and_number, members):
        most[category] = max(most[category], number)
    return sorted(m for m in members if _category_and_number(m)[1] == most[_category_and_number(m)[0]])


def _category_and_number(member: str) -> tuple[str, int]:
    repeated = _REPEATED.fullmatch(member)
    return (repeated[1], int(repeated[2])) if repeated else (member, 1)


class _Rule(NamedTuple):
    consequent: str
    confidence: float
    lift: float


def _rule(found: FrequentItemsets, members: frozenset[str]) -> _Rule:
    """The rule of the highest confidence, of equals the first by name."""

    def confidence(consequent: str) -> float:
        rest = members - {consequent}
        count = found.itemsets[rest] if len(rest) > 1 else found.singles[next(iter(rest))]
        return found.itemsets[members] / count

    best = max(_consequents(members), key=confidence)
    return _Rule(best, confidence(best), confidence(best) * found.baskets / found.singles[best])


def _not_told(itemsets: Mapping[frozenset, int]) -> list[frozenset]:
    """Those that no larger one tells: `count(S ∪ {c}) < EXPLAINED · count(S)` for every c."""
    largest: defaultdict[frozenset, int] = defaultdict(int)
    for members, count in itemsets.items():
        for member in members:
            smaller = members - {member}
            largest[smaller] = max(largest[smaller], count)
    return [members for members, count in itemsets.items() if largest[members] < EXPLAINED * count]


def _intents(kept: Iterable[frozenset], baskets: Iterable[tuple[frozenset[str], str]]) -> dict[frozenset, Counter[str]]:
    """Pattern -> the intents of the baskets that hold it."""
    intents: dict[frozenset, Counter[str]] = {members: Counter() for members in kept}
    holding: defaultdict[str, list[frozenset]] = defaultdict(list)
    for members in intents:
        holding[min(members)].append(members)
    for basket, intent in baskets:
        for members in (members for member in basket for members in holding.get(member, ()) if intent):
            if members <= basket:
                intents[members][intent] += 1
    return intents


def _pattern(
    kind: Kind,
    members: frozenset[str],
    found: FrequentItemsets,
    rule: _Rule,
    intents: Counter[str],
    titles: Mapping[str, str],
) -> Pattern:
    consequent, confidence, lift = rule
    count = found.itemsets[members]
    common = tuple(intent for intent, _ in sorted(intents.items(), key=lambda item: (-item[1], item[0]))[:3])
    shown = {member: titles.get(member, member) for member in members}
    others = [shown[member] for member in sorted(members) if member != consequent]
    text = _TEXT[kind].format(
        others=_joined(others), consequent=shown[consequent], confidence=confidence, count=count, lift=lift
    )
    text += f" It is bought for: {'; '.join(common)}." if common and kind != "intent" else ""
    return Pattern(
        *(kind, tuple(sorted(members)), count, count / found.baskets, confidence, lift, consequent, common, text)
    )


_FIGURES = "in {confidence:.0%} of cases ({count} times, {lift:.1f} times as often as elsewhere)."
_TEXT: dict[str, str] = {
    "category": f"With {{others}} goes {{consequent}}, {_FIGURES}",
    "item": f"With “{{others}}” goes “{{consequent}}”, {_FIGURES}",
    "intent": f"Where an intent says {{others}}, it says {{consequent}} too, {_FIGURES}",
}


def _joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def verbalise(mined: Iterable[Mined], most: int | None = None) -> str:
    """Patterns as a list for a prompt or a reader, a line each, the commonest of each kind first."""
    return "\n".join(f"- {pattern.text}" for part in mined for pattern in part.patterns[:most])
