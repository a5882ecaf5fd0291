"""A device that runs out of memory in the middle of a training: the step anew, in pieces of half as many rows.

The loss of a step is a sum over its target tokens divided by their number, so in how many pieces its rows are read
changes neither loss nor gradient. A step that did not fit is taken back to where it began – no gradient, the same
random numbers, the same sums for the log – and read again in smaller pieces; later steps are read so from the start.

What this cannot help: weights and optimiser that do not fit, one row that does not fit, answers on the way
(`evaluate.batch_size`), several processes, which would have to agree on it, and a process that the kernel of a machine
without a GPU has killed, which no longer runs and so catches nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch

from understudy.errors import RunError, listed
from understudy.tokens.collate import Collator
from understudy.training.rows import Item

ITEMS = "items"
"""Of a batch on its way to the trainer: the rows that it was padded from."""
LOGGED = "micro_batch_size"
"""Of a line of the log: at most so many rows at once from this step on."""


class KeepsItems:
    """A collator whose batches keep the rows that they are made of.

    Args:
        collator: pads them.
    """

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def __call__(self, items: Sequence[Item]) -> dict[str, Any]:
        """The collator's batch, and its rows."""
        return {**self.collator(items), ITEMS: list(items)}


class SmallerPieces:
    """Runs the micro-batches of a step, cut as small as the device has been found to need.

    Args:
        collate: pads the rows of a piece, as those of a micro-batch are.
        take_back: puts sums and gradients back to what they were when the step began.
        note: called with the number of rows of a piece when it has become smaller.

    Attributes:
        most: rows of a piece; None: micro-batches are run whole.
    """

    def __init__(
        self, collate: Callable[[Sequence[Item]], Any], take_back: Callable[[], None], note: Callable[[int], None]
    ) -> None:
        self.collate, self.take_back, self.note = collate, take_back, note
        self.most: int | None = None
        self.items: list[Sequence[Item] | None] = []
        self.place = 0
        self.random: list[Any] = []
        self._size = 0

    def begin(self, batches: Sequence[Any]) -> None:
        """A step begins: its micro-batches are known and none of them has been run."""
        self.items, self.place = [batch.get(ITEMS) for batch in batches], 0
        self.random = [torch.get_rng_state(), torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []]

    def run(self, batch: Any, step: Callable[[Any], torch.Tensor], number: int) -> torch.Tensor:
        """The loss of the next micro-batch, whose gradients `step` adds up piece by piece.

        Args:
            batch: the micro-batch.
            step: forward and backward of a piece; gives its loss.
            number: of the optimiser step, for messages.

        Raises:
            RunError: one row alone does not fit.
            torch.OutOfMemoryError: the rows of the batch are not known, so that it cannot be cut.
        """
        places: Sequence[int] = [self.place]
        whole = {name: value for name, value in batch.items() if name != ITEMS}
        while True:
            try:
                losses = [sum(map(step, self._pieces(place, whole))) for place in places]
                self.place += 1
                return losses[-1]  # pyright: ignore[reportReturnType]
            except torch.OutOfMemoryError as error:
                if self.items[self.place] is None:
                    raise
                fault = str(error).strip().split("\n")[0]
            # The error, and with it all that its frames held, is gone here.
            whole = None
            self._halve(fault, number)
            places = range(self.place + 1)

    def _pieces(self, place: int, whole: Any) -> Iterator[Any]:
        items = self.items[place]
        self._size = len(items) if items is not None else 0
        if whole is not None and (items is None or self.most is None or len(items) <= self.most):
            yield whole
            return
        assert items is not None
        most = self.most or len(items)
        for start in range(0, len(items), most):
            piece = items[start : start + most]
            self._size = len(piece)
            yield self.collate(piece)

    def _halve(self, fault: str, number: int) -> None:
        if self._size <= 1:
            ids = listed([row.id for row in (self.items[self.place] or [])[:1] for row in row.rows], most=4)
            raise RunError(
                f"step {number}: the device ran out of memory on one row at once (among them {ids}): {fault}",
                hint="shorter rows (data.max_length), gradient_checkpointing, adapters (lora), or teacher.cache, which "
                "leaves the teacher out of memory; `understudy plan` says what takes how much",
            )
        self.most = self._size // 2
        self.take_back()
        gc.collect()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()
            torch.cuda.set_rng_state_all(self.random[1])
        torch.set_rng_state(self.random[0])
        self.note(self.most)
