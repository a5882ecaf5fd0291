"""What the blocks, channels, heads and neurons of a model do on real rows.

Every row goes through by itself, so that no padding is measured. Legend: `S` positions, `d` width, `L` blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from understudy.models.forward import forward
from understudy.models.output import Output, VocabularyOutput
from understudy.models.stacks import Stack
from understudy.types import Tokens

Rows = Sequence[Tokens]
"""Batches of one row each."""


def logits_of(output: Output) -> Tensor:
    """`[N, C]` float32 logits of the targets over whatever they are chosen from; −∞ where there is no candidate."""
    if isinstance(output, VocabularyOutput):
        return output.states.head.logits(output.hidden).float()
    states: Any = output.states
    return states.logits.float().masked_fill(~states.mask, -torch.inf)


def mean_loss(model: nn.Module, rows: Rows) -> float:
    """Mean of −log q(target) over all target tokens, in nats."""
    total, tokens = 0.0, 0
    with torch.no_grad():
        for row in rows:
            output = forward(model, row)
            total += float(nn.functional.cross_entropy(logits_of(output), output.target_ids, reduction="sum"))
            tokens += len(output.target_ids)
    return total / tokens


def influence(model: nn.Module, stack: Stack, rows: Rows) -> list[float]:
    """Of each block, 1 − cos(h, h′) of the hidden states before and behind it, averaged over positions.

    Men et al., 2024 (arXiv 2403.03853) call it block influence.
    """
    return _mean_distances(model, stack, rows, 1)


def least_felt_run(model: nn.Module, stack: Stack, rows: Rows, length: int) -> int:
    """The first of `length` blocks one behind the other whose removal turns the hidden state least.

    The angle arccos(cos(h_l, h_{l+n})) / π of Gromov et al., 2024 (arXiv 2403.17887) orders as 1 − cos does.
    """
    distances = _mean_distances(model, stack, rows, length)
    return min(range(len(distances)), key=distances.__getitem__)


def least_felt_blocks(model: nn.Module, stack: Stack, rows: Rows, keep: int) -> list[int]:
    """What is left when, until `keep` blocks are left, the one goes without which the loss is lowest."""
    left = list(range(len(stack.blocks)))
    fixed = set(stack.irreplaceable)
    while len(left) > keep:
        losses = {}
        for candidate in (n for n in left if n not in fixed):
            gone = [n for n in range(len(stack.blocks)) if n not in left or n == candidate]
            with bypassed(stack, gone):
                losses[candidate] = mean_loss(model, rows)
        left.remove(min(losses, key=losses.__getitem__))
    return left


@contextmanager
def bypassed(stack: Stack, blocks: Sequence[int]) -> Iterator[None]:
    """The model as if some blocks were not there: each gives back what it was given."""

    def through(module: nn.Module, args: Any, kwargs: Any, output: Any) -> Any:
        state = _state(args, kwargs)
        return (state, *output[1:]) if isinstance(output, tuple) else state

    handles = [stack.blocks[n].register_forward_hook(through, with_kwargs=True) for n in blocks]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _mean_distances(model: nn.Module, stack: Stack, rows: Rows, apart: int) -> list[float]:
    """1 − cos of the hidden states that lie `apart` blocks from each other, averaged over all positions."""
    totals, positions = torch.zeros(len(stack.blocks) - apart + 1, dtype=torch.float64), 0
    for row in rows:
        states = [state.flatten(0, -2).double() for state in _states(model, stack, row)]
        for n in range(len(totals)):
            cosine = nn.functional.cosine_similarity(states[n], states[n + apart], dim=-1)
            totals[n] += (1 - cosine).sum().cpu()
        positions += len(states[0])
    return (totals / positions).tolist()


def _states(model: nn.Module, stack: Stack, row: Tokens) -> list[Tensor]:
    """The `L + 1` hidden states before, between and behind the blocks."""
    states: list[Tensor] = []

    def before(module: nn.Module, args: Any, kwargs: Any) -> None:
        states.append(_state(args, kwargs))

    def behind(module: nn.Module, args: Any, kwargs: Any, output: Any) -> None:
        states.append(output[0] if isinstance(output, tuple) else output)

    handles = [block.register_forward_pre_hook(before, with_kwargs=True) for block in stack.blocks]
    handles.append(stack.blocks[-1].register_forward_hook(behind, with_kwargs=True))
    try:
        with torch.no_grad():
            forward(model, row)
    finally:
        for handle in handles:
            handle.remove()
    return states


def _state(args: Any, kwargs: Any) -> Tensor:
    return args[0] if args else kwargs["hidden_states"]


def mean_activations(model: nn.Module, rows: Rows, inputs_of: Sequence[nn.Module]) -> list[Tensor]:
    """Of each module, `[d]` mean |x| of what it is given, over all positions of all rows."""
    totals: dict[int, Tensor] = {}

    def watch(key: int) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            seen = _state(args, kwargs).detach().abs().double().flatten(0, -2).sum(0)
            totals[key] = totals[key] + seen if key in totals else seen

        return hook

    handles = [m.register_forward_pre_hook(watch(n), with_kwargs=True) for n, m in enumerate(inputs_of)]
    try:
        with torch.no_grad():
            for row in rows:
                forward(model, row)
    finally:
        for handle in handles:
            handle.remove()
    return [totals[n] for n in range(len(inputs_of))]
