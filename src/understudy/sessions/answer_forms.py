"""What an answer to a session may look like: a grammar for models that are decoded here, a JSON schema for servers.

Both allow bundles of at least two of the items 1 … n, at most n bundles, and intents of bounded length.
"""

from __future__ import annotations

from typing import Any

LONGEST_INTENT = 60
"""Characters of an intent."""
ORDERED = 60
"""Sessions of more items may name one twice in a bundle: the grammar for ascending numbers grows by its square."""


def answer_grammar(num_items: int) -> str:
    """A Lark grammar of `write_answer`'s form, in which only the items 1 … `num_items` can be named.

    Numbers ascend, so that none stands twice in a bundle; in sessions of more than `ORDERED` items they need not.
    """
    if num_items < 2:
        raise ValueError(f"a session of {num_items} items has no bundle")
    head = rf"""start: " "? "{{\"bundles\": [" bundle (", " bundle){{0,{num_items - 1}}} "]}}"
bundle: "{{\"items\": [" numbers "], \"intent\": \"" INTENT "\"}}"
INTENT: /[^"\\\x00-\x1F]{{1,{LONGEST_INTENT}}}/
"""
    return head + (_ascending(num_items) if num_items <= ORDERED else _any_order(num_items))


def _ascending(count: int) -> str:
    """`numbers` begins anywhere but at the last; after k comes a larger one, or, from the second on, none."""
    lines = ["numbers: " + " | ".join(f'"{k}, " from{k + 1}' for k in range(1, count))]
    for k in range(2, count + 1):
        options = [f'"{number}" rest{number}' for number in range(k, count + 1)]
        lines.append(f"from{k}: {' | '.join(options)}")
        lines.append(f'rest{k}: "" | ", " from{k + 1}' if k < count else f'rest{k}: ""')
    return "\n".join(lines) + "\n"


def _any_order(count: int) -> str:
    numbers = " | ".join(f'"{number}"' for number in range(1, count + 1))
    return f'numbers: number (", " number)+\nnumber: {numbers}\n'


def answer_schema(num_items: int) -> dict[str, Any]:
    """The same as a JSON schema, as far as one can say it: each item once in a bundle, in any order."""
    numbers = {"type": "integer", "enum": list(range(1, num_items + 1))}
    items = {"type": "array", "items": numbers, "minItems": 2, "maxItems": num_items, "uniqueItems": True}
    intent = {"type": "string", "maxLength": LONGEST_INTENT}
    bundle = {
        "type": "object",
        "properties": {"items": items, "intent": intent},
        "required": ["items", "intent"],
        "additionalProperties": False,
    }
    bundles = {"type": "array", "items": bundle, "minItems": 1, "maxItems": num_items}
    return {
        "type": "object",
        "properties": {"bundles": bundles},
        "required": ["bundles"],
        "additionalProperties": False,
    }
