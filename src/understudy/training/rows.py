"""Where the rows of a training come from: a list that is encoded beforehand, or whatever makes them on the way.

The trainer asks a source for no more than this. It counts the target tokens of a step when the step's rows are there,
so a source may make them of the very student that is trained.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from torch.utils.data import Dataset

from understudy.tokens.collate import EncodedRow, ExampleRows

Item = EncodedRow | ExampleRows
"""A row, or the texts of one example, which stay in one step."""


class RowSource(Protocol):
    """Rows to train on: a torch `Dataset` where their number is known, an `IterableDataset` where it is not.

    One that has `step_rows(step)` (`training.onpolicy.RowsOfStep`) is asked for the rows of a step when the step
    begins, never ahead, so that it may make them by the weights of that moment; what it gives as a dataset is only
    counted, and `state` and `load_state` go into checkpoints.

    Attributes:
        tasks: names of the tasks that rows may have, sorted; empty where there are none.
        lengths: length in tokens of each item, by which a step's items are ordered; None where it is not known
            beforehand: they then come as they are made, and the number of steps must be given.
    """

    @property
    def tasks(self) -> tuple[str, ...]:
        """See the class."""
        ...

    @property
    def lengths(self) -> Sequence[int] | None:
        """See the class."""
        ...


class ListedRows(Dataset):
    """Items that are all there.

    Args:
        rows: the items.
    """

    def __init__(self, rows: Sequence[Item]) -> None:
        self.rows = rows
        self.tasks = tuple(sorted({row.task for item in rows for row in item.rows if row.task}))
        self.lengths = [item.length for item in rows]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Item:
        return self.rows[index]
