"""Who rates which explanation, and the random draw that a permutation test repeats.

A design is made in two steps that know nothing of each other's chance:

1. *Places*: which item stands at which position of which rater. Item i is shown c_i times, c_i within one of R·k/N,
   and to a rater once.
2. *Methods*: `draw` says whose explanation of the item stands there.

So, under the hypothesis that methods do not matter, the methods that were shown and the methods of any further `draw`
on the same places are equally likely to be the ones shown: repeating step 2 gives the exact distribution of any
statistic (Fisher's randomisation test), with raters, items and positions as they were. Nothing about `draw` matters
for that but its being the same function; what it does matter for is balance.

*Balance.* Methods are colours of seats. A set of seats is equitably coloured where any two colours' counts differ by at
most one. Two laminar families of sets (any two sets of a family are nested or disjoint) always have a common equitable
colouring (de Werra, 1971: their matrix is totally unimodular). The first family is the raters. The second is all seats
⊃ positions ⊃ an item's seats at one position. Items are laid over positions in pieces of as many seats as there are
methods, and at most one smaller piece, so an item whose pieces lie whole in positions is equitable too; the few (less
than k) that a position's end cuts in two are repaired by drawing again.

*More raters.* W raters, the smallest number at which all counts come out equal (W·k a multiple of N·M, W of M), make a
*wave*. Each wave has random numbers of its own, so a design for more raters begins with all whole waves of one for
fewer. A rater who is replaced hands the row on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from understudy.errors import ConfigError

_SWEEPS = 2
_REPAIRS = 60
_DEALS = 12
_LAYOUTS = 20
_SIDE_BY_SIDE = 1 << 16  # seats of designs that are drawn in one go


@dataclass(frozen=True, slots=True)
class Seat:
    """One explanation before one rater.

    Attributes:
        rater: number of the rater, from 0.
        position: number of the explanation among the rater's, from 0.
        item: id of the item.
        method: whose explanation of it.
    """

    rater: int
    position: int
    item: str
    method: str


@dataclass(frozen=True, slots=True)
class PairSeat:
    """Two explanations of one item side by side before one rater.

    Attributes:
        rater: number of the rater, from 0.
        position: number of the pair among the rater's, from 0.
        item: id of the item.
        first: the method that stands first (left).
        second: the other one.
    """

    rater: int
    position: int
    item: str
    first: str
    second: str


def assign(items: Sequence[str], methods: Sequence[str], raters: int, per_rater: int, seed: int) -> tuple[Seat, ...]:
    """A balanced design: counts by method, item, item × method, position × method, rater × method within one.

    Args:
        items: ids of the items.
        methods: what is compared.
        raters: how many rows to make.
        per_rater: explanations a rater; each of another item.
        seed: the same arguments give the same design.

    Returns:
        Seats, raters in order, positions within.

    Raises:
        ConfigError: a name twice, no method, more explanations a rater than items, or none.
    """
    _check(items, methods, 1, raters, per_rater)
    seats, names = [], list(methods)
    for number, wave in enumerate(_waves(raters, wave_size(len(items), len(methods), per_rater))):
        places, drawn = _wave(len(items), len(methods), len(wave), per_rater, (seed, number))
        seats += [
            Seat(wave[rater], position, items[item], names[method])
            for rater, position, item, method in zip(*places.columns(), drawn.tolist(), strict=True)
        ]
    return tuple(seats)


def assign_pairs(
    items: Sequence[str], methods: Sequence[str], raters: int, per_rater: int, seed: int
) -> tuple[PairSeat, ...]:
    """The same for preferences: each two methods are a kind of seat, and a kind stands either way round equally often.

    Args, raises: as `assign`.
    """
    _check(items, methods, 2, raters, per_rater)
    kinds = list(combinations(methods, 2))
    labels = [str(number) for number in range(len(kinds))]
    seats = assign(items, labels, raters, per_rater, seed)
    turned = _orientation(seats, np.random.default_rng([seed, 2]))[0]
    return tuple(_side_by_side(seat, kinds, bool(turn)) for seat, turn in zip(seats, turned, strict=True))


def _side_by_side(seat: Seat, kinds: list[tuple[str, str]], turn: bool) -> PairSeat:
    first, second = kinds[int(seat.method)]
    if turn:
        first, second = second, first
    return PairSeat(seat.rater, seat.position, seat.item, first, second)


def redraw(seats: Sequence[Seat], rng: np.random.Generator) -> list[str]:
    """Methods drawn anew as `assign` drew them, raters, items and positions as they are; in the seats' order.

    Args:
        seats: all seats of a design, in any order, also those that nobody took.
        rng: source of the draw.
    """
    names, codes = redraws(seats, 1, rng)
    return [names[code] for code in codes[0]]


def redraws(seats: Sequence[Seat], count: int, rng: np.random.Generator) -> tuple[list[str], np.ndarray]:
    """Many redraws: the methods' names, sorted, and `[count, seats]` numbers into them."""
    names, _, waves = _design(seats)
    drawn = np.zeros((count, len(seats)), dtype=np.int16)
    for chosen, places in waves:
        for rows in _chunks(count, len(chosen)):
            several = draw(places, len(names), rng, count=len(rows), deals=_DEALS * _LAYOUTS)
            drawn[rows.start : rows.stop, chosen] = several
    return names, drawn


def exchanges(
    seats: Sequence[Seat], pair: tuple[str, str], count: int, rng: np.random.Generator
) -> tuple[list[str], np.ndarray]:
    """As `redraws`, two methods only: their seats shared out between them, those of all others as they are."""
    names, methods, waves = _design(seats)
    numbers = names.index(pair[0]), names.index(pair[1])
    drawn = np.zeros((count, len(seats)), dtype=np.int16)
    for chosen, places in waves:
        for rows in _chunks(count, len(chosen)):
            shared = exchange(places, methods[chosen], numbers, rng, count=len(rows))
            drawn[rows.start : rows.stop, chosen] = shared
    return names, drawn


def _design(seats: Sequence[Seat]) -> tuple[list[str], np.ndarray, list[tuple[np.ndarray, Places]]]:
    """Names of the methods, each seat's number of them, and the waves: which seats, and their places."""
    rater, position, item, methods = (
        np.unique(np.array([getattr(seat, name) for seat in seats]), return_inverse=True)[1]
        for name in ("rater", "position", "item", "method")
    )
    names = sorted({seat.method for seat in seats})
    size = wave_size(int(item.max()) + 1, len(names), int(position.max()) + 1)
    waves = []
    for wave in _waves(int(rater.max()) + 1, size):
        chosen = np.flatnonzero((rater >= wave.start) & (rater < wave.stop))
        waves.append((chosen, Places(rater[chosen] - wave.start, position[chosen], item[chosen])))
    return names, methods, waves


def _chunks(count: int, seats: int) -> list[range]:
    """Designs drawn side by side: as many as fit into some megabytes."""
    size = max(1, _SIDE_BY_SIDE // seats)
    return [range(start, min(start + size, count)) for start in range(0, count, size)]


def redraw_pairs(seats: Sequence[PairSeat], count: int, rng: np.random.Generator) -> np.ndarray:
    """`[count, seats]` which pairs stand the other way round in further draws of sides."""
    as_seats = [
        Seat(seat.rater, seat.position, seat.item, "|".join(sorted((seat.first, seat.second)))) for seat in seats
    ]
    stands = np.array([seat.first > seat.second for seat in seats])
    drawn = [_orientation(as_seats, rng, len(rows)) for rows in _chunks(count, len(seats))]
    return np.concatenate(drawn).astype(bool) != stands


def wave_size(items: int, methods: int, per_rater: int) -> int:
    """Raters after which all counts are equal: smallest multiple of M with W·k a multiple of N·M."""
    return math.lcm(methods, items * methods // math.gcd(items * methods, per_rater))


def _wave(
    num_items: int, num_methods: int, raters: int, per_rater: int, seed: tuple[int, int]
) -> tuple[Places, np.ndarray]:
    """Places and methods of one wave; other places where the first admit no balance that is found.

    What is kept is a draw that succeeded, as redraws are, so that one is as likely as the other.
    """
    attempt = 0
    while True:
        places = _places(num_items, num_methods, raters, per_rater, np.random.default_rng([*seed, attempt, 0]))
        methods = draw(places, num_methods, np.random.default_rng([*seed, attempt, 1]))
        attempt += 1
        if attempt == _LAYOUTS or not _excess(places.item, methods, num_methods).any():
            return places, methods[0]


def _waves(raters: int, size: int) -> list[range]:
    return [range(start, min(start + size, raters)) for start in range(0, raters, size)]


def _check(items: Sequence[str], methods: Sequence[str], least: int, raters: int, per_rater: int) -> None:
    if len(set(items)) < len(items) or len(set(methods)) < len(methods):
        raise ConfigError("an item or a method is named twice", hint="give each a name of its own")
    if len(methods) < least:
        raise ConfigError(f"this study needs at least {least} methods", hint="name more runs or methods")
    if not 1 <= per_rater <= len(items):
        raise ConfigError(
            f"{per_rater} explanations a rater of {len(items)} items: each must be of another item",
            hint="ask for fewer explanations a rater, or choose more items",
        )
    if raters * per_rater < len(methods):
        raise ConfigError("fewer ratings than methods", hint="ask for more raters")


# Places ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Places:
    """A design without its methods: `[S]` numbers of rater, position and item."""

    rater: np.ndarray
    position: np.ndarray
    item: np.ndarray

    def columns(self) -> tuple[list[int], list[int], list[int]]:
        """The three as lists."""
        return self.rater.tolist(), self.position.tolist(), self.item.tolist()


def _places(num_items: int, num_methods: int, raters: int, per_rater: int, rng: np.random.Generator) -> Places:
    """Items over positions, then over raters, one rater at a time.

    What is left of items × positions is a bipartite multigraph whose positions have as many edges as raters are left,
    and no item more; by König's theorem some matching takes every position and every item that has so many.
    """
    from scipy.optimize import linear_sum_assignment

    left = _items_at_positions(num_items, num_methods, raters, per_rater, rng)
    rows = []
    for remaining in range(raters, 0, -1):
        degrees = left.sum(axis=0)
        worth = degrees + rng.random(num_items) + np.where(degrees == remaining, 10.0 * raters, 0.0)
        cost = np.where(left > 0, -(worth + rng.random(left.shape)), 1e4 * raters)
        positions, chosen = linear_sum_assignment(cost)
        left[positions, chosen] -= 1
        rows.append(chosen)
    rater, position = np.divmod(np.arange(raters * per_rater), per_rater)
    return Places(rater, position, np.concatenate(rows))


def _items_at_positions(
    num_items: int, num_methods: int, raters: int, per_rater: int, rng: np.random.Generator
) -> np.ndarray:
    """`[positions, items]` how often; rows sum to `raters`, columns are within one, in pieces of a seat a method."""
    each, more = divmod(raters * per_rater, num_items)
    counts = each + rng.permutation(np.arange(num_items) < more)
    pieces = [
        [item, min(num_methods, count - start)]
        for item, count in enumerate(counts.tolist())
        for start in range(0, count, num_methods)
    ]
    pieces = [pieces[number] for number in rng.permutation(len(pieces))]
    table = np.zeros((per_rater, num_items), dtype=np.int64)
    for row in table:
        room = raters
        while room:
            piece = _fitting(pieces, room)
            taken = min(piece[1], room)
            row[piece[0]] += taken
            room -= taken
            piece[1] -= taken
            if not piece[1]:
                pieces.remove(piece)
    return table


def _fitting(pieces: list[list[int]], room: int) -> list[int]:
    """A piece that fills the room to its end, or one that fits, or one that will be cut."""
    exact = (piece for piece in pieces if piece[1] == room)
    smaller = (piece for piece in pieces if piece[1] < room)
    return next(exact, None) or next(smaller, None) or pieces[0]


# Methods --------------------------------------------------------------------------------------------------------------

Families = tuple[tuple[np.ndarray, ...], ...]
"""Two laminar families, each as levels from its smallest sets to its largest: numbers of sets, one a seat."""


def draw(
    places: Places, num_methods: int, rng: np.random.Generator, *, count: int = 1, deals: int = _DEALS
) -> np.ndarray:
    """`[count, S]` methods: dealt at random, then each two of them shared out anew until all sets are equitable.

    To share out two methods, their seats are paired at random within each set, smallest sets first. Every seat has at
    most one partner in each family, so pairs join into paths and even cycles; along each, methods alternate. No set
    then has more than one seat without its counterpart. Σ counts² over sets falls with each sharing that changes the
    balance of a set by more than one, so this ends. At last the methods' names are dealt anew, so that none of them is
    treated unlike another. Designs are drawn side by side and know nothing of each other.
    """
    seats = len(places.item)
    if num_methods == 1:
        return np.zeros((count, seats), dtype=np.int64)
    methods = np.argsort(rng.random((count, seats)), axis=1) % num_methods
    families = _families(places, count)
    sweeps = 0
    while sweeps < _SWEEPS or _unbalanced(families, methods, num_methods):
        for pair in combinations(range(num_methods), 2):
            methods = _share_out(methods, np.tile(pair, (count, 1)), families, rng)
        sweeps += 1
    methods = _repair(methods, places, num_methods, rng)
    failed = np.flatnonzero(_excess(places.item, methods, num_methods))
    if len(failed) and deals > 1:
        methods[failed] = draw(places, num_methods, rng, count=len(failed), deals=deals - 1)
    names = np.argsort(rng.random((count, num_methods)), axis=1)
    return np.take_along_axis(names, methods, axis=1)


def exchange(
    places: Places,
    methods: np.ndarray,
    pair: tuple[int, int],
    rng: np.random.Generator,
    *,
    count: int,
    tries: int = 20,
) -> np.ndarray:
    """`[count, S]` designs in which the seats of two methods are shared out between them anew, all others as they are.

    Args:
        places: of the design.
        methods: `[S]` the design's methods.
        pair: the two.
        rng: source of the draw.
        count: how many.
        tries: how often an item that a position's end cuts in two is drawn again for its balance.
    """
    tiled, allowed = np.tile(methods, (count, 1)), int(_excess(places.item, methods[None], int(methods.max()) + 1)[0])
    shared = _share_out(tiled, np.tile(pair, (count, 1)), _families(places, count), rng)
    failed = np.flatnonzero(_excess(places.item, shared, int(methods.max()) + 1) > allowed)
    if len(failed) and tries > 1:
        shared[failed] = exchange(places, methods, pair, rng, count=len(failed), tries=tries - 1)
    return shared


def _families(places: Places, count: int) -> Families:
    """Raters; and an item's seats at a position, positions, all: each of `count` designs with sets of its own."""
    pieces = np.unique(places.item * (int(places.position.max()) + 1) + places.position, return_inverse=True)[1]
    levels = (places.rater,), (pieces, places.position, np.zeros_like(pieces))
    return tuple(tuple(_side_by_side_sets(level, count) for level in family) for family in levels)


def _side_by_side_sets(sets: np.ndarray, count: int) -> np.ndarray:
    return (sets + (int(sets.max()) + 1) * np.arange(count)[:, None]).ravel()


def _unbalanced(families: Families, methods: np.ndarray, num_methods: int) -> bool:
    flat = methods.reshape(1, -1)
    return any(_excess(level, flat, num_methods).any() for family in families for level in family)


def _excess(sets: np.ndarray, methods: np.ndarray, num_methods: int) -> np.ndarray:
    """`[designs]` by how much the counts of methods in sets differ beyond one, summed over the sets."""
    num_sets = int(sets.max()) + 1
    cells = (np.arange(len(methods))[:, None] * num_sets + sets) * num_methods + methods
    counts = np.bincount(cells.ravel(), minlength=len(methods) * num_sets * num_methods)
    spread = np.ptp(counts.reshape(len(methods), num_sets, num_methods), axis=2)
    return np.maximum(spread - 1, 0).sum(axis=1)


def _share_out(methods: np.ndarray, pairs: np.ndarray, families: Families, rng: np.random.Generator) -> np.ndarray:
    """`[designs, S]` with the seats of two methods, `pairs` `[designs, 2]`, shared out anew between them."""
    seats = np.flatnonzero((methods == pairs[:, :1]) | (methods == pairs[:, 1:]))
    edges = [_partners([level[seats] for level in family], rng) for family in families]
    shared = methods.copy()
    shared.ravel()[seats] = pairs[seats // methods.shape[1], _alternate(len(seats), np.concatenate(edges), rng)]
    return shared


def _partners(levels: list[np.ndarray], rng: np.random.Generator) -> np.ndarray:
    """`[E, 2]` random pairs of seats, within the smallest sets first; a set leaves at most one seat to the next."""
    alone = np.arange(len(levels[0]))
    found = []
    for level in levels:
        alone = alone[np.argsort(level[alone] + rng.random(len(alone)))]
        sets = level[alone]
        begins = np.diff(sets, prepend=-1) != 0
        rank = np.arange(len(sets)) - np.maximum.accumulate(np.where(begins, np.arange(len(sets)), 0))
        second = np.flatnonzero(rank % 2 == 1)
        found.append(np.stack([alone[second - 1], alone[second]], axis=1))
        alone = np.delete(alone, np.concatenate([second - 1, second]))
    return np.concatenate(found)


def _alternate(count: int, edges: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`[count]` bits that differ along every edge of a bipartite graph; each component's phase by a fair coin.

    In the double cover, edges (u, 0)–(v, 1) and (u, 1)–(v, 0), each component is there twice: once for either phase.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    u, v = edges.T
    ends = np.concatenate([u, u + count]), np.concatenate([v + count, v])
    cover = coo_array((np.ones(2 * len(edges), dtype=np.int8), ends), shape=(2 * count, 2 * count))
    number, labels = connected_components(cover, directed=False)
    one, other = labels[:count], labels[count:]
    coins = rng.integers(0, 2, size=number).astype(bool)
    return ((one < other) ^ coins[np.minimum(one, other)]).astype(np.int64)


def _repair(methods: np.ndarray, places: Places, num_methods: int, rng: np.random.Generator) -> np.ndarray:
    """Sharing out anew what an item cut in two has too much and too little of, kept where it makes nothing worse."""
    excess = _excess(places.item, methods, num_methods)
    for _ in range(_REPAIRS):
        failed = np.flatnonzero(excess)
        if not len(failed):
            break
        pairs = _worst_pairs(methods[failed], places.item, num_methods, rng)
        tried = _share_out(methods[failed], pairs, _families(places, len(failed)), rng)
        new = _excess(places.item, tried, num_methods)
        better = new <= excess[failed]
        methods[failed[better]], excess[failed[better]] = tried[better], new[better]
    return methods


def _worst_pairs(methods: np.ndarray, items: np.ndarray, num_methods: int, rng: np.random.Generator) -> np.ndarray:
    """`[designs, 2]` the methods that the item of largest spread has most and least of; equals by chance."""
    num_items, designs = int(items.max()) + 1, np.arange(len(methods))
    cells = (designs[:, None] * num_items + items) * num_methods + methods
    counts = np.bincount(cells.ravel(), minlength=len(methods) * num_items * num_methods)
    table = counts.reshape(len(methods), num_items, num_methods) + rng.random((len(methods), 1, num_methods)) / 2
    worst = table[designs, np.argmax(np.ptp(table, axis=2), axis=1)]
    return np.stack([np.argmax(worst, axis=1), np.argmin(worst, axis=1)], axis=1)


# Sides ----------------------------------------------------------------------------------------------------------------


def _orientation(seats: Sequence[Seat], rng: np.random.Generator, count: int = 1) -> np.ndarray:
    """`[count, S]` which pairs are turned round: of each rater's, of each kind at an item, of each kind half."""
    rater, kind, item = (
        np.unique([str(getattr(seat, name)) for seat in seats], return_inverse=True)[1]
        for name in ("rater", "method", "item")
    )
    cells = np.unique(item * (int(kind.max()) + 1) + kind, return_inverse=True)[1]
    levels = (rater,), (cells, kind, np.zeros_like(kind))
    families = tuple(tuple(_side_by_side_sets(level, count) for level in family) for family in levels)
    blank = np.zeros((count, len(seats)), dtype=np.int64)
    return _share_out(blank, np.tile([0, 1], (count, 1)), families, rng)
