"""Where an answer departs from the truth, by type, in words; and what is wrong with an answer without any truth.

Bundles belong together by a matching of maximum overlap: the largest sum of |p ∩ t| over pairs, and of equal ones that
of the largest sum of |p ∩ t| / |p ∪ t|. A pair shares an item at least.

| kind | when |
|---|---|
| `missed_item` | a true bundle has items that the predicted one beside it lacks |
| `extra_item` | a predicted bundle has items that the true one beside it has not |
| `missed_bundle` | a true bundle stands beside none |
| `invented_bundle` | a predicted bundle stands beside none |
| `wrong_intent` | both of a pair have an intent, and these have no telling word in common |

Where a bundle is right to the item and its intent is not wrong there is nothing to say. The types are those of the
feedback in adaptive in-context learning for bundles; their definitions are ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal, get_args

import numpy as np

from understudy.bundle_answers import UNKNOWN, Bundle
from understudy.data.sessions import Session, described
from understudy.sessions.patterns import telling_words

DiscrepancyKind = Literal["missed_item", "extra_item", "missed_bundle", "invented_bundle", "wrong_intent"]
DISCREPANCIES: tuple[DiscrepancyKind, ...] = get_args(DiscrepancyKind)


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """One difference between answer and truth.

    Attributes:
        kind: which.
        items: the numbers that are missed or too many; of a whole bundle all of them.
        predicted: the predicted bundle; None where one is missed.
        truth: the true bundle; None where one is invented.
    """

    kind: DiscrepancyKind
    items: tuple[int, ...]
    predicted: Bundle | None = None
    truth: Bundle | None = None


def discrepancies(predicted: Sequence[Bundle], truth: Sequence[Bundle]) -> tuple[Discrepancy, ...]:
    """All differences of one session, in the order of the true bundles, then of the invented ones.

    A bundle that is predicted twice is invented the second time, unless another truth is left for it.
    """
    partner = _partners(predicted, truth)
    beside = {place: number for number, place in partner.items()}
    of_truth = (
        _of_pair(predicted[beside[place]], bundle)
        if place in beside
        else [Discrepancy("missed_bundle", bundle.items, truth=bundle)]
        for place, bundle in enumerate(truth)
    )
    invented = (
        Discrepancy("invented_bundle", bundle.items, predicted=bundle)
        for number, bundle in enumerate(predicted)
        if number not in partner
    )
    return (*chain.from_iterable(of_truth), *invented)


def _partners(predicted: Sequence[Bundle], truth: Sequence[Bundle]) -> dict[int, int]:
    """Place of a predicted bundle -> place of the true one beside it."""
    from scipy.optimize import linear_sum_assignment

    if not predicted or not truth:
        return {}
    # Shares of a matching add up to less than `most`, so they never outweigh one more item in common.
    most = min(len(predicted), len(truth)) + 1
    weights = np.array([[_overlap(p, t, most) for t in truth] for p in predicted])
    rows, columns = linear_sum_assignment(weights, maximize=True)
    return {int(i): int(j) for i, j in zip(rows, columns, strict=True) if weights[i, j] > 0}


def _overlap(predicted: Bundle, truth: Bundle, most: int) -> float:
    common = len({*predicted.items} & {*truth.items})
    return common + common / len({*predicted.items, *truth.items}) / most if common else 0.0


def _of_pair(predicted: Bundle, truth: Bundle) -> list[Discrepancy]:
    missed = tuple(sorted({*truth.items} - {*predicted.items}))
    extra = tuple(sorted({*predicted.items} - {*truth.items}))
    rows = [Discrepancy("missed_item", missed, predicted, truth)] if missed else []
    rows += [Discrepancy("extra_item", extra, predicted, truth)] if extra else []
    words = [set(telling_words(bundle.intent)) for bundle in (predicted, truth)]
    if all(words) and not words[0] & words[1]:
        rows.append(Discrepancy("wrong_intent", truth.items, predicted, truth))
    return rows


def describe(discrepancy: Discrepancy, session: Session) -> str:
    """A difference with the truth in it, for whoever is to explain it: titles and categories, no numbers."""
    items = _titles(discrepancy.items, session)
    purpose = f", for {discrepancy.truth.intent}" if discrepancy.truth and discrepancy.truth.intent else ""
    if discrepancy.kind == "missed_bundle":
        return f"Missed bundle: {items}{purpose}."
    if discrepancy.kind == "invented_bundle":
        return f"Invented bundle: {items} are not bought together."
    assert discrepancy.predicted is not None
    assert discrepancy.truth is not None
    if discrepancy.kind == "wrong_intent":
        return f"Wrong intent: {items} are bought for {discrepancy.truth.intent}, not {discrepancy.predicted.intent}."
    common = sorted({*discrepancy.predicted.items} & {*discrepancy.truth.items})
    if discrepancy.kind == "missed_item":
        return f"Missed item: {items} belongs to {_titles(common, session)}{purpose}."
    return f"Extra item: {items} does not belong to {_titles(discrepancy.truth.items, session)}{purpose}."


def _titles(numbers: Sequence[int], session: Session) -> str:
    items = [
        described(session.items[number - 1]) if 0 < number <= len(session.items) else "an unknown item"
        for number in numbers
    ]
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def hint(discrepancy: Discrepancy) -> str:
    """A difference by its type alone, for whoever is to correct an answer by itself: the truth is not told."""
    if discrepancy.predicted is None:
        return "A bundle is missing."
    items = list(discrepancy.predicted.items)
    return {
        "missed_item": f"Bundle {items} lacks an item.",
        "extra_item": f"Bundle {items} has an item that does not belong there.",
        "invented_bundle": f"{items} is no bundle.",
        "wrong_intent": f"The intent of bundle {items} is wrong.",
    }[discrepancy.kind]


def faults(predicted: Sequence[Bundle] | None, session: Session) -> tuple[str, ...]:
    """What is wrong with an answer whatever the truth: it cannot be read, names unknown items, single ones, one twice.

    Args:
        predicted: the bundles of the answer; None where it cannot be read.
        session: whose bundles are not looked at.
    """
    if predicted is None:
        return ("The answer cannot be read.",)
    seen: set[tuple[int, ...]] = set()
    lines: dict[str, None] = {} if predicted else {"There is no bundle.": None}
    for bundle in predicted:
        unknown = [number for number in bundle.items if not 0 < number <= len(session.items)]
        shown = ", ".join("something that is no number" if number == UNKNOWN else str(number) for number in unknown)
        if unknown:
            lines[f"Not among the items: {shown}."] = None
        if len(bundle.items) < 2:
            lines[f"Bundle {list(bundle.items)} has one item."] = None
        if bundle.items in seen:
            lines[f"Bundle {list(bundle.items)} stands there twice."] = None
        seen.add(bundle.items)
    return tuple(lines)
