"""A head, its hidden states, and the two at work in a pass: the logits of a chunk and the gradients that come back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from understudy.losses.sides import LogitSide, Report, floor


@dataclass(frozen=True, slots=True)
class Head:
    """The last linear map of a language model: logits = softcap · tanh(scale · (h Wᵀ + b) / softcap).

    `HeadSide` computes the same on chunks, in place; `losses.dense` writes it out a second time, as a check.

    Attributes:
        weight: `[V, d]`; a graph tensor where an adapter sits on the head, so that its gradient reaches the adapter.
        bias: `[V]` or None.
        softcap: bound of the logits (Gemma 2); no cap and no tanh where it is None.
        scale: factor on the logits (Cohere, Granite).
    """

    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None
    scale: float = 1.0

    def logits(self, hidden: Tensor) -> Tensor:
        """`[…, d]` hidden states to `[…, V]` logits, in full."""
        logits = torch.nn.functional.linear(hidden, self.weight, self.bias) * self.scale
        return logits if self.softcap is None else self.softcap * torch.tanh(logits / self.softcap)

    def detached(self) -> Head:
        """The same head as a constant."""
        bias = None if self.bias is None else self.bias.detach()
        return dataclasses.replace(self, weight=self.weight.detach(), bias=bias)

    def tempered(self, temperature: float) -> Head:
        """The head whose logits are divided by `temperature`."""
        softcap = None if self.softcap is None else self.softcap / temperature
        return dataclasses.replace(self, softcap=softcap, scale=self.scale / temperature)


@dataclass(frozen=True, slots=True)
class HeadStates:
    """Hidden states `[N, d]` and the head that turns them into logits."""

    hidden: Tensor
    head: Head

    @property
    def tokens(self) -> int:
        """N."""
        return self.hidden.shape[0]

    @property
    def columns(self) -> int:
        """Columns of the head."""
        return self.head.weight.shape[0]

    @property
    def dtype(self) -> torch.dtype:
        """Of the states."""
        return self.hidden.dtype

    @property
    def device(self) -> torch.device:
        """Of the states."""
        return self.hidden.device

    @property
    def graph(self) -> tuple[Tensor | None, ...]:
        """Hidden states, weight and bias."""
        return self.hidden, self.head.weight, self.head.bias

    def tempered(self, temperature: float) -> HeadStates:
        """The same under a head whose logits are divided by `temperature`."""
        return HeadStates(self.hidden, self.head.tempered(temperature))

    def rows(self, which: Tensor) -> HeadStates:
        """The same head over some of the tokens."""
        return HeadStates(self.hidden[which], self.head)

    def constant(self) -> HeadStates:
        """The same without gradients."""
        return HeadStates(self.hidden.detach(), self.head.detached())

    def with_hidden(self, hidden: Tensor) -> HeadStates:
        """Other hidden states under the same head, which is taken as a constant."""
        return HeadStates(hidden.to(self.hidden.dtype), self.head.detached())

    def side(self, columns: int, temperature: float, exact: torch.dtype, report: Report) -> HeadSide:
        """See `LogitSource`."""
        return HeadSide(self, columns, temperature, exact, report)

    def comparison(self, divergence: Any) -> None:
        """See `LogitSource`: columns are compared one by one."""
        return


class HeadSide(LogitSide):
    """A head at work on chunks of tokens.

    A chunk's product goes to one buffer, in the dtype of the matrix product; everything after it happens in `exact`.
    Constants are folded into the hidden states where that loses nothing.

    Args:
        states: hidden states and head.
        columns: use this many of its columns.
        temperature: divide the logits by it, or leave that to the caller where `tempered` turns out false.
        exact: float32 or float64, the dtype of whatever is no matrix product.
        report: what is reported.
    """

    def __init__(
        self, states: HeadStates, columns: int, temperature: float, exact: torch.dtype, report: Report
    ) -> None:
        head, dtype = states.head, _product_dtype(states.hidden)
        super().__init__(states.tokens, columns, exact, states.hidden.device, report)
        self.states = states
        self.hidden = states.hidden.detach().to(dtype)
        self.weight = head.weight.detach().to(dtype)[:columns]
        self.bias = None if head.bias is None else head.bias.detach().to(dtype)[:columns]
        self.softcap = head.softcap
        self.tempered = head.softcap is None and not self.needs_own_softmax
        self.inner = head.scale / (head.softcap or 1.0) / (temperature if self.tempered else 1.0)
        # ∂logits/∂(h Wᵀ + b), without the slope of the cap; holds 1/temperature where `tempered`.
        self.constant = self.inner * (self.softcap or 1.0)
        self.folds = dtype == self.exact
        if self.bias is not None and not head.softcap:
            absent = self.bias == -torch.inf
            self.absent = absent if bool(absent.any()) else None

    def reserve(self, chunk: int, block: int, *, own_softmax: bool, gradient: bool) -> None:
        """Allocate what the chunks share."""
        self.buffer = self.hidden.new_empty(chunk, self.columns)
        self._work = None if self.folds else self.scratch(block)
        self._slope = self.scratch(block) if self.softcap and gradient else None
        super().reserve(chunk, block, own_softmax=own_softmax, gradient=gradient)

    def project(self, start: int, stop: int) -> Tensor:
        """The product of rows `start:stop`, `[rows, columns]`, in the shared buffer."""
        product = self.buffer[: stop - start]
        hidden, bias = self.hidden[start:stop], self.bias
        if self.folds and self.inner != 1:
            hidden = hidden * self.inner
            bias = None if bias is None else bias * self.inner
        if bias is None:
            return torch.mm(hidden, self.weight.t(), out=product)
        return torch.addmm(bias, hidden, self.weight.t(), out=product)

    def logits(self, product: Tensor) -> Tensor:
        """The logits of some rows of a product, in `exact`; the product itself may be overwritten."""
        logits = product
        if self._work is not None:
            logits = self._work[: product.shape[0]].copy_(product)
            if self.inner != 1:
                logits.mul_(self.inner)
        if self.softcap:
            logits.tanh_()
            if self._slope is not None:
                slope = self._slope[: product.shape[0]]
                torch.mul(logits, logits, out=slope).neg_().add_(1)
            logits.mul_(self.softcap)
        if self.absent is not None:
            logits.clamp_min_(floor(logits.dtype))
        return logits

    def gradient(self, wanted: Sequence[bool]) -> HeadGradient:
        """Of hidden states, weight and bias."""
        graph = zip(self.states.graph, wanted, strict=True)
        return HeadGradient(self, *(tensor if want else None for tensor, want in graph))

    @property
    def item_bytes(self) -> int:
        """Of the matrix product."""
        return self.hidden.element_size()

    def store(self, gradient: Tensor, product: Tensor) -> None:
        """Write a gradient with respect to the logits where their product stood, through the cap's slope."""
        if self._slope is not None:
            gradient.mul_(self._slope[: gradient.shape[0], : gradient.shape[1]])
        super().store(gradient, product)


class HeadGradient:
    """The gradients of a head's hidden states, weight and bias, added up chunk by chunk in `exact`."""

    def __init__(self, side: HeadSide, hidden: Tensor | None, weight: Tensor | None, bias: Tensor | None) -> None:
        self.side = side
        self.hidden, self.weight, self.bias = (
            None if tensor is None else torch.zeros_like(tensor, dtype=side.exact) for tensor in (hidden, weight, bias)
        )

    @property
    def tensors(self) -> list[Tensor | None]:
        """Hidden states, weight and bias."""
        return [self.hidden, self.weight, self.bias]

    def add(self, gradient: Tensor, start: int, stop: int, rows: Tensor) -> None:
        """Take in ∂/∂logits of rows `start:stop`, `[rows, columns]`, each of which still lacks its factor `rows`."""
        side, columns = self.side, gradient.shape[1]
        if self.hidden is not None:
            torch.mul(gradient @ side.weight[:columns], rows[:, None], out=self.hidden[start:stop])
        if self.weight is not None:
            weighted = (side.hidden[start:stop] * rows[:, None]).to(gradient.dtype)
            if gradient.dtype == self.weight.dtype:
                self.weight[:columns].addmm_(gradient.t(), weighted)
            else:
                self.weight[:columns].add_(gradient.t() @ weighted)
        if self.bias is not None:
            self.bias[:columns].add_(gradient.t() @ rows.to(gradient.dtype))


def _product_dtype(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    if hidden.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return hidden.dtype
