"""What the two shops sell, and what is bought together there."""

from __future__ import annotations

from dataclasses import dataclass

DOMAINS = ("office", "outdoor")
"""The two shops."""

COMMON = (
    *("charger", "cable", "power bank", "headphones", "headphone case"),
    *("camera", "memory card", "camera bag"),
)
"""Categories that both sell, each its own items."""
OWN = {
    "office": (
        *("desk", "desk lamp", "office chair", "seat cushion", "monitor", "monitor arm"),
        *("keyboard", "mouse", "mouse pad", "printer", "ink cartridge", "printer paper"),
    ),
    "outdoor": (
        *("tent", "sleeping bag", "sleeping mat", "stove", "gas canister", "cooking pot"),
        *("backpack", "rain cover", "water bottle", "head lamp", "batteries", "bicycle light"),
    ),
}
"""Categories of one shop alone."""


@dataclass(frozen=True, slots=True)
class Regularity:
    """Categories of which one item each is bought together.

    Attributes:
        categories: two to four.
        intents: how shoppers say what for; the first is the commonest.
        domain: the shop in which it holds; empty: both.
        matched: whether the first two go by model: item k of the first is bought with item k of the second.
    """

    categories: tuple[str, ...]
    intents: tuple[str, ...]
    domain: str = ""
    matched: bool = False


REGULARITIES: tuple[Regularity, ...] = (
    Regularity(("charger", "cable", "power bank"), ("charging devices", "power on the move")),
    Regularity(("headphones", "headphone case"), ("listening to music", "music on the move"), matched=True),
    Regularity(("camera", "memory card", "camera bag"), ("taking pictures", "photography")),
    Regularity(("desk", "desk lamp"), ("lighting a desk", "light for a desk"), "office"),
    Regularity(("office chair", "seat cushion"), ("sitting well", "comfort while sitting"), "office"),
    Regularity(("monitor", "monitor arm"), ("raising a screen", "screen at eye level"), "office", matched=True),
    Regularity(("keyboard", "mouse", "mouse pad"), ("typing and pointing", "computer input"), "office"),
    Regularity(("printer", "ink cartridge", "printer paper"), ("printing at home", "printing"), "office", matched=True),
    Regularity(("desk", "office chair", "monitor", "keyboard"), ("furnishing a workplace", "new workplace"), "office"),
    Regularity(("tent", "sleeping bag", "sleeping mat"), ("sleeping outside", "camping for a night"), "outdoor"),
    Regularity(("stove", "gas canister", "cooking pot"), ("cooking outside", "camp kitchen"), "outdoor", matched=True),
    Regularity(("backpack", "rain cover", "water bottle"), ("hiking for a day", "day hike"), "outdoor"),
    Regularity(("head lamp", "batteries"), ("seeing at night", "light in the dark"), "outdoor"),
    Regularity(("camera", "power bank"), ("filming far from home", "long filming"), "outdoor"),
    Regularity(("bicycle light", "batteries"), ("riding at night", "cycling in the dark"), "outdoor"),
)
"""All that is planted. Camera and power bank belong together outdoors; in the office only by chance."""


def regularities_of(*domains: str) -> tuple[Regularity, ...]:
    """Those that hold in any of these shops; without a name, in either."""
    return tuple(rule for rule in REGULARITIES if not rule.domain or rule.domain in (domains or DOMAINS))


def categories_of(domain: str) -> tuple[str, ...]:
    """What a shop sells."""
    return (*COMMON, *OWN[domain])
