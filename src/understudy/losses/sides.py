"""One side of a pass over logits: what the pass asks of it, and what is reported of its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Report:
    """What one side of a pass reports of its tokens beside the divergence.

    Attributes:
        gold_ids: `[N]` right tokens, for the cross-entropy.
        gold_weights: `[N]` weights of its gradient.
        statistics: likeliest token and entropy.
        argmax: the likeliest token alone.
        shared: with `statistics`, the probability of these columns, `[V]` bool.
    """

    gold_ids: Tensor | None = None
    gold_weights: Tensor | None = None
    statistics: bool = False
    argmax: bool = False
    shared: Tensor | None = None


class SideGradient(Protocol):
    """The gradients of one side, added up chunk by chunk.

    Attributes:
        tensors: one for each tensor of the side's graph, in its order; None where it is not wanted.
    """

    @property
    def tensors(self) -> list[Tensor | None]:
        """See the class."""
        ...

    def add(self, gradient: Tensor, start: int, stop: int, rows: Tensor) -> None:
        """Take in ∂/∂logits of rows `start:stop`, `[rows, columns]`, each of which still lacks its factor `rows`."""
        ...


class LogitSource(Protocol):
    """Whatever can stand where a teacher's states and head stand in a pass (`HeadStates`, `losses.sources`)."""

    @property
    def tokens(self) -> int:
        """N."""
        ...

    @property
    def columns(self) -> int:
        """Columns of its logits."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What it is stored in; float64 makes the whole pass float64."""
        ...

    def rows(self, which: Tensor) -> LogitSource:
        """The same over some of the tokens."""
        ...

    def constant(self) -> LogitSource:
        """The same without gradients."""
        ...

    def side(self, columns: int, temperature: float, exact: torch.dtype, report: Report) -> LogitSide:
        """What gives the logits of its first `columns` columns, chunk by chunk, in `exact`."""
        ...

    def comparison(self, divergence: Any) -> Any:
        """The `LogitComparison` that such logits ask for; None: column by column, or by that of two vocabularies.

        Args:
            divergence: of log-probabilities, or a `LogitComparison`.
        """
        ...


class LearningSource(LogitSource, Protocol):
    """A source that can stand where the student stands, for gradients reach what it is made of."""

    @property
    def device(self) -> torch.device:
        """Where it lies."""
        ...

    @property
    def graph(self) -> tuple[Tensor | None, ...]:
        """The tensors that gradients may reach, in the order in which its side's gradient gives them."""
        ...


class LogitSide:
    """One side at work on chunks of tokens: what a pass asks of it, and what it reports of logits.

    A kind of side says how logits come about: `project` for a chunk, `logits` for a block of its rows, `reserve` for
    the memory of both. All else works on logits and is the same for every side.

    Args:
        tokens: N.
        columns: how many columns its logits have.
        exact: float32 or float64, the dtype of whatever is no matrix product.
        device: where it works.
        report: what is reported.

    Attributes:
        tempered: whether the logits are divided by the temperature already.
        absent: `[columns]` bool, columns without any probability; None: none.
        constant: ∂logits/∂product, without the slope of a cap.
        soft: room for a softmax of its own, where it cannot share that of the divergence.
        values: per-token values by name.
    """

    tempered: bool = False
    absent: Tensor | None = None
    constant: float = 1.0

    def __init__(self, tokens: int, columns: int, exact: torch.dtype, device: torch.device, report: Report) -> None:
        self.tokens, self.columns, self.exact, self.device = tokens, columns, exact, device
        self.statistics, self.argmax = report.statistics, report.statistics or report.argmax
        self.shared = None
        if report.shared is not None and report.statistics:
            self.shared = report.shared.new_zeros(columns, dtype=exact)
            self.shared[: len(report.shared)] = report.shared[:columns].to(exact)
        self.needs_own_softmax = report.statistics or report.gold_ids is not None
        self._take_gold(report.gold_ids, report.gold_weights)
        self.values: dict[str, Tensor] = {}
        self.soft: Tensor | None = None
        if not tokens:
            self._report_nothing()

    def reserve(self, chunk: int, block: int, *, own_softmax: bool, gradient: bool) -> None:
        """Allocate what the chunks share."""
        self.soft = self.scratch(block) if own_softmax else None

    def scratch(self, rows: int) -> Tensor:
        """Room for a block of logits."""
        return torch.empty(rows, self.columns, dtype=self.exact, device=self.device)

    def project(self, start: int, stop: int) -> Tensor:
        """What the logits of rows `start:stop` are made of, `[rows, columns]`; overwritten by the next call."""
        raise TypeError(f"{type(self).__name__} does not say where its logits come from")

    def logits(self, product: Tensor) -> Tensor:
        """The logits of some rows of a product, in `exact`; the product itself may be overwritten."""
        return product

    def gradient(self, wanted: Sequence[bool]) -> SideGradient:
        """What takes in the gradients of this side; `wanted` says which tensors of its graph ask for one."""
        raise TypeError(f"{type(self).__name__} is a constant")

    @property
    def item_bytes(self) -> int:
        """Bytes of a number of its products."""
        return self.exact.itemsize

    def _report_nothing(self) -> None:
        """The values of no tokens, so that whoever adds them up finds them."""
        empty, none = slice(0, 0), torch.zeros(0, dtype=self.exact, device=self.device)
        if self.gold_ids is not None:
            self.put("gold", empty, none)
            self.put("right", empty, none.bool())
        if self.argmax:
            self.put("argmax", empty, none.long())
        if self.statistics:
            self.put("entropy", empty, none)
        if self.shared is not None:
            self.put("shared", empty, none)

    def _take_gold(self, gold_ids: Tensor | None, gold_weights: Tensor | None) -> None:
        self.gold_ids = self.gold_weights = None
        if gold_ids is None:
            return
        self.gold_present = (gold_ids >= 0) & (gold_ids < self.columns)
        self.gold_ids = torch.where(self.gold_present, gold_ids, 0).long()[:, None]
        if gold_weights is not None:
            self.gold_weights = (gold_weights.detach().to(self.exact) * self.gold_present)[:, None]

    def name(self, rows: slice, logits: Tensor) -> None:
        """Report the likeliest tokens of some rows, where they are asked for."""
        if self.argmax:
            self.put("argmax", rows, logits.argmax(-1))

    def describe(self, rows: slice, logits: Tensor, soft: Tensor, lse: Tensor) -> None:
        """Report cross-entropy and statistics of some rows, given what `softmax_into` made of them."""
        if self.gold_ids is not None:
            picked = logits.gather(1, self.gold_ids[rows])[:, 0]
            present = self.gold_present[rows]
            value = (lse - picked).masked_fill(picked <= floor(logits.dtype), torch.inf)
            self.put("gold", rows, value.masked_fill(~present, 0.0))
            self.put("right", rows, (picked >= 0) & present)
        if self.statistics:
            self.put("entropy", rows, lse - (soft * logits).sum(-1))
            if self.shared is not None:
                self.put("shared", rows, soft @ self.shared)

    def put(self, name: str, rows: slice, value: Tensor) -> None:
        """Keep the per-token values of some rows."""
        if name not in self.values:
            self.values[name] = value.new_zeros(self.tokens)
        self.values[name][rows] = value

    def gold_gradient(self, rows: slice, soft: Tensor) -> Tensor:
        """`soft` ← the weighted gradient of the cross-entropy, weight · (softmax − onehot)."""
        assert self.gold_weights is not None
        return self.subtract_gold(rows, soft.mul_(self.gold_weights[rows]))

    def subtract_gold(self, rows: slice, gradient: Tensor) -> Tensor:
        """Take each row's weight off its gold column, in place."""
        assert self.gold_weights is not None
        assert self.gold_ids is not None
        return gradient.scatter_add_(1, self.gold_ids[rows], -self.gold_weights[rows])

    def store(self, gradient: Tensor, product: Tensor) -> None:
        """Write a gradient with respect to the logits where their product stood."""
        product = product[:, : gradient.shape[1]]
        if gradient.data_ptr() != product.data_ptr():
            product.copy_(gradient)


def floor(dtype: torch.dtype) -> float:
    """Stands for −∞ among logits: no probability, yet 0 · floor is 0."""
    return torch.finfo(dtype).min / 8


def softmax_into(logits: Tensor, out: Tensor) -> Tensor:
    """Softmax of each row into `out`; returns the log-sums `[R]` of the logits, which are shifted to a maximum of 0.

    After the shift the likely tokens' log-probabilities keep all their digits, also at a low temperature.
    """
    logits.sub_(logits.amax(-1, keepdim=True))
    torch.softmax(logits, -1, out=out)
    return out.amax(-1).log_().neg_()
