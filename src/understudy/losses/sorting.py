"""Distributions compared in sorted order, whatever their columns mean."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def sorted_gap(q: Tensor, p: Tensor, sign: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Σ_i |q_(i) − p_(i)| of `[R, V_s]` and `[R, V_t]` in descending order, the shorter filled up with 0.

    Args:
        q: non-negative.
        p: non-negative.
        sign: `[R, V_s]` to be overwritten with ∂value/∂q, the sign of the difference at each entry's rank; None
            where nobody wants it.

    Returns:
        The values `[R]`, and `sign`.
    """
    if not q.shape[1] or not p.shape[1]:
        return q.sum(-1) + p.sum(-1), None if sign is None else sign.fill_(1)
    if q.device.type == "cpu" and q.dtype == p.dtype and q.dtype in (torch.float32, torch.float64):
        return _on_cpu(q, p, sign)
    ordered, places = q.sort(-1, descending=True)
    gap = _filled(ordered, p.shape[1]) - _filled(p.sort(-1, descending=True).values, q.shape[1])
    if sign is not None:
        sign.scatter_(1, places, gap[:, : q.shape[1]].sign())
    return gap.abs().sum(-1), sign


def _filled(values: Tensor, width: int) -> Tensor:
    return torch.nn.functional.pad(values, (0, max(0, width - values.shape[1])))


def _on_cpu(q: Tensor, p: Tensor, sign: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """NumPy sorts plain values with vector instructions, many times faster than torch sorts values and places.

    The sign needs no places: it changes seldom along the ranks, so the values at which it changes tell it for every
    entry. Entries of equal value have equal signs.
    """
    value = q.new_empty(len(q))
    # NumPy's views of the same memory: what is written there stands in the tensors.
    q_view, p_view, value_view = (tensor.detach().numpy() for tensor in (q, p, value))
    sign_view = None if sign is None else sign.numpy()

    def work(rows: slice) -> None:
        _sorted_distances(q_view[rows], p_view[rows], value_view[rows], None if sign_view is None else sign_view[rows])

    _in_threads(work, len(q))
    return value, sign


def _sorted_distances(q: NDArray, p: NDArray, value: NDArray, sign: NDArray | None) -> None:
    q_sorted, p_sorted = np.sort(q, axis=-1, kind=None), np.sort(p, axis=-1, kind=None)
    common = min(q.shape[1], p.shape[1])
    q_surplus, p_surplus = q.shape[1] - common, p.shape[1] - common
    signs = np.empty_like(q_sorted)
    signs[:, :q_surplus] = q_sorted[:, :q_surplus] > 0
    gap = np.subtract(q_sorted[:, q_surplus:], p_sorted[:, p_surplus:], out=p_sorted[:, p_surplus:])
    np.sign(gap, out=signs[:, q_surplus:])
    value[:] = np.einsum("rv,rv->r", gap, signs[:, q_surplus:])
    value += q_sorted[:, :q_surplus].sum(-1)
    if p_surplus:
        value += p_sorted[:, :p_surplus].sum(-1)
    if sign is None:
        return
    for row in range(len(q)):
        changes = np.flatnonzero(signs[row, 1:] != signs[row, :-1]) + 1
        pieces = np.searchsorted(q_sorted[row, changes], q[row], side="right")
        np.take(signs[row, np.concatenate([[0], changes])], pieces, out=sign[row])


def _in_threads(work: Callable[[slice], None], rows: int) -> None:
    num = min(torch.get_num_threads(), rows)
    if num < 2:
        work(slice(None))
        return
    cuts = np.linspace(0, rows, num + 1).astype(int).tolist()
    list(_pool(num).map(work, [slice(*cut) for cut in itertools.pairwise(cuts)]))


@functools.cache
def _pool(num: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num)
