"""A teacher of bundles behind a real HTTP server: what it answers follows from the prompt by rules of its own.

It takes all items of a session for one bundle, unless a rule in its context tells it better. What it says of its errors
is right, useless or harmful by the type of the error; only a measurement on other sessions tells these apart.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from support.servers import Call, Reply
from understudy.bundle_answers import Bundle, write_answer
from understudy.data.sessions import Item, Session

PAIRS = {("stove", "gas"): "camp kitchen", ("tent", "mat"): "sleeping outside", ("pen", "ink"): "writing"}
"""Categories that are bought together -> for what."""
RULES = {pair: f"A {pair[0]} goes with {pair[1]} for {intent}." for pair, intent in PAIRS.items()}
"""What helps it."""
USELESS = "Every single thing has some use of its own."
HARMFUL = "Shoppers who look around buy nothing together."
_ITEM = re.compile(r"^(\d+)\. .* \((\w+)\)$", re.MULTILINE)
MARKS = {
    "Say all of this as one rule": "merge_rules",
    "What rule for other sessions follows?": "state_rule",
    "Answer in one sentence.": "explain_difference",
    "Correct these bundles.": "adjust_bundles",
    "What is each bundle for": "name_intents",
    "For each bundle write a line": "thoughts",
    "Which of these items are bought together": "detect_bundles",
}


def prompt_of(call: Call) -> str:
    """The name of the prompt that a call was made by."""
    last = call.body["messages"][-1]["content"]
    return next(name for mark, name in MARKS.items() if mark in last)


def session(number: int, kinds: str = "stove gas tent mat lamp") -> Session:
    """A session whose pairs are bundles; sessions of different numbers have no item in common."""
    categories = kinds.split()
    items = tuple(Item(f"{kind}-{number}", f"Norv {kind} {number}", kind) for kind in categories)
    bundles = (
        Bundle.of((categories.index(one) + 1, categories.index(other) + 1), intent)
        for (one, other), intent in PAIRS.items()
        if one in categories and other in categories
    )
    return Session(f"s{number}", items, tuple(bundles))


def answer(call: Call) -> Reply:
    """What the teacher says."""
    text = call.body["messages"][-1]["content"]
    items = {int(number): category for number, category in _ITEM.findall(text)}
    return Reply(_ANSWERS[prompt_of(call)](text, items), tokens=(len(text) // 4, 20))


def _detect(text: str, items: Mapping[int, str]) -> str:
    if HARMFUL in text:
        return write_answer(())
    told = [pair for pair in PAIRS if f"{pair[0]} goes with {pair[1]}" in text]
    bundles = [_bundle(pair, items) for pair in told if {*pair} <= {*items.values()}]
    used = {number for bundle in bundles for number in bundle.items}
    rest = Bundle.of(set(items) - used, "all of it")
    return write_answer([*bundles, *([rest] if len(rest.items) > 1 else [])])


def _bundle(pair: tuple[str, str], items: Mapping[int, str]) -> Bundle:
    return Bundle.of((number for number, category in items.items() if category in pair), PAIRS[pair])


def _adjust(text: str, items: Mapping[int, str]) -> str:
    """Told that a bundle is missing it finds one more; that one has an item too many, it drops the last one."""
    shown = json.loads(re.search(r"^Bundles: (.*)$", text, re.MULTILINE)[1])["bundles"]  # pyright: ignore
    bundles = [Bundle.of(row["items"], row.get("intent", "")) for row in shown]
    known = [_bundle(pair, items) for pair in PAIRS if {*pair} <= {*items.values()}]
    if "has an item that does not belong there." in text:
        bundles = [Bundle(b.items[:2], b.intent) for b in bundles]
    if "- A bundle is missing." in text:
        bundles += [bundle for bundle in known if bundle.items not in {b.items for b in bundles}][:1]
    return write_answer(bundles)


def _name_intents(text: str, items: Mapping[int, str]) -> str:
    rows = json.loads(re.search(r"^Bundles: (.*)$", text, re.MULTILINE)[1])  # pyright: ignore
    intents = {tuple(sorted(pair)): intent for pair, intent in PAIRS.items()}
    return write_answer(
        Bundle.of(row, intents.get(tuple(sorted(items[number] for number in row)), "odds and ends")) for row in rows
    )


def _rule(text: str, items: Mapping[int, str]) -> str:
    """A rule that helps of a missed bundle, in one of two wordings; others of an extra item and of a wrong intent."""
    kind = text.partition(":")[0]
    if kind == "Missed bundle":
        pair = next(pair for pair in PAIRS if all(f"({category})" in text for category in pair))
        odd = int(re.search(r" (\d+) \(", text)[1]) // 4 % 2  # pyright: ignore
        return f"- {RULES[pair]}" if odd else f"Rule: So a {pair[0]} goes with {pair[1]} for {PAIRS[pair]}."
    return {"Extra item": USELESS, "Wrong intent": HARMFUL}[kind]


def _merge(text: str, items: Mapping[int, str]) -> str:
    return next((rule for pair, rule in RULES.items() if all(category in text for category in pair)), USELESS)


def _thoughts(text: str, items: Mapping[int, str]) -> str:
    """One line a bundle; on a session with a lamp only of the first one."""
    lines = [
        f"{pair[0]} and {pair[1]}: things for {intent}, so they belong together."
        for pair, intent in PAIRS.items()
        if {*pair} <= {*items.values()}
    ]
    return "\n".join(lines[:1] if "lamp" in items.values() else lines)


_ANSWERS = {
    "detect_bundles": _detect,
    "adjust_bundles": _adjust,
    "name_intents": _name_intents,
    "explain_difference": lambda text, items: "Because they are used at the same place.",
    "state_rule": _rule,
    "merge_rules": _merge,
    "thoughts": _thoughts,
}
