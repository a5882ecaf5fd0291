"""What a teacher might write about sessions – explanations, rules, thoughts – worded in several ways.

Nothing here goes into the package: the texts are what the embedded models read; what they write afterwards is theirs.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from understudy.data.sessions import Item, Session, described
from understudy.sessions.discrepancies import Discrepancy


def joined(parts: Sequence[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _kinds(numbers: Sequence[int], session: Session) -> list[str]:
    return [session.items[number - 1].category for number in numbers]


def _sides(difference: Discrepancy, session: Session) -> tuple[list[str], list[str], str]:
    """Categories in question, those beside them, and what the true bundle is for."""
    beside: list[int] = []
    if difference.kind == "missed_item" and difference.predicted and difference.truth:
        beside = sorted({*difference.predicted.items} & {*difference.truth.items})
    if difference.kind == "extra_item" and difference.truth:
        beside = list(difference.truth.items)
    intent = difference.truth.intent if difference.truth else ""
    return _kinds(difference.items, session), _kinds(beside, session), intent


def explanation(draw: random.Random, difference: Discrepancy, session: Session) -> str:
    """Why the truth is another, in a sentence."""
    own, beside, intent = _sides(difference, session)
    forms = {
        "missed_item": ("{own} goes with {beside}, for {intent}.", "{intent} takes {own} beside {beside}."),
        "extra_item": ("{own} serves another end than {beside}.", "{intent} takes {beside}, but no {own}."),
        "missed_bundle": ("{own} are bought together for {intent}.", "{intent} takes {own}."),
        "invented_bundle": ("{own} serve different ends.", "{own} are bought apart, each for itself."),
        "wrong_intent": ("{own} are bought for {intent}.", "{intent} takes {own}."),
    }[difference.kind]
    form = draw.choice(forms)
    return capital(form.format(own=joined(own), beside=joined(beside or own), intent=intent))


def rule(draw: random.Random, difference: Discrepancy, session: Session) -> str:
    """What follows for other sessions, in a sentence without numbers."""
    own, beside, intent = _sides(difference, session)
    if difference.kind == "extra_item":
        return capital(f"{joined(own)} does not go with {joined(beside)}.")
    if difference.kind == "invented_bundle":
        return apart(own)
    return together(draw, own + beside, intent)


def together(draw: random.Random, categories: Sequence[str], intent: str) -> str:
    """Categories that go together, and what for."""
    forms = ("{kinds} go together, for {intent}.", "{kinds} are bought together for {intent}.")
    return capital(draw.choice(forms).format(kinds=joined(list(categories)), intent=intent))


def apart(categories: Sequence[str]) -> str:
    """Categories that do not go together."""
    return capital(f"{joined(list(categories))} do not go together.")


def merged(categories: Sequence[str], intents: Sequence[str]) -> str:
    """One rule for several."""
    return capital(f"{joined(list(categories))} go together, for {' or '.join(dict.fromkeys(intents))}.")


def thoughts(session: Session) -> str:
    """Bundle by bundle: what its items are, what they are bought for, why just these."""
    return "\n".join(_thought(session.items_of(bundle), bundle.intent) for bundle in session.bundles)


def _thought(items: Sequence[Item], intent: str) -> str:
    first, *rest = [item.category for item in items]
    return f"{joined([described(item) for item in items])} are bought for {intent}: {joined(rest)} go with {first}."
