"""Which items people see: those that every method explains, drawn so that it is known for how many each stands.

w_i = N_h / n_h    for item i of stratum h, of whose N_h items n_h are drawn
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace

from understudy.errors import ConfigError
from understudy.study.items import StudyItem
from understudy.study.sources import MethodTexts

STRATA = ("right", "mixed", "wrong", "unknown")


def candidates(methods: Sequence[MethodTexts]) -> list[StudyItem]:
    """The items that every method explains, in the order of the first, each of weight 1.

    Raises:
        ConfigError: no item has a text of every method, or one id stands for two questions.
    """
    ids = set.intersection(*(set(method.explained) for method in methods))
    items = [_item(name, methods) for name in methods[0].explained if name in ids]
    if not items:
        counts = ", ".join(f"{method.name} {len(method.explained):,}" for method in methods)
        raise ConfigError(
            f"no item is explained by every method (texts: {counts})", hint="give runs on the same test rows"
        )
    return items


def _item(name: str, methods: Sequence[MethodTexts]) -> StudyItem:
    rows = {method.name: method.explained[name] for method in methods}
    first = next(iter(rows.values()))
    for method, row in rows.items():
        if (row.question.split(), row.choices) != (first.question.split(), first.choices):
            raise ConfigError(f"item {name!r} is another question in {method}", hint="give runs on the same test rows")
    texts = {method: row.text for method, row in rows.items()}
    stratum = stratum_of([text.correct for text in texts.values()])
    return StudyItem(name, stratum, 1.0, first.question, first.choices, first.gold, texts, first.context)


def stratum_of(correct: Sequence[bool | None]) -> str:
    """`right`: all methods answer rightly; `wrong`: none does; else `mixed`, or `unknown` without a right answer."""
    if None in correct:
        return "unknown"
    return "mixed" if len(set(correct)) > 1 else "right" if correct[0] else "wrong"


def matched_in_length(items: Sequence[StudyItem], ratio: float, number: int) -> list[StudyItem]:
    """The items whose longest text is at most `ratio` times as long as their shortest.

    Raises:
        ConfigError: they are fewer than `number`; the hint has the smallest ratio that leaves enough.
    """
    kept = [item for item in items if length_ratio(item) <= ratio]
    if len(kept) < number:
        ratios = sorted(length_ratio(item) for item in items)
        enough = f"--length-ratio {ratios[number - 1] + 0.005:.2f} leaves {number}" if len(items) >= number else ""
        raise ConfigError(
            f"{len(kept)} of {len(items)} items have texts matched in length within {ratio:g}, and {number} are wanted",
            hint=enough or f"there are {len(items)} items in all: ask for fewer",
        )
    return kept


def length_ratio(item: StudyItem) -> float:
    """Longest over shortest text of an item, in characters."""
    lengths = [text.length for text in item.methods.values()]
    return max(lengths) / min(lengths)


def draw(items: Sequence[StudyItem], number: int, by: str, rng: random.Random) -> list[StudyItem]:
    """Items for a study, with their weights, in the order in which they came.

    Args:
        items: the candidates.
        number: how many are wanted.
        by: `random`; `disagreement`: as many of each stratum, as far as it has them.
        rng: draws them.

    Raises:
        ConfigError: there are fewer items than wanted.
    """
    if number > len(items):
        raise ConfigError(
            f"{number} items are wanted, and every method explains {len(items)}", hint=f"ask for --items {len(items)}"
        )
    strata: dict[str, list[StudyItem]] = {}
    for item in items:
        strata.setdefault(item.stratum if by == "disagreement" else "", []).append(item)
    if by == "disagreement" and set(strata) == {"unknown"}:
        raise ConfigError("no right answers are known, so there is no disagreement", hint="take --by random")
    shares = even_shares({name: len(rows) for name, rows in strata.items()}, number)
    drawn = {
        item.id: replace(item, weight=len(rows) / shares[name])
        for name, rows in sorted(strata.items())
        for item in (rng.sample(rows, shares[name]) if shares[name] else ())
    }
    return [drawn[item.id] for item in items if item.id in drawn]


def even_shares(sizes: dict[str, int], number: int) -> dict[str, int]:
    """How many of each stratum: as even as their sizes let it be, the larger strata first where it does not come out.

    Args:
        sizes: stratum -> how many it has.
        number: to be shared out, at most the sum of the sizes.
    """
    shares = dict.fromkeys(sizes, 0)
    while sum(shares.values()) < number:
        room = [name for name in sizes if shares[name] < sizes[name]]
        least = min(room, key=lambda name: (shares[name], -sizes[name], name))
        shares[least] += 1
    return shares
