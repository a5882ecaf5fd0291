"""Cutting sessions into roles: as they were published, or alike in length.

Sessions of the same items are one and go into one split. Within each length the sessions stand in the order of a draw
on their own items; the first go to test, the next to development. What is left of a share in one length is carried to
the next, so each split holds its share of the whole to the session, and of each length to within one of it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from understudy.data.groups import GroupedCut
from understudy.data.sessions import is_session, session_key
from understudy.data.split import draw
from understudy.errors import DataError
from understudy.types import Example

_ROLES = ("train", "dev", "test")


def all_sessions(examples: Sequence[Example]) -> bool:
    """Whether every row is a session."""
    return bool(examples) and all(map(is_session, examples))


def cut_sessions(examples: Sequence[Example], *, dev: float, test: float, seed: int, published: bool) -> GroupedCut:
    """Training, development and test sessions.

    Args:
        examples: sessions; each split keeps their order.
        dev: share for development.
        test: share for test.
        seed: another seed, another cut.
        published: take the split that the data came with, where every session has one; shares and seed do nothing then.

    Raises:
        DataError: the shares leave nothing for training, a split comes out empty, or sessions of the same items were
            published in two splits.
    """
    if published and all("split" in example.meta for example in examples):
        role = _published(examples)
        remark = "The split is the one that the data came with; data.published_split=false cuts another."
    else:
        role, remark = _stratified(examples, dev, test, seed), ""
    rows: dict[str, list[Example]] = {name: [] for name in _ROLES}
    for example in examples:
        rows[role[_key(example)]].append(example)
    train, held_out, last = (tuple(rows[name]) for name in _ROLES)
    return GroupedCut((train, held_out, last), (remark,) if remark else ())


def _key(example: Example) -> str:
    return session_key(example) or example.id


def _published(examples: Sequence[Example]) -> Mapping[str, str]:
    role: dict[str, str] = {}
    first: dict[str, str] = {}
    for example in examples:
        key, split = _key(example), str(example.meta["split"])
        if role.setdefault(key, split) != split:
            raise DataError(
                f"sessions {first[key]} and {example.id} hold the same items, one in {role[key]}, one in {split}",
                hint="take one out, or set data.published_split=false to cut a split without such pairs",
            )
        first.setdefault(key, example.id)
    return role


def _stratified(examples: Sequence[Example], dev: float, test: float, seed: int) -> Mapping[str, str]:
    if dev + test >= 1:
        raise DataError(
            f"data.dev {dev:g} and data.test {test:g} leave nothing for training", hint="their sum must be below 1"
        )
    strata: dict[int, dict[str, float]] = defaultdict(dict)
    for example in examples:
        strata[example.meta["length"]][_key(example)] = draw(seed, "split", _key(example))
    role: dict[str, str] = {}
    carried = {"test": 0.0, "dev": 0.0}
    for length in sorted(strata):
        order = sorted(strata[length], key=lambda key: (strata[length][key], key))
        role |= dict.fromkeys(order, "train")
        start = 0
        for name, share in (("test", test), ("dev", dev)):
            carried[name] += share * len(order)
            count = min(int(carried[name] + 0.5), len(order) - start)
            role |= dict.fromkeys(order[start : start + count], name)
            carried[name] -= count
            start += count
    sizes = Counter(role.values())
    empty = [name for name, share in (("train", 1.0), ("dev", dev), ("test", test)) if share and not sizes[name]]
    if empty:
        raise DataError(
            f"{len(role)} different sessions leave nothing for {empty[0]}",
            hint="give more sessions, or set data.dev or data.test to 0",
        )
    return role
