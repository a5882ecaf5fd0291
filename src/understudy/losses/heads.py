"""One side of the fused head: the logits of a chunk, what is said of them, and the gradients that come back."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class HeadSpec:
    """How hidden states become logits: softcap · tanh(scale · (h Wᵀ + b) / softcap), no cap where it is None."""

    hidden: Tensor
    weight: Tensor
    bias: Tensor | None = None
    softcap: float | None = None
    scale: float = 1.0

    def tempered(self, temperature: float) -> HeadSpec:
        """The head whose logits are divided by `temperature`."""
        softcap = None if self.softcap is None else self.softcap / temperature
        return dataclasses.replace(self, softcap=softcap, scale=self.scale / temperature)

    def rows(self, which: Tensor) -> HeadSpec:
        """The same head over some of the tokens."""
        return dataclasses.replace(self, hidden=self.hidden[which])

    def constant(self) -> HeadSpec:
        """The same without gradients."""
        bias = None if self.bias is None else self.bias.detach()
        return dataclasses.replace(self, hidden=self.hidden.detach(), weight=self.weight.detach(), bias=bias)


class HeadSide:
    """A head at work on chunks of tokens.

    A chunk's product goes to one buffer, in the dtype of the matrix product; everything after it happens in `exact`.
    Constants are folded into the hidden states where that loses nothing.

    Args:
        spec: the head.
        columns: use this many of its columns.
        temperature: divide the logits by it, or leave that to the caller where `tempered` turns out false.
        gold_ids: `[N]` right tokens, for the cross-entropy.
        gold_weights: `[N]` weights of its gradient.
        statistics: also report likeliest token and entropy.
        argmax: report the likeliest token alone.
        shared: with `statistics`, report the probability of these columns, `[V]` bool.
        exact: float32 or float64, the dtype of whatever is no matrix product.
    """

    def __init__(
        self,
        spec: HeadSpec,
        *,
        columns: int,
        temperature: float,
        gold_ids: Tensor | None,
        gold_weights: Tensor | None,
        statistics: bool,
        exact: torch.dtype,
        argmax: bool = False,
        shared: Tensor | None = None,
    ) -> None:
        dtype, self.exact = _product_dtype(spec.hidden), exact
        self.hidden = spec.hidden.detach().to(dtype)
        self.weight = spec.weight.detach().to(dtype)[:columns]
        self.bias = None if spec.bias is None else spec.bias.detach().to(dtype)[:columns]
        self.columns, self.softcap, self.statistics = columns, spec.softcap, statistics
        self.argmax = statistics or argmax
        self.shared = None
        if shared is not None and statistics:
            self.shared = shared.new_zeros(columns, dtype=exact)
            self.shared[: len(shared)] = shared[:columns].to(exact)
        self.needs_own_softmax = statistics or gold_ids is not None
        self.tempered = spec.softcap is None and not self.needs_own_softmax
        self.inner = spec.scale / (spec.softcap or 1.0) / (temperature if self.tempered else 1.0)
        self.folds = dtype == self.exact
        self.absent = None
        if self.bias is not None and not spec.softcap:
            absent = self.bias == -torch.inf
            self.absent = absent if bool(absent.any()) else None
        self._take_gold(gold_ids, gold_weights)
        self.values: dict[str, Tensor] = {}
        self.soft: Tensor | None = None
        if not len(self.hidden):
            self._report_nothing()

    def _report_nothing(self) -> None:
        """The values of no tokens, so that whoever adds them up finds them."""
        empty = slice(0, 0)
        if self.gold_ids is not None:
            self.put("gold", empty, self.hidden.new_zeros(0, dtype=self.exact))
            self.put("right", empty, torch.zeros(0, dtype=torch.bool, device=self.hidden.device))
        if self.argmax:
            self.put("argmax", empty, torch.zeros(0, dtype=torch.long, device=self.hidden.device))
        if self.statistics:
            self.put("entropy", empty, self.hidden.new_zeros(0, dtype=self.exact))
        if self.shared is not None:
            self.put("shared", empty, self.hidden.new_zeros(0, dtype=self.exact))

    def _take_gold(self, gold_ids: Tensor | None, gold_weights: Tensor | None) -> None:
        self.gold_ids = self.gold_weights = None
        if gold_ids is None:
            return
        self.gold_present = (gold_ids >= 0) & (gold_ids < self.columns)
        self.gold_ids = torch.where(self.gold_present, gold_ids, 0).long()[:, None]
        if gold_weights is not None:
            self.gold_weights = (gold_weights.detach().to(self.exact) * self.gold_present)[:, None]

    @property
    def constant(self) -> float:
        """∂logits/∂(h Wᵀ + b), without the slope of the cap; holds 1/temperature where `tempered`."""
        return self.inner * (self.softcap or 1.0)

    def reserve(self, chunk: int, block: int, *, own_softmax: bool, gradient: bool) -> None:
        """Allocate what the chunks share."""
        self.buffer = self.hidden.new_empty(chunk, self.columns)

        def scratch(wanted: bool | float | None) -> Tensor | None:
            return self.buffer.new_empty(block, self.columns, dtype=self.exact) if wanted else None

        self._work = scratch(not self.folds)
        self._slope = scratch(self.softcap and gradient)
        self.soft = scratch(own_softmax)

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
            self.values[name] = value.new_zeros(self.hidden.shape[0])
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
        """Write a gradient with respect to the logits where their product stood, through the cap's slope."""
        product = product[:, : gradient.shape[1]]
        if self._slope is not None:
            gradient.mul_(self._slope[: gradient.shape[0], : gradient.shape[1]])
        if gradient.data_ptr() != product.data_ptr():
            product.copy_(gradient)


class HeadGradient:
    """The gradients of a head's hidden states, weight and bias, added up chunk by chunk in `exact`."""

    def __init__(self, side: HeadSide, hidden: Tensor | None, weight: Tensor | None, bias: Tensor | None) -> None:
        self.side = side
        self.hidden, self.weight, self.bias = (
            None if tensor is None else torch.zeros_like(tensor, dtype=side.exact) for tensor in (hidden, weight, bias)
        )

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


def _product_dtype(hidden: Tensor) -> torch.dtype:
    device = hidden.device.type
    if hidden.dtype != torch.float64 and torch.is_autocast_enabled(device):
        return torch.get_autocast_dtype(device)
    return hidden.dtype
