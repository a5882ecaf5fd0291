"""Constellation diagrams that are drawn here, with questions on what they show.

A picture shows the received symbols of one link: random symbols of a modulation with unit mean energy, turned by a
phase error, with white Gaussian noise of a signal-to-noise ratio. The horizontal axis is the in-phase part, the
vertical one the quadrature part, both from −`LIMIT` to `LIMIT`; each symbol makes its point brighter.

Questions are on the modulation, on the signal-to-noise ratio, on the phase error, and on how many symbols a receiver
that takes the nearest point decides wrongly. The text of a question tells nothing of its answer. All pictures come from
the seed; none is stored in the package.
"""

from __future__ import annotations

import io
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from understudy.data.pictures import address_of
from understudy.errors import ConfigError
from understudy.types import Example, Splits

SIZE = 48
"""Points of a side."""
LIMIT = 1.5
"""What lies at the edge; the outermost points of 256-QAM have a coordinate of 1.15."""
STEP = 85
"""How much brighter a symbol makes its point, of 255."""
NUM_SYMBOLS = 256
BITS = {"BPSK": 1, "QPSK": 2, "8-PSK": 3, "16-QAM": 4, "64-QAM": 6, "256-QAM": 8}
"""Modulations, and the bits that a symbol carries."""
LEAST_SNR = {"BPSK": 0, "QPSK": 5, "8-PSK": 10, "16-QAM": 10, "64-QAM": 15, "256-QAM": 20}
"""The worst signal-to-noise ratio in dB that a modulation is drawn with; the others are 5, 10 and 15 dB better."""
TURN = 12.0
"""Degrees of a phase error."""
TURNS = {"none": 0.0, "clockwise": -TURN, "anticlockwise": TURN}
MANY = 0.1
"""The share of symbols decided wrongly from which on they are many."""
WORDINGS = {
    "modulation": (
        "Which modulation is this?",
        "Name the modulation of this constellation.",
        "Which modulation do the symbols have?",
    ),
    "snr": (
        "What is the signal-to-noise ratio?",
        "How large is the signal-to-noise ratio here?",
        "Give the signal-to-noise ratio.",
    ),
    "phase": (
        "Which way is the constellation turned?",
        "In which direction is the phase error?",
        "How is the phase turned?",
    ),
    "errors": (
        "How many symbols are decided wrongly?",
        "How many symbol errors does a receiver make here?",
        "Are symbols decided wrongly, and how many?",
    ),
}
"""Each kind of question; every split asks in all of these words, for what is new in the test is the picture."""
NUM_TRAIN, NUM_DEV, NUM_TEST = 900, 40, 150
"""Pictures of each split; each is asked one question of every kind."""


def points(modulation: str) -> NDArray[np.complex128]:
    """The points of a modulation, of unit mean energy.

    Phase-shift keying has them on the unit circle: BPSK at ±1, QPSK at odd multiples of 45°, 8-PSK at multiples of 45°.
    Square quadrature amplitude modulation of M points has the coordinates ±1, ±3 … ±(√M − 1), divided by
    √(2 (M − 1) / 3).

    Raises:
        KeyError: there is no such modulation.
    """
    order = 1 << BITS[modulation]
    if not modulation.endswith("QAM"):
        first = np.pi / 4 if order == 4 else 0.0
        return np.exp(1j * (first + 2 * np.pi * np.arange(order) / order))
    side = np.arange(1 - int(order**0.5), int(order**0.5), 2)
    return (side[:, None] + 1j * side[None, :]).ravel() / np.sqrt(2 * (order - 1) / 3)


@dataclass(frozen=True)
class Link:
    """What a picture is drawn of.

    Attributes:
        modulation: one of `BITS`.
        snr: mean energy of a symbol over that of the noise, in dB.
        turn: phase error in degrees, anticlockwise.
        sent: which point each symbol is.
        received: what comes of it.
    """

    modulation: str
    snr: float
    turn: float
    sent: NDArray[np.int64]
    received: NDArray[np.complex128]

    @classmethod
    def drawn(cls, modulation: str, snr: float, turn: float, seed: int, num: int = NUM_SYMBOLS) -> Link:
        """Random symbols r = s · e^(jφ) + n, with E|n|² = 10^(−snr / 10)."""
        draw = np.random.default_rng(seed)
        own = points(modulation)
        sent = draw.integers(len(own), size=num)
        noise = draw.normal(size=(2, num)) * np.sqrt(10 ** (-snr / 10) / 2)
        return cls(modulation, snr, turn, sent, own[sent] * np.exp(1j * np.deg2rad(turn)) + noise[0] + 1j * noise[1])

    @property
    def error_rate(self) -> float:
        """The share of symbols to which another point than the one sent is nearest."""
        nearest = np.abs(self.received[:, None] - points(self.modulation)[None, :]).argmin(axis=1)
        return float(np.mean(nearest != self.sent))

    @property
    def answers(self) -> dict[str, str]:
        """What is true of it, by kind of question."""
        rate = self.error_rate
        turned = next(name for name, turn in TURNS.items() if turn == self.turn)
        return {
            "modulation": self.modulation,
            "snr": f"{self.snr:g} dB",
            "phase": turned,
            "errors": "none" if rate == 0 else "few" if rate < MANY else "many",
        }


def places(symbols: NDArray[np.complex128], size: int = SIZE) -> NDArray[np.int64]:
    """`[n, 2]` row and column of the point in which each symbol lies; those beyond the edge are at it.

    Column ⌊(I + LIMIT) / (2 LIMIT) · size⌋, row ⌊(LIMIT − Q) / (2 LIMIT) · size⌋: rows are counted from the top.
    """
    shares = np.stack([LIMIT - symbols.imag, LIMIT + symbols.real], axis=1) / (2 * LIMIT)
    return np.clip(np.floor(shares * size), 0, size - 1).astype(np.int64)


def picture(symbols: NDArray[np.complex128], size: int = SIZE) -> NDArray[np.uint8]:
    """`[size, size]` brightness: `STEP` for each symbol that lies in a point, at most 255."""
    counts = np.zeros((size, size), np.int64)
    np.add.at(counts, tuple(places(symbols, size).T), 1)
    return np.minimum(counts * STEP, 255).astype(np.uint8)


def png(link: Link, size: int = SIZE) -> bytes:
    """The picture of a link as a file."""
    import PIL.Image

    buffer = io.BytesIO()
    PIL.Image.fromarray(picture(link.received, size)).save(buffer, format="PNG")
    return buffer.getvalue()


def generate(gold_share: float = 0.3, seed: int = 0) -> Splits:
    """The set; the same arguments give the same rows in the same order.

    `meta` of a row: `kind` (`modulation`, `snr`, `phase`, `errors`), `modulation`, `snr`, `turn`. Rows of one picture
    are one group and stand in one split.

    Args:
        gold_share: share of the training pictures whose questions have their answers; the others are unlabelled.
        seed: of links, wordings and order.

    Raises:
        ConfigError: `gold_share` is not between 0 and 1.
    """
    if not 0 < gold_share <= 1:
        raise ConfigError(f"gold_share is {gold_share}; it is a share between 0 and 1")
    train = list(_rows("train", NUM_TRAIN, seed))
    num_gold = len(WORDINGS) * max(1, round(gold_share * NUM_TRAIN))
    draw = random.Random(f"constellations:order:{seed}")
    gold, rest = train[:num_gold], [_asked(row) for row in train[num_gold:]]
    draw.shuffle(gold)
    draw.shuffle(rest)
    dev, test = list(_rows("dev", NUM_DEV, seed)), list(_rows("test", NUM_TEST, seed))
    draw.shuffle(dev)
    draw.shuffle(test)
    notes = {
        "pictures": NUM_TRAIN + NUM_DEV + NUM_TEST,
        "group_by": f"picture: {len(WORDINGS)} questions on each",
    }
    return Splits(tuple(gold), tuple(rest), tuple(dev), tuple(test), notes)


def _asked(row: Example) -> Example:
    """A row without what tells its answer."""
    return Example(row.id, row.question, (), meta={"kind": row.meta["kind"]}, group=row.group, images=row.images)


def _rows(role: str, num: int, seed: int) -> Iterator[Example]:
    draw = random.Random(f"constellations:{role}:{seed}")
    names = list(BITS)
    for number in range(num):
        modulation = names[number % len(names)]
        snr = LEAST_SNR[modulation] + 5 * draw.randrange(4)
        turn = TURNS[draw.choice(list(TURNS))]
        link = Link.drawn(modulation, snr, turn, draw.getrandbits(63))
        address = address_of(png(link))
        about: dict[str, Any] = {"modulation": modulation, "snr": snr, "turn": turn}
        for kind, answer in link.answers.items():
            wordings = WORDINGS[kind]
            yield Example(
                f"{role}-{number}-{kind}",
                draw.choice(wordings),
                (answer,),
                meta={"kind": kind, **about},
                group=f"{role}-{number}",
                images=(address,),
            )
