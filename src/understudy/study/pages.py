"""The pages that one rater sees, in order; they follow from the study and the rater's place alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from understudy.study.assignment import PairSeat, Seat
from understudy.study.config import HIGHEST, LOWEST, StudyConfig

Kind = Literal["consent", "about", "practice", "check", "foresee", "item", "pair", "attention", "final"]


@dataclass(frozen=True)
class Page:
    """One page.

    Attributes:
        kind: what it asks.
        seat: the item and whose explanation; None on pages without one.
        number: place among the pages with items, or among the attention checks, from 1; 0 elsewhere.
        wanted: the rating that an attention check asks for; 0 elsewhere.
    """

    kind: Kind
    seat: Seat | PairSeat | None = None
    number: int = 0
    wanted: int = 0


def pages_of(config: StudyConfig, seats: Sequence[Seat | PairSeat], slot: int) -> tuple[Page, ...]:
    """All pages of the rater in a slot, the consent first.

    Args:
        config: of the study.
        seats: what the rater sees, in order.
        slot: the rater's place, which draws where attention checks stand and what they ask for.
    """
    before = [Page("consent")]
    before += [Page("about")] if config.demographics else []
    before += [Page("practice")] if config.practice and not config.pairwise else []
    before += [Page("check")] if config.comprehension else []
    return (*before, *_with_attention(config, seats, slot), Page("final"))


def _with_attention(config: StudyConfig, seats: Sequence[Seat | PairSeat], slot: int) -> list[Page]:
    """The pages of the items, and behind so many of them a check; none behind the last, none on pairs."""
    rng = random.Random(f"attention-{config.seed}-{slot}")
    number = 0 if config.pairwise else min(config.attention_checks, len(seats) - 1)
    behind = set(rng.sample(range(len(seats) - 1), number)) if number else set()
    pages, checks = [], 0
    for place, seat in enumerate(seats):
        pages += _of_item(config, seat, place + 1)
        if place in behind:
            checks += 1
            pages.append(Page("attention", number=checks, wanted=rng.randint(LOWEST, HIGHEST)))
    return pages


def _of_item(config: StudyConfig, seat: Seat | PairSeat, number: int) -> list[Page]:
    if config.pairwise:
        return [Page("pair", seat, number)]
    foresee = [Page("foresee", seat, number)] if config.simulation else []
    return [*foresee, Page("item", seat, number)]
