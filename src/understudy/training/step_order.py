"""The order of the rows: shuffled, then sorted by length inside each optimiser step.

A step that is cut into micro-batches pads each of them to its own longest row. Sorted rows put the long ones together,
so most of the padding goes, while a step still holds the same rows, and – the loss being a sum over target tokens
divided by those of the whole step – the same gradient. What is ordered may be a group of rows: the texts of one example
stay in one step, and the length is that of its longest text.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch.utils.data import Sampler


class StepSampler(Sampler[int]):
    """Row numbers of one epoch after another.

    Args:
        lengths: length of each row in tokens.
        step_rows: rows of one optimiser step, over all processes.
        seed: seed of the shuffle; the order depends on it and the epoch alone, so a resumed run goes on where it was.
    """

    def __init__(self, lengths: Sequence[int], step_rows: int, seed: int) -> None:
        self.lengths = list(lengths)
        self.step_rows = step_rows
        self.seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Which epoch the next iteration gives; the Trainer calls it."""
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.lengths)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed((self.seed + 1_000_003 * self.epoch) % 2**63)
        order = torch.randperm(len(self.lengths), generator=generator).tolist()
        for start in range(0, len(order), self.step_rows):
            yield from sorted(order[start : start + self.step_rows], key=lambda row: self.lengths[row])
