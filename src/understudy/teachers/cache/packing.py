"""Integers in as few bits as they need, many rows at once: fixed widths, and sorted ids by Elias and Fano.

Sorted ids x_1 ≤ … ≤ x_K below V are cut into l low bits, kept as they are, and the rest, kept as gaps in unary: bit
(x_j >> l) + j is set for each j (0-based). That takes K·l + K + ⌊(V − 1) / 2^l⌋ bits, the same for every row, so that
rows lie at places that need not be looked up, and at most two bits an id more than any code of sets can do (Elias,
1974; Fano, 1971). An id may stand there more than once.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Bits = NDArray[np.uint8]


def fixed_width(values: NDArray[np.integer], width: int) -> Bits:
    """`[N, K]` numbers below 2^width to `[N, K · width]` bits, the most significant first."""
    shifts = np.arange(width - 1, -1, -1, dtype=np.uint32)
    bits = (values.astype(np.uint32)[..., None] >> shifts) & 1
    return bits.astype(np.uint8).reshape(len(values), values.shape[1] * width)


def from_fixed_width(bits: Bits, width: int) -> NDArray[np.int64]:
    """The `[N, K]` numbers of `fixed_width`."""
    num = bits.shape[1] // max(width, 1)
    # Bits fill whole bytes from the right, so that bytes, not bits, are multiplied and added.
    size = -(-width // 8)
    padded = np.zeros((len(bits), num, 8 * size), np.uint8)
    padded[:, :, 8 * size - width :] = bits.reshape(len(bits), num, width)
    pieces = np.packbits(padded, axis=-1).astype(np.int64)
    values = pieces[..., 0]
    for place in range(1, size):
        values = values * 256 + pieces[..., place]
    return values


class SortedIds:
    """The code of K sorted ids below a bound.

    Args:
        count: K.
        bound: V.
    """

    def __init__(self, count: int, bound: int) -> None:
        self.count, self.bound = count, bound
        self.low = min(range(bound.bit_length() + 1), key=lambda low: count * low + self._high_bits(low))
        self.high_bits = self._high_bits(self.low)
        self.num_bits = count * self.low + self.high_bits

    def _high_bits(self, low: int) -> int:
        return self.count + ((self.bound - 1) >> low)

    def encode(self, ids: NDArray[np.integer]) -> Bits:
        """`[N, K]` ids, ascending in each row, to `[N, num_bits]` bits."""
        low = fixed_width(ids & ((1 << self.low) - 1), self.low) if self.low else np.zeros((len(ids), 0), np.uint8)
        high = np.zeros((len(ids), self.high_bits), np.uint8)
        np.put_along_axis(high, (ids >> self.low) + np.arange(self.count), 1, axis=1)
        return np.concatenate([low, high], axis=1)

    def decode(self, bits: Bits) -> NDArray[np.int64]:
        """The ids of `encode`."""
        low_bits, high = bits[:, : self.count * self.low], bits[:, self.count * self.low : self.num_bits]
        places = np.flatnonzero(high).reshape(len(bits), self.count) % max(self.high_bits, 1)
        ids = (places - np.arange(self.count)) << self.low
        return ids | from_fixed_width(low_bits, self.low) if self.low else ids
